import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.errors import UserError
from offjax.leaderboard import board, statistics, store
from offjax.leaderboard.board import Column

U, M, L = (f"offjax/maze2d/{name}-v0" for name in ("umaze", "medium", "large"))


def ends(*values):
    """Two evaluations per seed, the last one as given."""
    return np.stack([np.array(values) - 7.0, np.array(values, float)], 1)


def build(root, **options):
    return board.build(store.read([root]), **options)


def cell(built, method, dataset=U, variant="default"):
    (group,) = [g for g in built.groups if dataset in g.datasets]
    return group.cells[dataset, Column(method, variant)]


def kinds(built):
    return sorted({note.kind for note in built.notes})


def test_mean_std_and_iqm_over_seeds(tmp_path):
    write_run(tmp_path, "bc", seeds=range(4), scores=ends(1, 2, 4, 9))
    found = cell(build(tmp_path), "bc")
    assert found.mean == pytest.approx(4.0)
    assert found.std == pytest.approx(np.sqrt((9 + 4 + 0 + 25) / 4))
    assert found.iqm.value == pytest.approx(3.0)
    assert found.iqm == pytest.approx(
        statistics.intervals([np.array([1.0, 2, 4, 9])])["iqm"]
    )


def test_checkpoints_are_kept_apart(tmp_path):
    scores = np.array([[50.0, *range(1, 11), 3.0]])
    write_run(tmp_path, seeds=[0], scores=scores)
    expected = {"last": 3.0, "best": 50.0, "ten": np.mean([*range(2, 11), 3])}
    for name, value in expected.items():
        found = cell(build(tmp_path, checkpoint=name), "bc")
        assert found.mean == pytest.approx(value)
        assert found.by_checkpoint["last"][0] == 3.0
        assert np.isnan(found.std)


def test_variants_are_never_pooled(tmp_path):
    write_run(tmp_path, "bc", seeds=(0, 1), scores=ends(1, 3),
              variants=("default", "preset=small,lr=0.0001"))  # fmt: skip
    built = build(tmp_path)
    assert [c.label for c in built.groups[0].columns] == [
        "bc", "bc (preset=small,lr=0.0001)",
    ]  # fmt: skip
    assert cell(built, "bc", variant="preset=small,lr=0.0001").seeds == 2


def test_runs_of_different_seeds_are_merged(tmp_path):
    other = tmp_path / "contributed"
    write_run(tmp_path / "runs", seeds=(0, 1), scores=ends(1, 2))
    write_run(other, seeds=(2, 3), scores=ends(3, 4), run_id="20250202-000000-aa")
    built = board.build(store.read([tmp_path / "runs", other]))
    assert cell(built, "bc").finite.tolist() == [1, 2, 3, 4] and built.notes == []


def duplicate(root, run_id, value, **info):
    write_run(root, seeds=(0, 1), scores=ends(value, value), run_id=run_id, info=info)


def test_of_two_runs_of_a_seed_the_newest_finished_one_counts(tmp_path):
    duplicate(tmp_path, "a", 1.0, start="2025-01-01T00:00:00+00:00")
    duplicate(tmp_path, "b", 2.0, start="2025-01-03T00:00:00+00:00")
    duplicate(tmp_path, "c", 3.0, start="2025-01-02T23:00:00")
    duplicate(tmp_path, "d", 4.0, start="2025-01-09T00:00:00", status="running")
    built = build(tmp_path)
    assert cell(built, "bc").finite.tolist() == [2.0, 2.0]
    notes = [n for n in built.notes if n.kind == "duplicate"]
    assert len(notes) == 3
    for note in notes:
        assert "[0, 1]" in note.text and "umaze-v0/b (" in note.text
    assert "unfinished" not in cell(built, "bc").marks


def test_the_same_run_in_two_folders_counts_once(tmp_path):
    for root in ("a", "b"):
        write_run(tmp_path / root, seeds=(0, 1), scores=ends(1, 2))
    built = board.build(store.read([tmp_path / "a", tmp_path / "b"]))
    (note,) = built.notes
    assert "the same run" in note.text and cell(built, "bc").seeds == 2


def test_best_is_marked_among_finished_runs(tmp_path):
    write_run(tmp_path, "bc", scores=ends(1, 2, 3))
    write_run(tmp_path, "cfpi", scores=ends(4, 5, 6))
    write_run(tmp_path, "asp", scores=ends(7, 8, 9), info={"status": "failed"})
    built = build(tmp_path)
    assert [cell(built, m).best for m in ("bc", "cfpi", "asp")] == [False, True, False]
    assert cell(built, "asp").marks == {"unfinished"}


def test_a_lone_method_is_not_called_best(tmp_path):
    write_run(tmp_path, "bc")
    assert not cell(build(tmp_path), "bc").best


def test_totals_need_every_dataset(tmp_path):
    for dataset, value in ((U, 10), (M, 20), (L, 30)):
        write_run(tmp_path, "bc", dataset, scores=ends(value, value + 1, value + 2))
    write_run(tmp_path, "cfpi", U, scores=ends(90, 90, 90))
    (group,) = build(tmp_path).groups
    assert group.totals[Column("bc")].total == pytest.approx(11 + 21 + 31)
    assert group.totals[Column("bc")].metrics["mean"].value == pytest.approx(21)
    assert group.totals[Column("cfpi")].metrics == {}
    assert group.totals[Column("cfpi")].datasets == 1
    assert not any(total.best for total in group.totals.values())


def test_best_total(tmp_path):
    for method, value in (("bc", 10), ("cfpi", 20)):
        for dataset in (U, M):
            write_run(tmp_path, method, dataset, scores=ends(value, value, value))
    (group,) = build(tmp_path).groups
    assert [group.totals[Column(m)].best for m in ("bc", "cfpi")] == [False, True]


def test_nan_scores_are_left_out_and_noted(tmp_path):
    write_run(tmp_path, seeds=range(3), scores=ends(1, np.nan, 3))
    built = build(tmp_path)
    assert cell(built, "bc").mean == 2.0 and cell(built, "bc").seeds == 2
    assert any("[1]" in n.text and n.kind == "missing" for n in built.notes)


def test_a_run_of_nan_only_is_shown_without_number(tmp_path):
    write_run(tmp_path, seeds=range(2), scores=ends(np.nan, np.inf))
    write_run(tmp_path, "cfpi", seeds=range(2), scores=ends(1, 2))
    built = build(tmp_path)
    assert np.isnan(cell(built, "bc").mean) and cell(built, "cfpi").mean == 1.5
    assert not cell(built, "cfpi").best


def test_without_reference_the_return_is_shown_and_not_totalled(tmp_path):
    folder = write_run(tmp_path, "bc", U, seeds=(0, 1), scores=ends(500, 700))
    path = folder / "scores.csv"
    lines = path.read_text().splitlines()
    cut = [lines[0], *(line.rsplit(",", 1)[0] + "," for line in lines[1:])]
    path.write_text("\n".join(cut) + "\n")
    write_run(tmp_path, "bc", M, seeds=(0, 1), scores=ends(10, 20))
    built = build(tmp_path)
    assert cell(built, "bc").unit == "return" and cell(built, "bc").mean == 600
    assert built.groups[0].totals[Column("bc")].total == pytest.approx(15)


def test_seeds_of_unlike_runs_are_cautioned(tmp_path):
    write_run(tmp_path, seeds=(0,), scores=ends(1), run_id="a")
    write_run(
        tmp_path, seeds=(1,), scores=np.ones((1, 9)), run_id="b",
        info={"dataset": {"identity": "beef"}, "score_source": "else"},
    )  # fmt: skip
    texts = " ".join(n.text for n in build(tmp_path).notes if n.kind == "caution")
    assert "beef" in texts and "different steps" in texts and "references" in texts


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("offjax/maze2d/umaze-v0", "offjax/maze2d"),
        ("offjax/hopper/medium-v0", "offjax/gym"),
        ("offjax/budget/t50-smooth-i3-k1.0-v0", "offjax/budget"),
        ("hopper-medium-v2", "d4rl/gym"),
        ("walker2d-medium-expert-v2", "d4rl/gym"),
        ("antmaze-large-play-v0", "d4rl/antmaze"),
        ("pen-human-v1", "d4rl/adroit"),
        ("mujoco/hopper/medium-v0", "mujoco/gym"),
        ("D4RL/antmaze/umaze-v1", "D4RL/antmaze"),
        ("mine/thing-v0", "mine/thing"),
        ("", "d4rl/"),
    ],
)
def test_domain(dataset, expected):
    assert board.domain(dataset) == expected


def test_datasets_are_in_the_order_of_their_numbers(tmp_path):
    for horizon in (100, 20, 5):
        write_run(tmp_path, "bc", f"offjax/budget/t{horizon}-v0")
    (group,) = build(tmp_path).groups
    assert [name.split("/")[-1] for name in group.datasets] == [
        "t5-v0", "t20-v0", "t100-v0",
    ]  # fmt: skip


def test_patterns_restrict_and_unknown_ones_are_refused(tmp_path):
    write_run(tmp_path, "bc", U)
    write_run(tmp_path, "cfpi", M)
    assert build(tmp_path, methods=["cf*"]).groups[0].datasets == [M]
    assert build(tmp_path, datasets=["*umaze*"]).groups[0].datasets == [U]
    with pytest.raises(UserError, match=r"--methods=x\* .*bc, cfpi"):
        build(tmp_path, methods=["x*"])


def test_notes_on_runs_that_a_filter_leaves_out_are_left_out(tmp_path):
    write_run(tmp_path, "bc", U, info={"status": "failed"})
    write_run(tmp_path, "asp", M, info={"status": "running"})
    write_run(tmp_path, "asp", M + "x", config={"schema": 9})
    built = board.build(store.read([tmp_path]), methods=["asp"])
    assert sorted(n.kind for n in built.notes) == ["schema", "unfinished"]
    assert all("/asp/" in n.where for n in built.notes)
