"""Segments against the episodes they were cut from."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from offjax.datasets import trajectories
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError

LENGTHS = (3, 10, 1, 6)


def dataset(trailing=0):
    rows = sum(LENGTHS) + trailing
    ends = np.cumsum(LENGTHS) - 1
    terminals, timeouts = np.zeros(rows, bool), np.zeros(rows, bool)
    terminals[ends[::2]] = True
    timeouts[ends[1::2]] = True
    return Dataset.from_arrays(
        observations=np.arange(rows, dtype=np.float32)[:, None],
        actions=np.arange(rows, dtype=np.float32)[:, None] / 100,
        rewards=np.random.default_rng(0).normal(size=rows),
        terminals=terminals,
        timeouts=timeouts,
    )


def settings(**changes):
    """What the view reads of a method's config."""
    usual = {
        "batch_size": 256,
        "context_length": 4,
        "max_timesteps": 10,
        "return_scale": 0.0,
        "reward_scale": 1.0,
        "reward_shift": 0.0,
        "episode_length": 0,
        "rare_timesteps": 0.0,
        "weighting": "length",
        "discount": 0.5,
    }
    return types.SimpleNamespace(**usual | changes)


def arrays(data, **changes):
    return trajectories.SegmentView().arrays(data, settings(**changes), {})


def sample(data, key, **changes):
    return trajectories.SegmentView().sample(data, key, settings(**changes))


def test_returns_and_times_by_hand():
    data = dataset(trailing=2)
    found = arrays(data)
    assert len(found.observations) == sum(LENGTHS)  # the incomplete piece is gone
    row = 0
    for length in LENGTHS:
        for t in range(length):
            expected = data.rewards[row + t : row + length].sum()
            np.testing.assert_allclose(found.returns[row + t], expected, atol=1e-5)
            assert found.timesteps[row + t] == t
            assert found.remaining[row + t] == length - t
        row += length
    assert found.return_scale == np.float32(np.abs(found.returns).max())
    assert arrays(data, return_scale=7.0).return_scale == 7.0


def test_reward_transform():
    data = dataset()
    plain = arrays(data)
    moved = arrays(data, reward_scale=100.0, reward_shift=1.0)
    expected = 100 * np.asarray(plain.returns) + plain.remaining
    np.testing.assert_allclose(moved.returns, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("weighting", trajectories.WEIGHTINGS)
def test_windows_stay_in_their_episode(weighting):
    data = arrays(dataset())
    batch = sample(data, jax.random.key(0), weighting=weighting)
    ends = np.cumsum(LENGTHS)
    for i in range(256):
        first = int(batch.observations[i, 0, 0])
        end = ends[np.searchsorted(ends, first, side="right")]
        valid = np.arange(first, min(first + 4, end))
        assert batch.mask[i].sum() == len(valid)
        assert np.all(batch.mask[i, : len(valid)] == 1)
        got = np.asarray(batch.observations[i, : len(valid), 0])
        np.testing.assert_array_equal(got, valid)
        np.testing.assert_array_equal(
            batch.returns[i, : len(valid)], np.asarray(data.returns)[valid]
        )


def test_weightings():
    data = arrays(dataset())
    episode = np.repeat(np.arange(4), LENGTHS)

    def shares(weighting):
        batch = sample(data, jax.random.key(1), batch_size=20_000, weighting=weighting)
        firsts = np.asarray(batch.observations[:, 0, 0], int)
        counts = np.bincount(episode[firsts], minlength=4) / 20_000
        return counts, firsts, np.asarray(batch.mask)

    counts, firsts, _ = shares("length")
    np.testing.assert_allclose(counts, np.array(LENGTHS) / 20, atol=0.02)
    assert set(firsts) == set(range(20))
    counts, firsts, mask = shares("uniform")
    np.testing.assert_allclose(counts, 0.25, atol=0.02)
    # Windows of the two long episodes are never cut short.
    assert np.all(mask[np.isin(episode[firsts], [1, 3])] == 1)
    assert set(firsts[episode[firsts] == 1]) == set(range(3, 10))


def test_bad_input():
    with pytest.raises(UserError, match="max_timesteps to 10"):
        arrays(dataset(), max_timesteps=9)


def stream():
    """Two streams of 7 and 5 rows, with a time-out after rows 2, 6 and 9."""
    rows = 12
    observations = np.arange(rows, dtype=np.float32)[:, None]
    following = observations + 1
    following[6] = 100.0  # the stream ends here, and another one begins
    timeouts = np.isin(np.arange(rows), (2, 6, 9))
    rewards = np.arange(rows) % 2
    return Dataset.from_arrays(
        observations,
        np.zeros((rows, 1)),
        rewards,
        np.zeros(rows),
        timeouts,
        following,
    )


def test_streams_are_cut_anew_where_nothing_interrupts_them():
    data = stream()
    np.testing.assert_array_equal(trajectories.recut(data, 4), [4, 7, 11, 12])
    np.testing.assert_array_equal(trajectories.recut(data, 100), [7, 12])
    found = arrays(data, episode_length=4)
    np.testing.assert_array_equal(found.lengths, [4, 3, 4, 1])
    np.testing.assert_array_equal(found.returns, [2, 2, 1, 1, 1, 1, 0, 2, 1, 1, 0, 1])
    assert found.timesteps.max() == 3
    terminals = np.arange(12) == 1
    ended = dataclasses.replace(data, terminals=terminals, next_observations=None)
    np.testing.assert_array_equal(trajectories.recut(ended, 100), [2, 12])
    with pytest.raises(UserError, match="episode_length"):
        trajectories.recut(data, -1)


def test_discounted_returns_by_hand():
    data = dataset()
    found = trajectories.SegmentView(discounted=True).arrays(data, settings(), {})
    first = data.rewards[0] + 0.5 * data.rewards[1] + 0.25 * data.rewards[2]
    np.testing.assert_allclose(found.returns[0], first, rtol=1e-5)
    np.testing.assert_allclose(found.returns[2], data.rewards[2], rtol=1e-5)


def test_rare_time_steps_count_as_the_last_common_one():
    found = arrays(dataset(), rare_timesteps=0.25)
    # Of the lengths 1, 3, 6 and 10 a quarter is longer than 6.
    assert found.timesteps.max() == 5
    np.testing.assert_array_equal(found.timesteps[3:13], [0, 1, 2, 3, 4, *[5] * 5])
    np.testing.assert_array_equal(found.remaining[3:13], np.arange(10, 0, -1))
