"""Runs on several datasets that are trained together are those that train alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import offjax
from offjax import methods
from offjax.behavior import budget as behavior
from offjax.datasets import joined, views
from offjax.envs import budget
from offjax.errors import UserError
from offjax.methods import bc
from offjax.runner import interrupts, memory
from offjax.runner import run as api
from tests.budget_data import dataset_of
from tests.runner.tiny_training import TINY, rows, states

SEQUENCE = {"num_steps": (10,), "batch_size": (8,), "width": (8,), "num_heads": (1,)}
FILES = ("metrics.csv", "scores.csv", "episodes.csv")
# Two seeds or more on each device: with one, the compiler of tests rounds otherwise.
SETTINGS = {
    "num_seeds": 3, "layout": "map", "quiet": True, "eval_every": 5,
    "eval_episodes": 2, "log_every": 5, "checkpoint_every": 10,
}  # fmt: skip


def budget_data(name, horizon, episodes, kind="smooth"):
    data = behavior.generate(horizon, kind, num_episodes=episodes, seed=episodes)
    return dataset_of(data, budget.spec(horizon=horizon), f"test/{name}-v0")


@pytest.fixture(scope="module")
def datasets():
    """Two of one environment with unequal numbers of rows, and one of another."""
    return [
        budget_data("long", 10, 50),
        budget_data("short", 10, 30),
        budget_data("other", 15, 30),
    ]


def together(datasets, folder, method="bc", overrides=None, **options):
    request = api.Request(method, "demo", overrides or TINY)
    options = SETTINGS | options
    return offjax.train_together(request, datasets, runs_dir=str(folder), **options)


def alone(dataset, folder, method="bc", overrides=None, **options):
    request = api.Request(method, "demo", overrides or TINY)
    options = SETTINGS | options
    return offjax.train(request, dataset, runs_dir=str(folder), **options)


def assert_same(a, b):
    assert a.training.hash == b.training.hash
    for file in FILES:
        assert (a.path / file).read_text() == (b.path / file).read_text()
    for stage, mine in a.states.items():
        jax.tree.map(np.testing.assert_array_equal, mine, b.states[stage])
    for name in ("status", "stages", "diverged", "total_steps", "dataset"):
        assert a.folder.record[name] == b.folder.record[name]


@pytest.mark.parametrize(
    "method, overrides",
    [
        ("td3_bc", TINY),
        ("cfpi", TINY | {"log_tau": (0.0, 1.0)}),
        ("asp", TINY),
        ("reinformer", SEQUENCE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_run_is_what_it_is_alone(datasets, tmp_path, method, overrides):
    runs = together(datasets[:2], tmp_path / "a", method, overrides)
    assert_same(runs[1], alone(datasets[1], tmp_path / "b", method, overrides))


def test_datasets_of_one_shape_are_one_program(datasets, tmp_path, capsys):
    runs = together(datasets, tmp_path, quiet=False)
    compiled = [run.folder.record["compilations"] for run in runs]
    assert compiled[0] == {"bc/init": 1, "bc/chunk": 1, "evaluation": 1}
    assert compiled[1] == {"evaluation": 0}
    assert compiled[2] == {"evaluation": 1}  # another horizon: episodes of its own
    said = capsys.readouterr().out
    assert "bc: 10 updates × 3 datasets × 3 seeds, compiling" in said
    assert "evaluated at 5: score" in said and " on test/short-v0" in said
    others = [run.folder.record["trained_with"] for run in runs]
    assert others[1] == ["test/long-v0", "test/other-v0"]
    rates = [run.folder.record["seed_steps_per_second"] for run in runs]
    np.testing.assert_allclose(rates, rates[0], rtol=1e-2)
    loaded = offjax.load_run(runs[1].path, datasets[1])
    jax.tree.map(np.testing.assert_array_equal, loaded.states, runs[1].states)


def test_vmapped_slots_read_their_own_rows(datasets, tmp_path):
    """Rounding depends on the number of slots there, so that bits may differ."""
    (_, run) = together(datasets[:2], tmp_path / "a", "td3_bc", layout="vmap")
    single = alone(datasets[1], tmp_path / "b", "td3_bc", layout="vmap")
    for a, b in zip(states(run), states(single), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_a_view_by_rows_may_not_read_them_all(datasets):
    data = [views.TransitionView().arrays(each, None, {}) for each in datasets]
    store = joined.join(data)
    mine = jax.tree.map(lambda x: x[1], store.parts)
    part = joined.part(data[0], store.rows, mine)
    rewards = data[1].rows.rewards
    np.testing.assert_array_equal(part.rows.rewards[np.arange(5)], rewards[:5])
    assert part.rows.rewards.shape == rewards.shape
    with pytest.raises(TypeError, match="Rows"):
        jnp.mean(part.rows.rewards)


def test_a_critic_that_acting_does_not_read_keeps_no_evaluations_apart(
    datasets, tmp_path
):
    runs = together(datasets[:2], tmp_path, "td3_bc")
    found = [run.folder.record["compilations"]["evaluation"] for run in runs]
    assert found == [1, 0]


def test_real_numbers_of_a_recipe_may_differ_between_datasets(
    datasets, tmp_path, monkeypatch
):
    def recipe(spec, preset):
        return bc.recipe(spec, preset).with_config("bc", actor_lr=1e-3 * spec.horizon)

    monkeypatch.setitem(methods.METHODS, "bc", recipe)
    runs = together(datasets, tmp_path / "a")
    assert runs[0].folder.record["compilations"]["bc/chunk"] == 1
    assert_same(runs[2], alone(datasets[2], tmp_path / "b"))


def test_data_of_another_shape_are_trained_on_one_after_another(tmp_path, capsys):
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    small = budget_data("small", 10, 30)
    arrays = {name: getattr(small, name) for name in names}
    arrays["observations"] = arrays["observations"][:, :-1]
    wide = offjax.Dataset.from_arrays(**arrays, id="test/wide-v0")
    runs = together([small, wide], tmp_path / "a", quiet=False)
    assert "datasets" not in capsys.readouterr().out
    assert_same(runs[0], alone(small, tmp_path / "b"))
    assert_same(runs[1], alone(wide, tmp_path / "b"))
    assert [len(rows(run, "scores.csv")) for run in runs] == [6, 0]


def test_a_stage_from_the_store_is_not_trained_again(datasets, tmp_path, capsys):
    first, second, third = datasets
    known = alone(second, tmp_path / "a")
    runs = together([first, second, third], tmp_path / "a", quiet=False)
    said = capsys.readouterr().out
    assert "bc: trained before" in said and "× 2 datasets ×" in said
    jax.tree.map(np.testing.assert_array_equal, runs[1].states, known.states)
    assert_same(runs[2], alone(third, tmp_path / "b"))


def test_interrupted_runs_go_on_together(datasets, tmp_path, monkeypatch):
    options = {"method": "td3_bc", "checkpoint_every": 5}
    answers = iter([False, True])
    monkeypatch.setattr(interrupts, "requested", lambda: next(answers, True))
    with pytest.raises(interrupts.Interrupted):
        together(datasets, tmp_path / "a", **options)
    monkeypatch.undo()
    runs = together(datasets, tmp_path / "a", resume=True, **options)
    for dataset, run in zip(datasets, runs, strict=True):
        assert_same(run, alone(dataset, tmp_path / "b", **options))


def test_runs_that_are_not_equally_far_are_trained_apart(
    datasets, tmp_path, monkeypatch
):
    monkeypatch.setattr(interrupts, "requested", lambda: True)
    with pytest.raises(interrupts.Interrupted):
        alone(datasets[0], tmp_path / "a", "td3_bc")
    monkeypatch.undo()
    options = {"method": "td3_bc", "resume": True, "sweep": "any"}
    runs = together(datasets, tmp_path / "a", **options)
    for dataset, run in zip(datasets, runs, strict=True):
        assert_same(run, alone(dataset, tmp_path / "b", "td3_bc"))


def test_datasets_that_do_not_fit_together_are_trained_apart(
    datasets, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(memory, "host_bytes", lambda: 100_000)  # of 180,000 for all
    runs = together(datasets, tmp_path / "a", quiet=False)
    said = capsys.readouterr().out
    assert "3 datasets do not fit the memory together" in said
    monkeypatch.undo()
    assert_same(runs[0], alone(datasets[0], tmp_path / "b"))


def test_waves_are_of_one_dataset(datasets, tmp_path):
    runs = together(datasets[:2], tmp_path / "a", seeds_at_once=1)
    for dataset, run in zip(datasets, runs, strict=False):
        assert_same(run, alone(dataset, tmp_path / "b"))


def test_a_dataset_is_given_once(datasets, tmp_path):
    with pytest.raises(UserError, match="test/long-v0 is given twice"):
        together([datasets[0], datasets[0]], tmp_path)
    with pytest.raises(UserError, match="datasets is empty"):
        together([], tmp_path)
