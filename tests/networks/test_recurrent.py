"""Recurrent layers against a loop, with steps that were not recorded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.networks.recurrent import Recurrence

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 5, 3)).astype(np.float32)
START = RNG.normal(size=(2, 3)).astype(np.float32)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.float32)


@pytest.mark.parametrize("reverse", [False, True])
def test_recurrence_is_a_loop_that_skips_unrecorded_steps(reverse):
    module = Recurrence(jnp.tanh, reverse)
    params = jax.jit(module.init)(jax.random.key(0), X)
    outputs, last = jax.jit(module.apply)(params, X, START, MASK)
    weights = jax.tree.map(np.asarray, params["params"]["recur"])
    order = range(4, -1, -1) if reverse else range(5)
    for b in range(2):
        hidden = START[b]
        for t in order:
            if MASK[b, t]:
                recurrent = hidden @ weights["kernel"] + weights["bias"]
                hidden = np.tanh(X[b, t] + recurrent)
            np.testing.assert_allclose(outputs[b, t], hidden, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(last[b], hidden, rtol=1e-5, atol=1e-6)
