"""A run whose seeds are trained in waves is the run of all seeds, bit for bit."""

import jax
import numpy as np
import pytest

import offjax
from offjax import methods
from offjax.errors import UserError
from offjax.runner import sinks
from tests.runner.tiny_training import exploding, rows, states, train

FILES = ("metrics.csv", "scores.csv", "episodes.csv")
RECORDED = (
    "status", "variants", "stages", "diverged", "total_steps", "config_hash",
    "seed_layout", "dataset", "evaluation_environment",
)  # fmt: skip


def assert_same(waves, together):
    for file in FILES:
        assert (waves.path / file).read_text() == (together.path / file).read_text()
    for a, b in zip(states(waves), states(together), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    records = waves.folder.record, together.folder.record
    assert [records[0][name] for name in RECORDED] == [
        records[1][name] for name in RECORDED
    ]


def test_waves_change_nothing_that_is_written(budget_dataset, tmp_path, capsys):
    options = {"num_seeds": 3, "seed": 4, "eval_every": 5, "layout": "map"}
    options |= {"overrides": {"lr": (1e-3, 1e-2)}, "log_every": 3}
    together = train(budget_dataset, tmp_path / "a", **options)
    waves = train(
        budget_dataset, tmp_path / "b", seeds_at_once=2, quiet=False, **options
    )
    assert_same(waves, together)
    said = capsys.readouterr().out
    assert "10 updates (asp) of 3 seeds × 2 settings in waves of 2 seeds, in" in said
    assert "wave 1/2 asp: 10 updates × 2 seeds × 2 settings, compiling" in said
    assert "wave 2/2 asp: 10 updates × 2 settings, compiling" in said
    record = waves.folder.record
    assert record["seeds_at_once"] == 2
    assert record["compilations"] == {"asp/init": 2, "asp/chunk": 2, "evaluation": 2}
    assert not (waves.path / "waves").exists()
    loaded = offjax.load_run(waves.path, budget_dataset)
    for a, b in zip(states(loaded), states(together), strict=True):
        np.testing.assert_array_equal(a, b)


def test_waves_of_several_stages(budget_dataset, tmp_path):
    """Two seeds or more on each device: with one, tests' compiler rounds otherwise."""
    options = {"method": "cfpi", "num_seeds": 7, "layout": "map"}
    options["overrides"] = {"bc.actor_lr": (1e-3, 1e-2), "log_tau": (0.0, 1.0)}
    options["overrides"]["network"] = ("mlp",)
    together = train(budget_dataset, tmp_path / "a", **options)
    waves = train(budget_dataset, tmp_path / "b", seeds_at_once=4, **options)
    assert_same(waves, together)
    for name, mine in waves.states.items():
        jax.tree.map(np.testing.assert_array_equal, mine, together.states[name])


def test_a_seed_that_diverged_is_that_of_the_run(budget_dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(methods.METHODS, "bc", exploding(1))
    options = {"method": "bc", "num_seeds": 3, "log_every": 4, "seeds_at_once": 1}
    run = train(budget_dataset, tmp_path, **options)
    np.testing.assert_array_equal(run.states["bc"].step, [10, 4, 10])
    (found,) = run.folder.record["diverged"]
    assert (found["seed"], found["stage"], found["step"]) == (1, "bc", 8)
    assert run.training.stages[0].diverged == [(1, 8)]
    again = train(budget_dataset, tmp_path, **options | {"seeds_at_once": 0})
    assert again.folder.record["diverged"] == [found]  # from the store


class Rows:
    """A sink that remembers its rows."""

    package, found = "json", []

    def __init__(self, folder, config):
        self.found.clear()

    def write(self, rows):
        self.found.extend(rows)

    def close(self):
        pass


def test_rows_reach_the_sinks_once_and_in_order(budget_dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sinks.SINKS, "rows", Rows)
    options = {"eval_every": 5, "log_every": 5, "log": ("rows",), "layout": "map"}
    train(budget_dataset, tmp_path / "a", **options)
    together = sorted(Rows.found)
    train(budget_dataset, tmp_path / "b", seeds_at_once=1, **options)
    assert sorted(Rows.found) == together and len(together) > 8
    steps = [row[0] for row in Rows.found]
    assert steps == sorted(steps)


def test_as_many_seeds_as_there_are_is_one_wave(budget_dataset, tmp_path):
    run = train(budget_dataset, tmp_path, seeds_at_once=5, num_seeds=2)
    assert run.folder.record["seeds_at_once"] == 2
    assert (run.path / "checkpoints" / "10").exists()


def test_a_negative_number_is_refused(budget_dataset, tmp_path):
    with pytest.raises(UserError, match="seeds_at_once=-1 must not be negative"):
        train(budget_dataset, tmp_path, seeds_at_once=-1)


def test_scores_have_a_row_for_every_seed(budget_dataset, tmp_path):
    run = train(budget_dataset, tmp_path, seeds_at_once=2, num_seeds=5)
    assert [row["seed"] for row in rows(run, "scores.csv")] == list("01234")
