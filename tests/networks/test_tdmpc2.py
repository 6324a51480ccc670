"""TD-MPC2's layers and its bins, by hand and against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.networks.tdmpc2 import Bins, NormedMLP, mish, simnorm, symexp, symlog


def test_simnorm_is_a_softmax_of_each_group():
    x = np.log(np.array([1.0, 3.0, 2.0, 2.0, 9.0, 1.0]))
    expected = [0.25, 0.75, 0.5, 0.5, 0.9, 0.1]
    np.testing.assert_allclose(simnorm(jnp.asarray(x), 2), expected, rtol=1e-6)
    rows = np.random.default_rng(0).normal(size=(3, 4, 16))
    sums = np.asarray(simnorm(rows, 8)).reshape(3, 4, 2, 8).sum(-1)
    np.testing.assert_allclose(sums, 1.0, rtol=1e-6)


def test_mish_by_its_definition():
    x = np.linspace(-30.0, 60.0, 181)
    expected = x * np.tanh(np.log1p(np.exp(x)))
    np.testing.assert_allclose(mish(x), expected, rtol=1e-5, atol=1e-12)
    slope = jax.vmap(jax.grad(mish))(jnp.asarray(x))
    finite = (mish(x + 0.01) - mish(x - 0.01)) / 0.02
    np.testing.assert_allclose(slope, finite, atol=2e-3)


def test_symlog_and_its_inverse():
    x = jnp.array([-(np.e**2 - 1), -0.5, 0.0, np.e - 1])
    np.testing.assert_allclose(symlog(x), [-2, -np.log(1.5), 0, 1], rtol=1e-6)
    np.testing.assert_allclose(symexp(symlog(x)), x, rtol=1e-5)


def test_two_hot_by_hand():
    bins = Bins(5, 2.0)  # centers -2 … 2
    x = np.array([0.0, np.e - 1, -(np.exp(0.25) - 1), 1e6, -1e6])
    expected = [
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0.25, 0.75, 0, 0],
        [0, 0, 0, 0, 1],  # beyond the last bin
        [1, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(bins.two_hot(jnp.asarray(x)), expected, atol=1e-6)


def test_a_value_survives_its_bins():
    bins, x = Bins(101, 10.0), np.array([-300.0, -1.7, 0.003, 0.9, 42.0])
    weights = np.asarray(bins.two_hot(x))
    assert ((weights > 0).sum(-1) <= 2).all()
    logits = jnp.log(jnp.maximum(weights, 1e-30))
    np.testing.assert_allclose(bins.expectation(logits), x, rtol=1e-3, atol=1e-5)
    expected = -np.sum(weights * np.log(1 / 101))
    found = bins.cross_entropy(jnp.zeros((5, 101)), x).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("group", [0, 4])
def test_outputs_begin_at_zero_and_weights_at_deviation_002(group):
    network = NormedMLP((300, 200), 8, group, zero_output=not group)
    params = network.init(jax.random.PRNGKey(0), jnp.ones(50))["params"]
    for name, std in (("Dense_0", 0.02), ("Dense_1", 0.02)):
        np.testing.assert_allclose(np.std(params[name]["kernel"]), std, rtol=0.05)
        assert not params[name]["bias"].any()
    out = network.apply({"params": params}, jnp.ones((3, 50)))
    if group:
        np.testing.assert_allclose(out.sum(-1), 2.0, rtol=1e-6)
    else:
        assert not out.any()


def test_dropout_leaves_out_units_of_the_first_layer_in_training_only():
    network = NormedMLP((64, 16), 2, dropout=0.5)
    x = jnp.ones(5)
    params = network.init(jax.random.PRNGKey(0), x)
    still = network.apply(params, x)
    np.testing.assert_array_equal(still, NormedMLP((64, 16), 2).apply(params, x))
    moved = [
        network.apply(params, x, True, rngs={"dropout": jax.random.PRNGKey(i)})
        for i in range(2)
    ]
    assert not np.allclose(moved[0], moved[1])
