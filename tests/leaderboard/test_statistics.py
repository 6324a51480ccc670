import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from offjax.leaderboard import statistics

REFERENCE = json.loads((Path(__file__).parent / "rliable_reference.json").read_text())
X = [np.array(s) for s in REFERENCE["x"]]
Y = [np.array(s) for s in REFERENCE["y"]]


@pytest.mark.parametrize("name", ["x", "y"])
def test_metrics_equal_rliables(name):
    scores = [np.array(s) for s in REFERENCE[name]]
    found = statistics.aggregate(scores)
    for metric, value in REFERENCE[f"{name}_metrics"].items():
        assert found[metric] == pytest.approx(value, abs=1e-10), metric


def test_metrics_by_hand():
    # Two tasks, four seeds; pooled 0 10 20 30 40 50 60 150, middle half 20…50.
    scores = [np.array([0.0, 10, 20, 30]), np.array([40.0, 50, 60, 150])]
    found = statistics.aggregate(scores)
    assert found["mean"] == pytest.approx(45.0)
    assert found["median"] == pytest.approx((15 + 75) / 2)
    assert found["iqm"] == pytest.approx(35.0)
    # 150 counts as 100: (0+10+20+30+40+50+60+100)/8 = 38.75.
    assert found["optimality_gap"] == pytest.approx(61.25)


def test_unequal_seeds_weigh_each_task_the_same():
    # Repeating every seed of a task changes neither mean nor IQM.
    short = [np.array([0.0, 10, 20, 30]), np.array([40.0, 50])]
    long = [np.array([0.0, 10, 20, 30]), np.array([40.0, 40, 50, 50])]
    a, b = statistics.aggregate(short), statistics.aggregate(long)
    assert a["iqm"] == pytest.approx(b["iqm"]) == pytest.approx(32.5)
    assert a["mean"] == pytest.approx(b["mean"]) == pytest.approx(30.0)


def test_intervals_agree_with_rliables():
    # Both are random: bounds agree to a small part of the interval's width.
    found = statistics.intervals(X, replicates=50_000)
    for metric, (low, high) in REFERENCE["x_intervals"].items():
        estimate = found[metric]
        assert estimate.low == pytest.approx(low, abs=0.03 * (high - low)), metric
        assert estimate.high == pytest.approx(high, abs=0.03 * (high - low)), metric


def test_bootstrap_equals_a_plain_loop():
    """Every metric of given replicates, computed by resampling and sorting."""
    rng = np.random.default_rng(1)
    for sizes in [(5, 5, 5), (6, 4, 5)]:
        scores = [np.sort(rng.normal(50, 20, n)) for n in sizes]
        counts = statistics.draw_counts(sizes, 40, seed=3)
        found = statistics._metrics(counts, scores)
        edges = np.cumsum([0, *sizes])
        for b in range(40):
            drawn = [
                np.repeat(s, counts[b, edges[t] : edges[t + 1]].astype(int))
                for t, s in enumerate(scores)
            ]
            assert [len(d) for d in drawn] == list(sizes)
            means = [d.mean() for d in drawn]
            assert found["mean"][b] == pytest.approx(np.mean(means), rel=1e-5)
            assert found["median"][b] == pytest.approx(np.median(means), rel=1e-5)
            assert found["iqm"][b] == pytest.approx(plain_iqm(drawn), rel=1e-5)


def plain_iqm(scores):
    """Trimmed mean, every task repeated to the same number of seeds."""
    sizes = {len(s) for s in scores}
    if len(sizes) > 1:
        scores = [np.repeat(s, 60 // len(s)) for s in scores]
    pooled = np.sort(np.concatenate(scores))
    trim = len(pooled) // 4
    return pooled[trim : len(pooled) - trim].mean()


def test_same_seed_same_interval_whatever_else_is_computed():
    first = statistics.intervals(X, seed=5)
    statistics.intervals(Y, seed=5)
    statistics.draw_counts.cache_clear()
    assert statistics.intervals(X, seed=5) == first
    assert statistics.intervals([s[::-1] for s in X], seed=5) == first
    assert statistics.intervals(X, seed=6)["iqm"] != first["iqm"]


def test_cell_intervals_equal_those_of_one_task():
    cells = [X[0], Y[0], X[1][:1]]
    found = statistics.cell_intervals(cells, 500, seed=2)
    for cell, estimate in zip(cells[:2], found, strict=False):
        assert estimate == pytest.approx(statistics.intervals([cell], 500, 2)["iqm"])
    assert found[2].value == X[1][0] and np.isnan(found[2].low)


def test_single_seed_has_no_interval():
    found = statistics.intervals([np.array([3.0]), np.array([5.0])])
    assert found["mean"].value == 4.0 and np.isnan(found["mean"].low)


def test_interval_covers_the_mean():
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(100):
        scores = [rng.normal(50, 10, 20) for _ in range(3)]
        low, high = statistics.intervals(scores, 300, seed=i)["mean"][1:]
        covered += low <= 50 <= high
    assert 86 <= covered <= 99


def test_probability_of_improvement():
    found = statistics.probability_of_improvement(X, Y, replicates=20_000)
    assert found.value == pytest.approx(REFERENCE["probability_of_improvement"])
    assert found[1:] == pytest.approx(REFERENCE["poi_interval"], abs=0.01)
    # By hand: 3 beats 1 and 2, ties with 3; 1 ties with 1.
    by_hand = statistics.probability_of_improvement(
        [np.array([1.0, 3.0])], [np.array([1.0, 2.0, 3.0])]
    )
    assert by_hand.value == pytest.approx((0.5 + 2.5) / 6)
    # The two sides are drawn independently, also of a method against itself.
    itself = statistics.probability_of_improvement(X, X, replicates=500)
    assert (
        itself.low < 0.45 and itself.value == pytest.approx(0.5) and itself.high > 0.55
    )


def test_improvement_matrix_is_that_of_every_pair():
    rng = np.random.default_rng(2)
    methods = [
        [rng.integers(0, 6, n).astype(float) for n in sizes]
        for sizes in [(4, 5, 3), (2, 2, 6), (5, 1, 4)]
    ]
    found = statistics.improvement_matrix(methods, 200)
    assert len(found) == 6
    for (i, j), estimate in found.items():
        expected = np.mean(
            [
                np.mean([(a > b) + (a == b) / 2 for a in x for b in y])
                for x, y in zip(methods[i], methods[j], strict=True)
            ]
        )
        assert estimate.value == pytest.approx(expected)
        assert estimate.low < estimate.value < estimate.high
        pair = statistics.probability_of_improvement(methods[i], methods[j], 200)
        assert pair.value == pytest.approx(expected)
        if i < j:
            assert estimate == pytest.approx(pair, abs=1e-5)


def test_performance_profile():
    thresholds = np.array(REFERENCE["thresholds"])
    found = statistics.performance_profile(X, thresholds, replicates=20_000)
    np.testing.assert_allclose(found.fraction, REFERENCE["profile"])
    on_a_score = statistics.performance_profile([np.array([1.0, 2, 3])], [2.0])
    assert on_a_score.fraction[0] == pytest.approx(1 / 3)
    low, high = REFERENCE["profile_interval"]
    np.testing.assert_allclose(found.low, low, atol=0.0112)
    np.testing.assert_allclose(found.high, high, atol=0.0112)


def test_expected_online_performance_is_the_mean_over_all_subsets():
    values = np.array([3.0, 10.0, 1.0, 2.0, 7.0])
    expected = [
        np.mean([max(subset) for subset in combinations(values, k)])
        for k in range(1, 6)
    ]
    found = statistics.expected_online_performance(values)
    np.testing.assert_allclose(found, expected)


def test_misshapen_scores_are_refused():
    with pytest.raises(ValueError, match="per task"):
        statistics.aggregate(np.zeros((3, 4, 2)))
    with pytest.raises(ValueError, match="per task"):
        statistics.aggregate([np.array([])])
    with pytest.raises(ValueError, match=r"\[1, 2\] tasks"):
        statistics.probability_of_improvement(X[:2], Y[:1])
