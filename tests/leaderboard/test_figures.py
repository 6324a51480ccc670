import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.leaderboard import board, figures, store
from offjax.leaderboard.board import Column

U, M = "offjax/maze2d/umaze-v0", "offjax/maze2d/medium-v0"


def group_of(root):
    built = board.build(store.read([root]))
    (group,) = built.groups
    return built, group, figures.make_styles(group.columns)


def test_learning_curve_is_the_mean_over_the_seeds_that_were_evaluated(tmp_path):
    write_run(tmp_path, seeds=(0, 1), scores=np.array([[1.0, 2, 3], [3.0, 4, 5]]))
    write_run(tmp_path, seeds=(2,), scores=np.array([[8.0]]), run_id="b")
    _, group, styles = group_of(tmp_path)
    column = Column("bc")
    curve = figures.learning_curve(group.cells[U, column], styles[column], 0)
    np.testing.assert_array_equal(curve.x, [1000, 2000, 3000])
    np.testing.assert_allclose(curve.y, [4, 3, 4])
    assert 1 <= curve.low[0] < 2.5 and 6 < curve.high[0] <= 8
    np.testing.assert_allclose([curve.low[2], curve.high[2]], [3, 5])


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (U, "umaze-v0"),
        ("offjax/hopper/medium-v0", "hopper/medium-v0"),
        ("mujoco/walker2d/expert-v0", "walker2d/expert-v0"),
        ("D4RL/pen/human-v2", "pen/human-v2"),
        ("hopper-medium-v2", "hopper-medium-v2"),
        ("d4rl/pen-human-v1", "pen-human-v1"),
        ("D4RL/pointmaze/umaze-v2", "umaze-v2"),
    ],
)
def test_a_name_says_what_its_group_does_not(dataset, name):
    assert figures.short_name(dataset) == name


def test_long_curves_are_thinned_to_their_ends(tmp_path):
    write_run(tmp_path, seeds=(0, 1), scores=np.arange(1000.0).reshape(2, 500))
    _, group, styles = group_of(tmp_path)
    column = Column("bc")
    curve = figures.learning_curve(group.cells[U, column], styles[column], 0)
    assert len(curve.x) == figures.CURVE_POINTS
    assert curve.x[0] == 1000 and curve.x[-1] == 500_000


def test_comparison_is_antisymmetric_and_best_first(tmp_path):
    for method, value in (("bc", 10.0), ("cfpi", 30.0), ("asp", 20.0)):
        for dataset in (U, M):
            scores = value + np.arange(4.0)[:, None]
            write_run(tmp_path, method, dataset, seeds=range(4), scores=scores)
    write_run(tmp_path, "lcd", U)  # lacks a dataset, so it is not compared
    built, group, styles = group_of(tmp_path)
    found = figures.comparison(group, styles, built)
    assert [style.label for style in found.styles] == ["cfpi", "asp", "bc"]
    values = [[p and p.value for p in row] for row in found.values]
    assert values == [[None, 1, 1], [0, None, 1], [0, 0, None]]


def test_tuning_budget_needs_variants(tmp_path):
    write_run(tmp_path, "bc", seeds=(0,), scores=np.array([[5.0]]))
    _, group, styles = group_of(tmp_path)
    assert figures.tuning_figures(group, styles) == []
    write_run(
        tmp_path, "bc", seeds=(0,), scores=np.array([[9.0]]), run_id="b",
        variants=("lr=0.1",),
    )  # fmt: skip
    _, group, styles = group_of(tmp_path)
    (figure,) = figures.tuning_figures(group, styles)
    assert figure.dataset == U


def test_time_is_shared_among_seeds(tmp_path):
    write_run(tmp_path, seeds=(0, 1), info={"duration_seconds": 60.0})
    write_run(tmp_path, "cfpi", info={"duration_seconds": "long"})
    _, group, styles = group_of(tmp_path)
    assert figures.seconds_per_seed(group.cells[U, Column("bc")]) == pytest.approx(30)
    assert np.isnan(figures.seconds_per_seed(group.cells[U, Column("cfpi")]))
    assert figures.time_figure(group, styles).svg.count("<circle") == 1
