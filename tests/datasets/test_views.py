"""Rows drawn on device: membership and distribution."""

import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets.views import uniform


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
