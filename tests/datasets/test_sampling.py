"""On-device batches: membership, distribution and bounds, checked row by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets import sampling

STARTS = np.array([0, 3, 4, 10])
ENDS = np.array([3, 4, 10, 30])


def test_uniform_takes_the_same_rows_of_every_leaf():
    data = {"a": jnp.arange(50), "b": jnp.arange(100.0).reshape(50, 2)}
    batch = sampling.uniform(data, jax.random.key(0), 1000)
    assert batch["a"].shape == (1000,) and batch["b"].shape == (1000, 2)
    np.testing.assert_array_equal(batch["b"][:, 0], 2 * batch["a"])


def test_uniform_is_uniform_and_repeats_by_key():
    data = jnp.arange(10)
    draw = jax.jit(sampling.uniform, static_argnums=2)
    batch = np.asarray(draw(data, jax.random.key(1), 20_000))
    counts = np.bincount(batch, minlength=10)
    # Standard deviation of a count is 42.
    assert np.abs(counts - 2000).max() < 5 * 42
    np.testing.assert_array_equal(batch, draw(data, jax.random.key(1), 20_000))
    assert (batch != np.asarray(draw(data, jax.random.key(2), 20_000))).any()


@pytest.mark.parametrize("over", ["rows", "episodes"])
def test_segments_stay_in_their_episode(over):
    episode_of = np.searchsorted(ENDS, np.arange(30), side="right")
    draw = jax.jit(sampling.segments, static_argnums=(4, 5, 6))
    rows, mask = draw(jnp.arange(30), STARTS, ENDS, jax.random.key(0), 5000, 5, over)
    rows, mask = np.asarray(rows), np.asarray(mask)
    assert rows.shape == mask.shape == (5000, 5)
    for window, recorded in zip(rows[:500], mask[:500], strict=True):
        first = window[0]
        end = ENDS[episode_of[first]]
        for step in range(5):
            assert recorded[step] == (first + step < end)
            assert window[step] == min(first + step, end - 1)
    share = np.bincount(episode_of[rows[:, 0]], minlength=4) / 5000
    expected = [0.1, 1 / 30, 0.2, 2 / 3] if over == "rows" else [0.25] * 4
    np.testing.assert_allclose(share, expected, atol=0.04)


def test_segments_reach_every_row():
    rows, _ = sampling.segments(
        jnp.arange(30), STARTS, ENDS, jax.random.key(3), 5000, 1, "rows"
    )
    assert set(np.asarray(rows).ravel()) == set(range(30))
    rows, _ = sampling.segments(
        jnp.arange(30), STARTS, ENDS, jax.random.key(3), 5000, 1, "episodes"
    )
    assert set(np.asarray(rows).ravel()) == set(range(30))


def test_segments_gather_every_leaf():
    data = (jnp.arange(30), jnp.arange(60.0).reshape(30, 2))
    (index, values), _ = sampling.segments(data, STARTS, ENDS, jax.random.key(0), 8, 3)
    assert values.shape == (8, 3, 2)
    np.testing.assert_array_equal(values[..., 0], 2 * index)
