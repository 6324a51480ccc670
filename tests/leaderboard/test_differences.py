import numpy as np
import pytest
from scipy import stats

from benchmarks.leaderboard import write_run
from offjax.leaderboard import board, store
from offjax.leaderboard.board import Column
from offjax.leaderboard.differences import Differences, average, paired, unpaired

U, M = "offjax/maze2d/umaze-v0", "offjax/maze2d/medium-v0"
A, B = Column("bc"), Column("cfpi")


def difference(root, dataset=U):
    return Differences(board.build(store.read([root]))).on(dataset, A, B)


def write(root, method, values, seeds=None, dataset=U, **options):
    seeds = range(len(values)) if seeds is None else seeds
    scores = np.array(values, float)[:, None]
    write_run(root, method, dataset, seeds=seeds, scores=scores, **options)


def coverage(draw, truth, times=1000):
    """Share of intervals that hold the true difference."""
    rng = np.random.default_rng(0)
    found = [draw(rng).estimate for _ in range(times)]
    return np.mean([low <= truth <= high for _, low, high in found])


def pairs_of(rng, n):
    """Seeds that share their episodes' luck, [n] differences around 5."""
    luck = rng.normal(0, 20, n)
    return (5 + luck + rng.normal(0, 8, n)) - (luck + rng.normal(0, 3, n))


def successes(rng, n):
    """Differences of success rates over 20 episodes, which lie far apart, around 30."""
    rates = rng.choice([0.2, 0.9], n), rng.choice([0.1, 0.4], n)
    first, second = (rng.binomial(20, rate) / 20 * 100 for rate in rates)
    return first - second


def several(rng):
    """Six datasets of unlike spread and numbers of seeds, around 2 on average."""
    scales = (1, 1, 5, 10, 20, 40)
    found = [paired(rng.normal(2, s, 5), 0.5) for s in scales]
    found[4] = paired(rng.normal(2, 20, 3), 0.5)
    found[5] = unpaired(rng.normal(2, 40, 5), rng.normal(0, 10, 8))
    return average(found)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda rng: paired(pairs_of(rng, 3), 0.5), 5),
        (lambda rng: paired(pairs_of(rng, 5), 0.5), 5),
        (lambda rng: paired(pairs_of(rng, 10), 0.5), 5),
        (lambda rng: paired(successes(rng, 5), 0.5), 30),
        (lambda rng: unpaired(rng.normal(9, 20, 5), rng.normal(4, 2, 5)), 5),
        (lambda rng: unpaired(rng.normal(9, 5, 3), rng.normal(4, 5, 8)), 5),
        (several, 2),
    ],
)
def test_intervals_cover_the_true_difference(draw, truth):
    assert 0.9 <= coverage(draw, truth) <= 0.99


def test_paired_and_unpaired_are_students_and_welchs():
    x, y = np.array([3.0, 8, 1, 9, 4]), np.array([1.0, 9, 0, 2])
    found = paired(x[:4] - y, 0.5).estimate
    expected = stats.ttest_rel(x[:4], y).confidence_interval()
    assert found == pytest.approx((2.25, *expected))
    found = unpaired(x, y).estimate
    expected = stats.ttest_ind(x, y, equal_var=False).confidence_interval()
    assert found == pytest.approx((2.0, *expected))


def test_a_mean_over_equal_datasets_is_that_of_their_parts():
    one = paired(np.array([1.0, 2.0, 6.0]), 0.5)
    both = average([one, one])
    assert both.value == 3
    # Half the variance, twice the degrees of freedom.
    spread = np.std([1, 2, 6], ddof=1) / np.sqrt(6)
    assert both.half == pytest.approx(stats.t.ppf(0.975, 4) * spread)


@pytest.mark.parametrize("scale", [0.5, 2.0, 5.0])
def test_as_many_seeds_as_needed_exclude_zero_and_one_fewer_does_not(scale):
    values = np.array([-1.0, 0, 1])  # of standard deviation 1
    needed = int(paired(1 + scale * values, 0.5).seeds_needed)
    for n, decided in ((needed, True), (needed - 1, False)):
        if n >= 2:
            half = stats.t.ppf(0.975, n - 1) * scale / np.sqrt(n)
            assert (half < 1) == decided
    # A lone dataset of unpaired seeds: both sides have so many.
    needed = int(unpaired(3 + values, values).seeds_needed)
    half = stats.t.ppf(0.975, 2 * needed - 2) * np.sqrt(2 / needed)
    assert half < 3 <= stats.t.ppf(0.975, 2 * needed - 4) * np.sqrt(2 / (needed - 1))


def test_what_no_number_of_seeds_decides():
    assert paired(np.array([1.0, -1.0]), 0.5).seeds_needed == np.inf
    assert paired(np.array([0.01, 1.0, -1.0]), 0.5).seeds_needed == np.inf
    assert np.isnan(paired(np.array([1.0]), 1.0).seeds_needed)
    constant = paired(np.array([3.0, 3.0]), 1.0)
    assert constant.seeds_needed == 2 and constant.better


def test_seeds_of_one_set_of_episodes_are_paired(tmp_path):
    write(tmp_path, "bc", [10, 50, 90])
    write(tmp_path, "cfpi", [7, 47, 86])
    found = difference(tmp_path)
    assert found.paired and found.seeds == (3, 3)
    assert found.estimate == pytest.approx(paired(np.array([3.0, 3, 4]), 0.5).estimate)
    assert found.better and found.improvement == pytest.approx(6 / 9)


def test_seeds_pair_by_their_number(tmp_path):
    write(tmp_path, "bc", [10, 50, 90], seeds=(4, 5, 6))
    write(tmp_path, "cfpi", [85, 48, 7, 0], seeds=(6, 5, 4, 9))
    found = difference(tmp_path)
    assert found.paired and found.seeds == (3, 3)
    assert found.value == pytest.approx(np.mean([3, 2, 5]))


@pytest.mark.parametrize(
    ("seeds", "config"), [((0, 1, 7), {}), ((0, 1, 2), {"eval_seed": 3})]
)
def test_other_seeds_or_episodes_are_not_paired(tmp_path, seeds, config):
    write(tmp_path, "bc", [10, 50, 90])
    write(tmp_path, "cfpi", [7, 48, 85], seeds=seeds, config=config)
    found = difference(tmp_path)
    assert not found.paired
    expected = unpaired(np.array([10.0, 50, 90]), np.array([7.0, 48, 85]))
    assert found.estimate == expected.estimate and not found.better


def test_a_single_seed_decides_nothing(tmp_path):
    write(tmp_path, "bc", [90])
    write(tmp_path, "cfpi", [10])
    found = difference(tmp_path)
    assert found.value == 80 and np.isnan(found.estimate.low) and not found.better


def test_the_other_way_round_is_the_negative(tmp_path):
    for dataset in (U, M):
        write(tmp_path, "bc", [10, 50, 90], dataset=dataset)
        write(tmp_path, "cfpi", [7, 48, 99], dataset=dataset)
    made = Differences(board.build(store.read([tmp_path])))
    one, other = made.over([U, M], A, B), made.over([U, M], B, A)
    assert one.value == -other.value and one.half == pytest.approx(other.half)
    assert one.improvement + other.improvement == pytest.approx(1)
    assert one.seeds_needed == other.seeds_needed


def test_nothing_is_compared_with_what_is_not_there(tmp_path):
    write(tmp_path, "bc", [1, 2])
    write(tmp_path, "cfpi", [np.nan, np.nan])
    write(tmp_path, "bc", [1, 2], dataset=M)
    assert difference(tmp_path) is None and difference(tmp_path, M) is None
    made = Differences(board.build(store.read([tmp_path])))
    assert made.over([U, M], A, B) is None and made.over([], A, B) is None
