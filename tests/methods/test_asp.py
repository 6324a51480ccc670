"""Identities of ASPlanner's losses, and what holds for all of them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.normalize import ActionBox
from offjax.errors import UserError
from offjax.methods import asp
from tests.methods.asp_losses import (
    BOX,
    SMALL,
    UNIT,
    batch,
    box_loss,
    budget_loss,
    equation_loss,
    fresh,
    listing_loss,
    mle_loss,
    settings,
    tabular,
)

pytestmark = pytest.mark.usefixtures("double")
rng = np.random.default_rng(0)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_windows_of_a_budget_sum_to_the_cross_entropy_of_the_episode(k):
    """−Σ y log p = Σ_w ρ_w CE(window, rest), p being what the windows imply."""
    horizon, count = 7, -(-7 // k)
    shares = rng.dirichlet(np.ones(horizon), 1)
    outputs = rng.normal(size=(1, count, k + 1))
    left = 1 - np.concatenate([[0], np.cumsum(shares[0])])[: count * k : k]
    observations = np.stack([np.zeros(count), left], -1)[None]
    data = batch(shares, k, 1.0, observations)
    config = settings("anchored", horizon, k, space="simplex", weights="raw")
    windows = count * float(budget_loss(jnp.asarray(outputs), data, config))

    p, remaining = np.zeros(horizon), 1.0
    for w in range(count):
        steps = min(k, horizon - w * k)
        after = max(horizon - w * k - k, 1e-4)
        logits = np.append(outputs[0, w, :steps], outputs[0, w, -1] + np.log(after))
        split = softmax(logits)
        p[w * k : w * k + steps] = remaining * split[:-1]
        remaining *= split[-1]
    # What is left at the end is a share of its own, which these data do not have.
    np.testing.assert_allclose(windows, -(shares[0] * np.log(p)).sum(), rtol=1e-6)


def binary(x, s):
    return -(x * np.log(s) + (1 - x) * np.log(1 - s))


def two_sided(x, s):
    """S⁺·CE(x/S⁺, σ/Σσ) + S⁻·CE((1 − x)/S⁻, (1 − σ)/Σ(1 − σ))."""
    up = -(x * np.log(s / s.sum())).sum()
    return up - ((1 - x) * np.log((1 - s) / (1 - s).sum())).sum()


def test_shape_and_mass_are_the_binary_cross_entropy():
    u, x = rng.normal(size=6), rng.uniform(size=6)
    s = 1 / (1 + np.exp(-u))
    data = batch((BOX.low + x * (BOX.high - BOX.low))[None])
    config = settings("anchored", 6, weights="raw")
    outputs = jnp.asarray(u)[None, None]
    loss = float(box_loss(outputs, data, BOX, config))
    assert loss == pytest.approx(binary(x, s).sum(), abs=1e-9)
    mass = 6 * binary(x.mean(), s.mean())
    whole = two_sided(x, s) + mass - 6 * np.log(6)
    assert loss == pytest.approx(whole, abs=1e-9)


def test_a_partial_window_counts_its_own_steps():
    u, x = rng.normal(size=6), rng.uniform(size=6)
    s = 1 / (1 + np.exp(-u))
    config = settings("anchored", 6, 4, weights="raw")
    outputs = jnp.asarray(np.append(u, [5.0, -5.0]).reshape(1, 2, 4))
    expected = binary(x, s).sum() / 2  # mean of the two windows
    loss = float(box_loss(outputs, batch(x[None], 4), UNIT, config))
    assert loss == pytest.approx(expected, abs=1e-9)


def test_divergence_of_masses_is_cross_entropy_over_time_plus_mass():
    """Σ(eᵘ − x u) = S·CE(x/S, softmax u) + Λ − S log Λ, Λ = Σeᵘ."""
    u, x = rng.normal(size=6), rng.uniform(size=6)
    config = settings("listing", 6, weights="raw")
    loss = float(listing_loss(tabular(u, 1), batch(x[None]), config))
    total = np.exp(u).sum()
    left = (np.exp(u) - x * u).sum()
    right = 6 * (x.sum() + 1e-5) * loss + total - x.sum() * np.log(total)
    assert left == pytest.approx(right, rel=1e-6)


def test_steps_beyond_the_episode_count_for_nothing():
    actions, weights = rng.uniform(size=(3, 5)), rng.uniform(0.5, 2, (3, 5))
    short = batch(actions, 3, weights)  # the second window has two steps
    noise = jnp.asarray(rng.normal(size=short.actions.shape))
    dirty = short._replace(
        actions=short.actions + (1 - short.mask[..., None]) * noise,
        returns=short.returns + (1 - short.mask) * noise[..., 0],
        standard=short.standard + (1 - short.mask) * noise[..., 0],
    )
    for mode in ("listing", "equation", "mle"):
        config = settings(mode, 5, 3, weights="raw", kl_weight=0.2 * (mode != "mle"))
        outputs = jnp.asarray(rng.normal(size=(3, 2, 6)))
        results = []
        for data in (short, dirty):
            if mode == "listing":
                results.append(listing_loss(outputs, data, config))
            else:
                loss = {"equation": equation_loss, "mle": mle_loss}[mode]
                results.append(loss(outputs, data, UNIT, config))
        assert float(results[0]) == pytest.approx(float(results[1]), abs=1e-9), mode
    config = settings("anchored", 5, 3, weights="raw")
    outputs = jnp.asarray(rng.normal(size=(3, 2, 3)))
    clean, soiled = (float(box_loss(outputs, d, UNIT, config)) for d in (short, dirty))
    assert clean == pytest.approx(soiled, abs=1e-9)


@pytest.mark.parametrize("mode", ["listing", "equation"])
def test_deviations_learn_from_the_divergence_only(mode):
    data = batch(rng.uniform(0.1, 0.9, (4, 5)), 5, rng.uniform(0.5, 1, (4, 5)))
    outputs = jnp.asarray(rng.normal(size=(4, 1, 10)))

    def gradient(kl_weight):
        config = settings(mode, 5, weights="raw", kl_weight=kl_weight)

        def loss(outputs):
            if mode == "listing":
                return listing_loss(outputs, data, config)
            return equation_loss(outputs, data, UNIT, config)

        return np.asarray(jax.grad(loss)(outputs)).reshape(4, 5, 2)

    without, with_kl = gradient(0.0), gradient(0.1)
    assert np.all(without[..., 1] == 0) and np.any(without[..., 0] != 0)
    assert np.any(with_kl[..., 1] != 0)


@pytest.mark.parametrize("mode", ["listing", "equation", "simplex", "box"])
def test_planning_one_action_at_a_time_still_has_a_gradient(mode):
    shares = rng.dirichlet(np.ones(5), 3)
    left = 1 - np.cumsum(shares, 1) + shares
    observations = np.stack([np.zeros_like(left), left], -1)
    data = batch(shares, 1, rng.uniform(0.5, 1, (3, 5)), observations)
    space = mode if mode in asp.SPACES else "box"
    name = "anchored" if mode in asp.SPACES else mode
    config = settings(name, 5, 1, space=space, weights="raw")
    assert config.windows == (1 if name == "anchored" else 5)

    def loss(outputs):
        if mode == "listing":
            return listing_loss(outputs, data, config)
        if mode == "simplex":
            return budget_loss(outputs, data, config)
        function = box_loss if mode == "box" else equation_loss
        return function(outputs, data, UNIT, config)

    width = 1 if mode == "box" else 2
    outputs = jnp.asarray(rng.normal(size=(3, 5, width)))
    assert np.abs(jax.grad(loss)(outputs)).max() > 1e-3


def test_return_weights():
    returns = np.array([[0.5, 3.0], [2.0, 1.0]])
    standard = np.array([[-1.0, 4.0], [0.5, 0.0]])
    ranks = np.array([[0.0, 0.9], [0.5, 0.89]])
    data = batch(np.zeros((2, 2)))._replace(
        returns=returns[:, None], standard=standard[:, None], ranks=ranks[:, None]
    )

    def weights(kind):
        config = settings("anchored", 2, weights=kind, temperature=2.0)
        return np.asarray(asp.return_weights(data, config))[:, 0]

    expected = np.array([[np.exp(-2), 100.0], [np.e, 1.0]])
    np.testing.assert_allclose(weights("exp"), expected, rtol=1e-12)
    np.testing.assert_array_equal(weights("std"), standard)
    np.testing.assert_array_equal(weights("raw"), returns)
    np.testing.assert_array_equal(weights("topq"), [[0, 1], [0, 0]])


@pytest.mark.parametrize("mode", ["listing", "equation", "mle", "simplex", "box"])
def test_update_takes_one_adam_step_on_the_loss_of_its_mode(mode):
    name = "anchored" if mode in asp.SPACES else mode
    space = mode if mode in asp.SPACES else "box"
    config = settings(name, 6, 3, space=space, weights="raw", lr=0.01, **SMALL)
    observations = rng.uniform(0.5, 1.0, (4, config.windows, 2))
    length = 6 if config.windows > 1 else 3
    shares = rng.uniform(0.05, 0.2, (4, length))
    data = batch(shares, 3, rng.uniform(0.5, 1, (4, length)), observations)
    state = fresh(config, ([0.4, 0.5], [2.0, 3.0], [-1.0], [1.0]))
    box = ActionBox(*np.float32([[-1.0], [1.0]]))
    inputs = (data.observations - np.array([0.4, 0.5])) / np.array([2.0, 3.0])
    width = {"simplex": 4, "box": 3}.get(mode, 6)
    network = asp.Planner(width, config.hidden_dims, config.embedding_dim)

    def loss(params):
        outputs = network.apply(params, inputs, data.times)
        return {
            "listing": lambda: listing_loss(outputs, data, config),
            "equation": lambda: equation_loss(outputs, data, box, config),
            "mle": lambda: mle_loss(outputs, data, box, config),
            "simplex": lambda: budget_loss(outputs, data, config),
            "box": lambda: box_loss(outputs, data, box, config),
        }[mode]()

    @jax.jit
    def both(state):
        value, grads = jax.value_and_grad(loss)(state.planner.params)
        return asp.update(state, data, config, {}), value, grads

    (after, metrics), value, grads = both(state)
    assert float(metrics["asp/loss"]) == pytest.approx(float(value), rel=1e-5)
    norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(grads)))
    assert float(metrics["asp/grad_norm"]) == pytest.approx(norm, rel=1e-4)
    moved = jax.tree.map(lambda a, b: a - b, after.planner.params, state.planner.params)
    for step, gradient in zip(*map(jax.tree.leaves, (moved, grads)), strict=True):
        clear = np.abs(gradient) > 1e-6
        np.testing.assert_allclose(
            step[clear], -0.01 * np.sign(gradient[clear]), rtol=0.02
        )
    assert after.step == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": 8}, "k=8"),
        ({"k": 0}, "k=0"),
        ({"mode": "clip"}, "mode is 'clip'"),
        ({"space": "ball"}, "space is 'ball'"),
        ({"weights": "all"}, "weights is 'all'"),
        ({"kl_weight": 0.1}, "kl_weight=0.1"),
        ({"embedding_dim": 7}, "embedding_dim=7"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"segment_length": 0}, "segment_length is 0"),
    ],
)
def test_settings_without_sense_are_refused(changes, words):
    config = dataclasses.replace(settings("anchored", 7), **changes)
    with pytest.raises(UserError, match=words):
        config.validate()
    settings("anchored", 7).validate()
