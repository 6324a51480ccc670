"""Rows drawn on device: membership and distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.datasets.views import TransitionView, uniform
from offjax.errors import UserError
from offjax.types import EnvSpec


def test_uniform_takes_the_same_rows_of_every_leaf():
    data = {"a": jnp.arange(50), "b": jnp.arange(100.0).reshape(50, 2)}
    batch = uniform(data, jax.random.key(0), 1000)
    assert batch["a"].shape == (1000,) and batch["b"].shape == (1000, 2)
    np.testing.assert_array_equal(batch["b"][:, 0], 2 * batch["a"])


def test_uniform_is_uniform_and_repeats_by_key():
    data = jnp.arange(10)
    draw = jax.jit(uniform, static_argnums=2)
    batch = np.asarray(draw(data, jax.random.key(1), 20_000))
    counts = np.bincount(batch, minlength=10)
    # Standard deviation of a count is 42.
    assert np.abs(counts - 2000).max() < 5 * 42
    np.testing.assert_array_equal(batch, draw(data, jax.random.key(1), 20_000))
    assert (batch != np.asarray(draw(data, jax.random.key(2), 20_000))).any()


def episodes(lengths, ends, horizon=3):
    """Rewards 1 in every step; each episode ends in a terminal ("t") or is cut."""
    last = np.cumsum(lengths) - 1
    terminals, timeouts = np.zeros(sum(lengths), bool), np.zeros(sum(lengths), bool)
    for row, end in zip(last, ends, strict=True):
        (terminals if end == "t" else timeouts)[row] = True
    rows = np.zeros((sum(lengths), 2), np.float32)
    spec = EnvSpec("none", 2, (-1.0, -1.0), (1.0, 1.0), horizon)
    rewards = np.ones(len(rows), np.float32)
    return Dataset.from_arrays(rows, rows, rewards, terminals, timeouts, spec=spec)


@pytest.mark.parametrize(
    ("lengths", "ends", "spread"),
    [
        ((3, 2, 1), "ttc", 1.0),  # the last one is cut: 3 − 2
        ((3, 2, 1), "ttt", 2.0),
        ((2, 1, 3), "tcc", 2.0),  # of full length
        ((3, 1, 2), "tct", 2.0),  # one that was cut before
    ],
)
def test_the_range_of_returns_can_leave_out_a_last_cut_episode(lengths, ends, spread):
    data = episodes(lengths, ends)
    view = TransitionView(unit_returns=True, complete_returns=True)
    np.testing.assert_allclose(view.arrays(data, None, {}).rows.rewards, 1000 / spread)
    whole = TransitionView(unit_returns=True)
    np.testing.assert_allclose(whole.arrays(data, None, {}).rows.rewards, 500.0)


def test_a_single_cut_episode_has_no_range_of_complete_returns():
    view = TransitionView(unit_returns=True, complete_returns=True)
    with pytest.raises(UserError, match="one episode, which was cut"):
        view.arrays(episodes((2,), "c"), None, {})
