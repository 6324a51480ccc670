"""Mixtures of discretised logistics against SciPy's logistic distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from offjax.networks import logistic_mixture
from offjax.networks.logistic_mixture import LogisticMixture

RNG = np.random.default_rng(0)
N, A, K = 200, 2, 3
LOGITS, MEANS = RNG.normal(size=(2, A, K))
LOG_SCALES = np.array([[-1.0, 0.3, -4.0], [-2.0, 0.0, -6.9]])
MIXTURE = LogisticMixture(*(jnp.asarray(x) for x in (LOGITS, MEANS, LOG_SCALES)))
log_prob = jax.jit(logistic_mixture.log_prob, static_argnums=2)


def expected(actions, classes):
    """Sum over entries of log Σ_k π_k (F(upper) − F(lower))."""
    half = 1 / (classes - 1)
    weights = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    base = stats.logistic(MEANS, np.exp(LOG_SCALES))
    a = np.asarray(actions, np.float64)[..., None]
    # From the nearer tail, so that nothing cancels.
    below = base.cdf(a + half) - base.cdf(a - half)
    above = base.sf(a - half) - base.sf(a + half)
    mass = np.where(a < MEANS, below, above)
    mass = np.where(a < -0.999, base.cdf(a + half), mass)
    mass = np.where(a > 0.999, base.sf(a - half), mass)
    # Where a bin is all but empty, its density times its width stands in.
    narrow = base.pdf(a) * 2 * half
    mass = np.where((mass <= 1e-5) & (np.abs(a) <= 0.999), narrow, mass)
    return np.log((weights * mass).sum(-1)).sum(-1)


@pytest.mark.parametrize("classes", [10, 256])
def test_log_probability_is_scipys(classes):
    actions = RNG.uniform(-1.2, 1.2, size=(N, A)).astype(np.float32)
    actions[:3] = [[-1, 1], [1, 1], [-1, -1]]
    found = log_prob(MIXTURE, jnp.asarray(actions), classes)
    np.testing.assert_allclose(found, expected(actions, classes), rtol=2e-3, atol=2e-3)


def test_the_bins_probabilities_sum_to_one():
    classes = 10
    centers = jnp.asarray(np.linspace(-1, 1, classes), jnp.float32)
    grid = jnp.stack(jnp.meshgrid(centers, centers), axis=-1).reshape(-1, A)
    total = np.exp(log_prob(MIXTURE, grid, classes)).sum()
    np.testing.assert_allclose(total, 1.0, atol=1e-3)


def test_gradients_are_finite_far_from_every_component():
    mixture = MIXTURE._replace(log_scales=jnp.full((A, K), -7.0))
    grads = jax.jit(
        jax.grad(lambda m: logistic_mixture.log_prob(m, 0.9 - m.means[:, 0], 256))
    )(mixture)
    assert all(np.isfinite(x).all() for x in grads)


def test_samples_have_the_mixtures_distribution():
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(jax.vmap(lambda key: logistic_mixture.sample(MIXTURE, key)))
    samples = np.asarray(draw(keys))
    weights = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    for i in range(A):

        def cdf(x, i=i):
            scales = np.exp(LOG_SCALES[i])
            parts = stats.logistic(MEANS[i], scales).cdf(np.asarray(x)[..., None])
            return parts @ weights[i]

        assert stats.kstest(samples[:, i], cdf).pvalue > 1e-3


def test_mode_is_the_heaviest_components_mean():
    found = logistic_mixture.mode(MIXTURE)
    heaviest = LOGITS.argmax(-1)
    np.testing.assert_allclose(found, MEANS[np.arange(A), heaviest], rtol=1e-6)
