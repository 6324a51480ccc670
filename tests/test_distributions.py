"""Densities that integrate to one, and maps that invert."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.distributions import Distribution, gaussian, mixture, point

SHIFT, SCALE = jnp.array([0.5]), jnp.array([2.0])


def two_components(squashed):
    return mixture(
        logits=jnp.array([0.3, -0.6]),
        means=jnp.array([[-0.8], [0.5]]),
        stds=jnp.array([[0.4], [0.2]]),
        shift=SHIFT,
        scale=SCALE,
        squashed=squashed,
    )


def density(distribution, actions):
    log_prob = jax.jit(jax.vmap(distribution.log_prob))
    return np.exp(np.asarray(log_prob(actions[:, None]), np.float64))


def by_hand(latent):
    weights = np.exp([0.3, -0.6]) / np.exp([0.3, -0.6]).sum()
    parts = [
        w * np.exp(-0.5 * ((latent - m) / s) ** 2) / (s * np.sqrt(2 * np.pi))
        for w, m, s in zip(weights, (-0.8, 0.5), (0.4, 0.2), strict=True)
    ]
    return sum(parts)


@pytest.mark.parametrize("squashed", [False, True])
def test_density_of_a_mixture(squashed):
    distribution = two_components(squashed)
    edge = 1.999 if squashed else 6.0
    actions = np.linspace(0.5 - edge, 0.5 + edge, 4001)
    u = (actions - 0.5) / 2
    latent = np.arctanh(u) if squashed else u
    jacobian = 2 * (1 - u**2 if squashed else 1)
    found = density(distribution, actions.astype(np.float32))
    np.testing.assert_allclose(found, by_hand(latent) / jacobian, rtol=2e-3, atol=1e-6)
    assert np.trapezoid(found, actions) == pytest.approx(1, abs=1e-3)


def test_density_of_several_dimensions_is_the_product():
    mean, std = jnp.array([0.2, -0.4]), jnp.array([0.5, 0.3])
    low, half = jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0])
    both = gaussian(mean, std, low, half, squashed=True)
    action = jnp.array([0.4, 2.0])
    alone = [
        gaussian(mean[i, None], std[i, None], low[i, None], half[i, None], True)
        for i in range(2)
    ]
    total = sum(d.log_prob(action[i, None]) for i, d in enumerate(alone))
    np.testing.assert_allclose(both.log_prob(action), total, rtol=1e-5)


@pytest.mark.parametrize("squashed", [False, True])
def test_samples_follow_the_density(squashed):
    distribution = two_components(squashed)
    keys = jax.random.split(jax.random.PRNGKey(0), 20_000)
    samples = np.asarray(jax.vmap(distribution.sample)(keys))[:, 0]
    actions = np.linspace(*((-1.49, 2.49) if squashed else (-5, 5)), 2001)
    p = density(distribution, actions.astype(np.float32))
    mean = np.trapezoid(p * actions, actions)
    variance = np.trapezoid(p * (actions - mean) ** 2, actions)
    assert samples.mean() == pytest.approx(mean, abs=0.03)
    assert samples.std() == pytest.approx(np.sqrt(variance), abs=0.03)


def test_mode_is_the_mean_of_the_heaviest_component():
    np.testing.assert_allclose(two_components(False).mode(), [0.5 - 1.6], rtol=1e-6)
    squashed = two_components(True).mode()
    np.testing.assert_allclose(squashed, [0.5 + 2 * np.tanh(-0.8)], rtol=1e-6)


def test_latents_invert_and_the_rim_is_finite():
    for squashed in (False, True):
        distribution = two_components(squashed)
        latent = jnp.linspace(-2, 2, 9)[:, None]
        there = distribution.to_action(latent)
        np.testing.assert_allclose(distribution.to_latent(there), latent, atol=1e-5)
    for edge in (-1.5, 2.5):
        assert np.isfinite(two_components(True).log_prob(jnp.array([edge])))
    far = gaussian(jnp.array([9.0]), jnp.ones(1), SHIFT, SCALE, squashed=True)
    assert np.isfinite(far.log_prob(jnp.array([2.5])))


def test_a_point_is_where_it_is():
    action = jnp.array([0.3, -7.0])
    distribution = point(action)
    np.testing.assert_array_equal(distribution.mode(), action)
    np.testing.assert_array_equal(distribution.sample(jax.random.PRNGKey(1)), action)
    np.testing.assert_array_equal(distribution.to_latent(action), action)
    assert isinstance(distribution, Distribution) and distribution.kind == "point"
