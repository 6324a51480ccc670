import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.errors import UserError
from offjax.leaderboard import board, store

U, M = "offjax/maze2d/umaze-v0", "offjax/maze2d/medium-v0"


def write(root, method, dataset, variants, sweep, scores, diverged=(), **info):
    """A finished run of a sweep."""
    write_run(
        root, method, dataset, run_id=f"20250101-000000-{sweep}",
        seeds=range(len(scores)), scores=np.array(scores, float)[:, None],
        variants=variants,
        info={
            "sweep": sweep,
            "diverged": [{"variant": variants[0], "seed": seed} for seed in diverged],
            **info,
        },
    )  # fmt: skip


def test_a_sweep_has_one_column_for_each_method(tmp_path):
    write(tmp_path, "bc", U, ("lr=0.1",), "tuned", [1, 2])
    write(tmp_path, "bc", M, ("lr=0.2",), "tuned", [3, 4])
    write(tmp_path, "bc", M, ("lr=0.3",), "other", [9, 9])
    built = board.build(store.read([tmp_path]), sweep="tuned")
    (group,) = built.groups
    (column,) = group.columns
    assert column.label == "bc (sweep=tuned)"
    assert group.cells[U, column].mean == 1.5
    assert group.cells[M, column].mean == 3.5
    assert group.totals[column].total == pytest.approx(5.0)


def test_diverged_seeds_stay_marked(tmp_path):
    write(tmp_path, "bc", U, ("lr=0.1",), "tuned", [1, 2], diverged=[1])
    (group,) = board.build(store.read([tmp_path]), sweep="tuned").groups
    assert "diverged" in group.cells[U, group.columns[0]].marks


def test_two_variants_on_a_dataset_are_refused(tmp_path):
    write(tmp_path, "bc", U, ("lr=0.1", "lr=0.2"), "tuned", [1, 2])
    refused = r"bc has 2 variants on offjax/maze2d/umaze-v0.*Leave --sweep out"
    with pytest.raises(UserError, match=refused):
        board.build(store.read([tmp_path]), sweep="tuned")


def test_runs_that_newer_ones_replace_are_named(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    write(old, "bc", U, ("lr=0.1",), "tuned", [1, 2], start="2025-01-01T00:00:00")
    write(new, "bc", U, ("lr=0.2",), "tuned", [3, 4], start="2025-01-02T00:00:00")
    with pytest.raises(UserError, match=r"move these out of --runs_dir: \S*/old/") as e:
        board.build(store.read([old, new]), sweep="tuned")
    assert str(new) not in str(e.value)
    (group,) = board.build(store.read([new]), sweep="tuned").groups
    assert group.cells[U, group.columns[0]].mean == 3.5


def test_an_unknown_sweep_names_those_there_are(tmp_path):
    write(tmp_path, "bc", U, ("lr=0.1",), "tuned", [1, 2])
    with pytest.raises(UserError, match=r"--sweep=tunes: no run.*there are: tuned"):
        board.build(store.read([tmp_path]), sweep="tunes")
