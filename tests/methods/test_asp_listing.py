"""ASPlanner's loss as listed: against loops, its gradient, and where descent ends."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.methods.asp_losses import (
    batch,
    listing_loss,
    settings,
    softplus,
    tabular,
    windows_of,
)

pytestmark = pytest.mark.usefixtures("double")
rng = np.random.default_rng(0)


def listing_by_loops(mean, std, actions, weights, kl_weight, action_min):
    rows, length, width = actions.shape
    total, kl = 0.0, 0.0
    for d in range(width):
        for b in range(rows):
            log_z = np.log(sum(np.exp(mean[b, t, d]) for t in range(length)))
            mass = sum(actions[b, t, d] - action_min for t in range(length)) + 1e-5
            for t in range(length):
                y = actions[b, t, d] / mass
                total -= y * (mean[b, t, d] - log_z) * weights[b, t]
        for t in range(length):
            mu, sigma = mean[:, t, d].mean(), std[:, t, d].mean()
            m, s = actions[:, t, d].mean(), actions[:, t, d].std(ddof=1) + 1e-5
            kl += np.log(s / sigma) + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5
    return total / actions.size + kl_weight * kl / (length * width)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_listing_equals_its_loops_for_every_window(k):
    config = settings(
        "listing", 7, k, kl_weight=0.3, weights="std", action_min=-2.0, std_min=0.01
    )
    actions = rng.uniform(-2, 3, (5, 7, 2))
    mean, raw = rng.normal(size=(2, 5, 7, 2))
    weights = rng.normal(size=(5, 7))
    expected = listing_by_loops(mean, 0.01 + softplus(raw), actions, weights, 0.3, -2.0)
    data = batch(actions, k, weights)
    loss = listing_loss(windows_of(mean, k, raw), data, config)
    np.testing.assert_allclose(loss, expected, rtol=1e-9)


def test_cross_entropy_ignores_levels_and_kl_those_that_cancel():
    config = settings("listing", 6, weights="std", action_min=-2.0)
    with_kl = dataclasses.replace(config, kl_weight=1.0)
    mean, raw = rng.normal(size=(2, 4, 6, 2))
    data = batch(rng.uniform(-2, 3, (4, 6, 2)), None, rng.normal(size=(4, 6)))

    def loss(level, config):
        return float(listing_loss(windows_of(mean + level, 6, raw), data, config))

    any_level = rng.normal(size=(4, 1, 2))
    cancelling = any_level - any_level.mean(0)
    assert loss(any_level, config) == pytest.approx(loss(0.0, config), abs=1e-12)
    assert loss(cancelling, with_kl) == pytest.approx(loss(0.0, with_kl), abs=1e-9)
    assert abs(loss(any_level, with_kl) - loss(0.0, with_kl)) > 0.01


def weighted_problem(length=6, rows=40, seed=3, per_step=True):
    """Shares of a budget [B, T], signed weights and w_t = mean_b y_t Ĝ_t."""
    draw = np.random.default_rng(seed)
    shares = draw.dirichlet(np.full(length, 3.0), rows)
    weights = draw.normal(size=(rows, length if per_step else 1))
    if per_step:  # some steps pay, others cost
        slopes = np.linspace(2.5, -1.5, length)
        weights = weights + slopes * (shares - shares.mean(0)) / shares.std(0)
    weights = (weights - weights.mean(0)) / weights.std(0)
    y = shares / (shares.sum(1, keepdims=True) + 1e-5)
    return batch(shares, None, weights), (y * weights).mean(0)


def test_gradient_is_p_times_the_total_minus_w():
    data, w = weighted_problem()
    config = settings("listing", 6, weights="std")
    theta = rng.normal(size=6)

    def loss(logits):
        return 6 * listing_loss(tabular(logits, 40), data, config)

    p = np.exp(theta) / np.exp(theta).sum()
    gradient = jax.grad(loss)(jnp.asarray(theta))
    np.testing.assert_allclose(gradient, p * w.sum() - w, atol=1e-9)
    steps = 1e-5 * np.eye(6)
    differences = [(loss(theta + s) - loss(theta - s)) / 2e-5 for s in steps]
    np.testing.assert_allclose(gradient, differences, atol=1e-8)


def test_loss_is_linear_where_one_standardized_return_weights_all_steps():
    data, w = weighted_problem(per_step=False)
    config = settings("listing", 6, weights="std")
    for _ in range(3):
        theta = rng.normal(size=6)
        loss = 6 * listing_loss(tabular(theta, 40), data, config)
        assert float(loss) == pytest.approx(-w @ theta, abs=1e-9)


def simplex_projection(v):
    """Nearest point of the simplex, by bisection on the threshold."""
    low, high = v.min() - 1.0, v.max()
    for _ in range(200):
        middle = (low + high) / 2
        if np.maximum(v - middle, 0).sum() > 1:
            low = middle
        else:
            high = middle
    return np.maximum(v - (low + high) / 2, 0)


def descend(data, length, rate, steps):
    config = settings("listing", length, weights="std")

    def loss(logits):
        rows = data.actions.shape[0]
        return length * listing_loss(tabular(logits, rows), data, config)

    def body(_, logits):
        return logits - rate * jax.grad(loss)(logits)

    logits = jax.jit(lambda x: jax.lax.fori_loop(0, steps, body, x))(jnp.zeros(length))
    return np.asarray(jax.nn.softmax(logits))


def test_descent_ends_at_the_projection_on_the_simplex():
    data, w = weighted_problem(seed=2)
    assert w.sum() > 0 > w.min()
    target = simplex_projection(w / w.sum())
    assert 1 < np.count_nonzero(target) < 6
    np.testing.assert_allclose(descend(data, 6, 20.0, 5000), target, atol=1e-3)


def test_descent_ends_at_a_vertex_where_weights_sum_to_nothing():
    data, w = weighted_problem(per_step=False)
    np.testing.assert_allclose(
        descend(data, 6, 50.0, 20_000), np.eye(6)[w.argmax()], atol=1e-3
    )


@pytest.mark.parametrize("low", [0.0, -1.0, -2.0])
def test_listing_target_is_no_distribution_unless_the_minimum_is_zero(low):
    """Against equal logits the loss is log L · Σy / L, and Σy = 1 + mL/S."""
    actions = rng.uniform(0.5, 3.0, (1, 8))
    config = settings("listing", 8, weights="raw", action_min=low)
    loss = listing_loss(tabular(np.zeros(8), 1), batch(actions), config)
    total = 8 * float(loss) / np.log(8)
    expected = 1 + low * 8 / (actions - low).sum()
    assert total == pytest.approx(expected, abs=1e-5)
