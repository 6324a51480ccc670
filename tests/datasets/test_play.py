"""Windows of play against the rows that they were drawn from."""

import jax
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, annotate
from offjax.datasets.play import annotated, anywhere, play_arrays


@pytest.fixture(scope="module")
def play():
    """Episodes of 7, 3 and 12 rows with three spans; observations are the rows."""
    lengths = (7, 3, 12)
    rows = sum(lengths)
    timeouts = np.zeros(rows, bool)
    timeouts[np.cumsum(lengths) - 1] = True
    recording = Dataset.from_arrays(
        np.arange(rows, dtype=np.float32)[:, None] * [1, 0],
        np.zeros((rows, 1)),
        np.zeros(rows),
        np.zeros(rows, bool),
        timeouts,
    )
    spans = Annotations(
        np.array([0, 5, 10]),
        np.array([4, 7, 20]),
        np.array([1, 0, 1]),
        np.array([0, 2, 1]),
        ("close", "open"),
        ("open it", "open up", "shut it"),
    )
    return play_arrays(annotate(recording, spans), np.eye(3, dtype=np.float32))


def test_statistics_have_a_floor(play):
    np.testing.assert_allclose(play.statistics.observation_mean, [10.5, 0])
    expected = np.sqrt((22**2 - 1) / 12)  # of 22 consecutive integers
    np.testing.assert_allclose(play.statistics.observation_std, [expected, 0.01], 1e-6)


@pytest.mark.parametrize("length", [3, 5])
def test_windows_stay_in_their_episode(play, length):
    drawn = anywhere(play, jax.random.key(0), 500, length)
    rows, mask = np.asarray(drawn.rows), np.asarray(drawn.mask)
    episode = np.repeat([0, 1, 2], [7, 3, 12])[rows]
    assert (episode == episode[:, :1]).all()
    size = np.array([7, 3, 12])[episode[:, 0]]
    np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(length, size))
    for row, valid in zip(rows, mask, strict=True):
        assert (np.diff(row[valid]) == 1).all()
        assert (row[~valid] == row[valid][-1]).all()
    starts = set(range(7 - length + 1)) | {7} | set(range(10, 22 - length + 1))
    starts |= set(range(7, 10 - length + 1))
    assert set(rows[:, 0]) == starts


def test_any_row_of_any_span_begins_a_window(play):
    drawn, span = annotated(play, jax.random.key(0), 16_000, 3)
    rows, mask, span = (np.asarray(x) for x in (*drawn, span))
    starts, ends = np.array([0, 5, 10]), np.array([4, 7, 20])
    first = rows[:, 0]
    assert ((starts[span] <= first) & (first < ends[span])).all()
    wanted = first[:, None] + np.arange(3)
    np.testing.assert_array_equal(mask, wanted < ends[span][:, None])
    np.testing.assert_array_equal(rows, np.minimum(wanted, ends[span][:, None] - 1))
    counts = np.bincount(first, minlength=22) / 16_000
    inside = [0, 1, 2, 3, 5, 6, *range(10, 20)]
    np.testing.assert_allclose(counts[inside], 1 / 16, atol=0.01)
    assert counts.sum() == pytest.approx(counts[inside].sum())
