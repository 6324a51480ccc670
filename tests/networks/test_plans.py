"""Latent plans: divergences against closed forms, gradients by finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from offjax.networks.plans import CategoricalPlan, GaussianPlan, balanced_kl

CATEGORICAL, GAUSSIAN = CategoricalPlan(2, 3), GaussianPlan(3)
RNG = np.random.default_rng(0)
P, Q = RNG.normal(size=(2, 6))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(plan, p, q):
    """KL(p ‖ q) in float64."""
    if plan is CATEGORICAL:
        p, q = softmax(p.reshape(2, 3)), softmax(q.reshape(2, 3))
        return sum(stats.entropy(a, b) for a, b in zip(p, q, strict=True))
    (m, s), (n, t) = ((x[:3], np.log1p(np.exp(x[3:])) + 1e-4) for x in (p, q))
    return np.sum(np.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5)


def differences(function, x, step=1e-5):
    """Central finite differences."""
    unit = step * np.eye(len(x))
    return np.array([(function(x + d) - function(x - d)) / (2 * step) for d in unit])


@pytest.mark.parametrize("plan", [CATEGORICAL, GAUSSIAN])
def test_balanced_kl_is_the_kl_with_shared_gradients(plan):
    @jax.jit
    def both(p, q):
        return jax.value_and_grad(
            lambda p, q: balanced_kl(plan, p, q, 0.8), argnums=(0, 1)
        )(p, q)

    value, (to_posterior, to_prior) = both(jnp.float32(P), jnp.float32(Q))
    np.testing.assert_allclose(value, kl(plan, P, Q), rtol=1e-5)
    np.testing.assert_allclose(
        to_posterior, 0.2 * differences(lambda p: kl(plan, p, Q), P), atol=1e-5
    )
    np.testing.assert_allclose(
        to_prior, 0.8 * differences(lambda q: kl(plan, P, q), Q), atol=1e-5
    )


def test_categorical_samples_are_one_hot_with_the_right_frequencies():
    keys = jax.random.split(jax.random.key(0), 4000)

    @jax.jit
    @jax.vmap
    def draw(key):
        return CATEGORICAL.sample(jnp.float32(P), CATEGORICAL.noise(key, ()))

    plans = np.asarray(draw(keys)).reshape(-1, 2, 3)
    assert set(np.unique(plans)) == {0.0, 1.0}
    np.testing.assert_array_equal(plans.sum(-1), 1)
    np.testing.assert_allclose(plans.mean(0), softmax(P.reshape(2, 3)), atol=0.03)


def test_gradients_pass_straight_through_to_the_probabilities():
    weights = RNG.normal(size=6)

    def value(p):
        return jnp.dot(CATEGORICAL.sample(p, jnp.zeros((2, 3))), weights)

    found = jax.jit(jax.grad(value))(jnp.float32(P))
    soft = differences(lambda p: softmax(p.reshape(2, 3)).reshape(-1) @ weights, P)
    np.testing.assert_allclose(found, soft, atol=1e-5)


def test_gaussian_samples_are_mean_plus_deviation_times_noise():
    noise = RNG.normal(size=3)
    found = GAUSSIAN.sample(jnp.float32(P), jnp.float32(noise))
    std = np.log1p(np.exp(P[3:])) + 1e-4
    np.testing.assert_allclose(found, P[:3] + std * noise, rtol=1e-5)
