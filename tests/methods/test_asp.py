"""ASPlanner's losses against NumPy, its known optima, and what it decodes."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.normalize import ActionBox
from offjax.datasets.windows import Windows
from offjax.errors import UserError
from offjax.methods import asp, asp_printed
from offjax.types import Model, Statistics

BOX = ActionBox(np.float64([-2.0]), np.float64([3.0]))
UNIT = ActionBox(np.float64([0.0]), np.float64([1.0]))
rng = np.random.default_rng(0)

budget_loss, box_loss = jax.jit(asp.budget_loss), jax.jit(asp.box_loss)
planned = jax.jit(asp.plan)


@jax.jit
def mle_loss(outputs, data, box, config):
    moments = asp_printed.moments(outputs, config)
    weights = asp.return_weights(data, config)
    return asp_printed.mle_loss(*moments, weights, data, box, config)


@jax.jit
def listing_loss(outputs, data, config):
    moments, weights = (
        asp_printed.moments(outputs, config),
        asp.return_weights(data, config),
    )
    return asp_printed.listing_loss(*moments, weights, data, config)


@jax.jit
def equation_loss(outputs, data, box, config):
    moments, weights = (
        asp_printed.moments(outputs, config),
        asp.return_weights(data, config),
    )
    return asp_printed.equation_loss(*moments, weights, data, box, config)


def plan(state, observation, time, config):
    return planned(Model(asp.METHOD, config, state), observation, time)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def settings(mode, horizon, k=None, **changes):
    return asp.Config(
        mode=mode, horizon=horizon, k=k or horizon, segment_length=horizon, **changes
    )


def batch(actions, k=None, weights=1.0, observations=None, length=None, first=0):
    """Episodes [B, T(, A)] cut in windows of k; `weights` are returns and standard."""
    actions = np.asarray(actions, np.float64)
    actions = actions if actions.ndim == 3 else actions[..., None]
    rows, length = len(actions), length or actions.shape[1]
    k = k or length
    windows = -(-length // k)
    pad = windows * k - actions.shape[1]
    shape = (rows, windows, k)
    weights = np.broadcast_to(weights, actions.shape[:2])

    def cut(x):
        filled = np.pad(x, [(0, 0), (0, pad), *[(0, 0)] * (x.ndim - 2)])
        return jnp.asarray(filled.reshape(*shape, *x.shape[2:]))

    times = first + np.broadcast_to(np.arange(windows) * k, shape[:2])
    if observations is None:
        observations = np.zeros((*shape[:2], 1))
    w = cut(weights)
    mask = cut(np.ones(actions.shape[:2]))
    return Windows(jnp.asarray(observations), times, cut(actions), w, w, w, mask)


def windows_of(means, k, stds=None):
    """Means [B, T, A] (and raw deviations) as network outputs [B, W, 2kA]."""
    rows, length, width = means.shape
    count = -(-length // k)
    both = np.concatenate([means, np.zeros_like(means) if stds is None else stds], -1)
    both = np.pad(both, [(0, 0), (0, count * k - length), (0, 0)])
    return jnp.asarray(both.reshape(rows, count, 2 * k * width))


def tabular(logits, rows):
    """Time logits [T] as the means of every one of `rows` episodes."""
    logits = jnp.asarray(logits)
    both = jnp.stack([logits, jnp.zeros_like(logits)], -1).reshape(-1)
    return jnp.broadcast_to(both, (rows, 1, both.size))


def softplus(x):
    return np.log1p(np.exp(x))


def log_normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


# -- the listing ------------------------------------------------------------


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


# -- identities -------------------------------------------------------------


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


# -- the equation and likelihood --------------------------------------------


@pytest.mark.parametrize("k", [2, 5])
def test_equation_equals_its_loops(k):
    config = settings(
        "equation", 5, k, weights="raw", kl_weight=0.7, discount=0.9, std_min=0.01
    )
    x = rng.uniform(0.1, 0.9, (3, 5, 2))
    returns = rng.uniform(0.5, 2, (3, 5))
    mean, raw = rng.normal(size=(2, 3, 5, 2))
    expected = 0.0
    for b in range(3):
        for d in range(2):
            s = 1 / (1 + np.exp(-mean[b, :, d]))
            shifted = x[b, :, d] - x[b, :, d].min()
            y = shifted / shifted.sum()
            log_pi = log_normal(x[b, :, d], s, 0.01 + softplus(raw[b, :, d]))
            for t in range(5):
                expected -= y[t] * 0.9**t * returns[b, t] * np.log(s[t] / s.sum())
                if y[t] > 0:
                    expected += 0.7 * y[t] * (np.log(y[t]) - log_pi[t])
    data = batch(BOX.low + x * (BOX.high - BOX.low), k, returns)
    loss = equation_loss(windows_of(mean, k, raw), data, BOX, config)
    np.testing.assert_allclose(loss, expected / 6, rtol=1e-6)


def mle_case(order):
    config = settings("mle", 6, weights="std", std_min=0.01, step_weights=True)
    draw = np.random.default_rng(1)
    x, mean, raw = draw.uniform(-1, 1, (3, 4, 6, 1))
    weights = draw.normal(size=(4, 6))
    expected = -(weights[..., None] * log_normal(x, mean, 0.01 + softplus(raw))).mean()
    actions = BOX.shift + BOX.scale * x
    data = batch(actions[:, order], None, weights[:, order])
    return windows_of(mean[:, order], 6, raw[:, order]), data, config, expected


def test_likelihood_pairs_every_step_with_its_own_return():
    for order in (np.arange(6), rng.permutation(6)):
        outputs, data, config, expected = mle_case(order)
        loss = float(mle_loss(outputs, data, BOX, config))
        assert loss == pytest.approx(expected, abs=1e-9)


def test_likelihood_weighs_a_window_by_the_return_from_its_start():
    outputs, data, config, _ = mle_case(np.arange(6))
    config = dataclasses.replace(config, step_weights=False)
    mean, raw = np.split(np.asarray(outputs).reshape(4, 6, 2), 2, axis=-1)
    x = np.asarray((data.actions - BOX.shift) / BOX.scale).reshape(4, 6, 1)
    first = np.asarray(data.standard).reshape(4, 6)[:, :1, None]
    expected = -(first * log_normal(x, mean, 0.01 + softplus(raw))).mean()
    loss = float(mle_loss(outputs, data, BOX, config))
    assert loss == pytest.approx(expected, abs=1e-9)


def test_a_fixed_deviation_is_the_floor_everywhere():
    outputs, data, config, _ = mle_case(np.arange(6))
    config = dataclasses.replace(config, learn_std=False, std_min=0.3)
    mean = np.asarray(outputs).reshape(4, 6, 2)[..., 0]
    x = np.asarray((data.actions - BOX.shift) / BOX.scale).reshape(4, 6)
    weights = np.asarray(data.standard).reshape(4, 6)
    expected = -(weights * log_normal(x, mean, 0.3)).mean()
    loss = float(mle_loss(outputs, data, BOX, config))
    assert loss == pytest.approx(expected, abs=1e-9)


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


# -- learning and acting ----------------------------------------------------


def fresh(config, statistics, seed=0):
    with jax.enable_x64(False):
        example = SimpleNamespace(
            statistics=Statistics(*(np.float32(x) for x in statistics))
        )
        init = jax.jit(lambda key: asp.init(key, example, config, {}))
        return init(jax.random.PRNGKey(seed))


def fit(data, statistics, config, updates, seed=0):
    """A trained state: `updates` steps on the same batch, in single precision."""
    state = fresh(config, statistics, seed)
    with jax.enable_x64(False):
        data = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), data)
        step = jax.jit(
            lambda s: jax.lax.fori_loop(
                0, updates, lambda _, s: asp.update(s, data, config, {})[0], s
            )
        )
        return step(state)


SMALL = {"hidden_dims": (32, 32), "embedding_dim": 8}
TWO_STATES = np.array([-1.0, 1.0]).repeat(8)


def two_state_errors(config, updates, seed=0):
    actions = 0.5 * TWO_STATES[:, None] * np.ones(4)
    observations = TWO_STATES[:, None, None]
    data = batch(actions, 4, 1.0, observations)
    statistics = ([0.0], [1.0], [-1.0], [1.0])
    state = fit(data, statistics, config, updates, seed)
    with jax.enable_x64(False):
        plans = [plan(state, np.float32([s]), 0, config) for s in (-1.0, 1.0)]
    return np.abs(np.array(plans)[..., 0] - [[-0.5], [0.5]])


def test_two_states_are_told_apart_by_the_anchored_loss_alone():
    anchored = settings("anchored", 4, weights="raw", lr=3e-3, **SMALL)
    assert two_state_errors(anchored, 400).max() < 0.05
    listing = settings(
        "listing", 4, weights="raw", lr=3e-3, kl_weight=0.1, action_min=-1.0, **SMALL
    )
    for seed in range(2):
        assert two_state_errors(listing, 400, seed).max() > 0.05


def wild(config, statistics):
    """A state whose network says anything: initial weights times three."""
    state = fresh(config, statistics, seed=3)
    with jax.enable_x64(False):
        larger = jax.tree.map(lambda x: 3 * x, state.planner.params)
        return with_params(state, larger)


def with_params(state, params):
    return state.replace(planner=state.planner.replace(params=params))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
def test_budgets_are_never_overspent(k):
    config = settings("anchored", 7, k, space="simplex", **SMALL)
    state = wild(config, ([0.0] * 3, [1.0] * 3, [0.0], [0.2]))
    left, spent = np.float32(1.0), []
    with jax.enable_x64(False):
        for start in range(0, 7, k):
            observation = np.float32([1 - start / 7, left, 0.1])
            actions = np.asarray(plan(state, observation, start, config))[:, 0]
            assert actions.shape == (k,) and np.all(actions >= 0)
            assert np.all(actions[7 - start :] == 0)  # beyond the episode
            assert actions.sum() <= left * (1 + 1e-6)
            left -= actions.sum()
            spent += [*actions]
    assert 0 < np.sum(spent) <= 1 + 1e-6


def test_the_last_window_spends_what_is_left():
    config = settings("anchored", 7, 3, space="simplex", **SMALL)
    state = wild(config, ([0.0] * 3, [1.0] * 3, [0.0], [0.2]))
    state = with_params(state, jax.tree.map(jnp.zeros_like, state.planner.params))
    with jax.enable_x64(False):
        last = plan(state, np.float32([0.1, 0.4, 0.1]), 6, config)
        np.testing.assert_allclose(last[:, 0], [0.4, 0, 0], rtol=2e-4)
        # Equal outputs: a window takes its part of the steps to come.
        middle = plan(state, np.float32([0.5, 0.8, 0.1]), 3, config)
        np.testing.assert_allclose(middle[:, 0], [0.2, 0.2, 0.2], rtol=1e-4)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_plans_in_a_box_stay_within_it(k):
    config = settings("anchored", 7, k, **SMALL)
    state = wild(config, ([0.0], [0.01], [-2.0, 0.0], [3.0, 0.1]))
    with jax.enable_x64(False):
        for x in (-5.0, 0.3, 5.0):
            actions = np.asarray(plan(state, np.float32([x]), 2, config))
            assert actions.shape == (k, 2)
            assert np.all(actions >= np.float32([-2.0, 0.0]))
            assert np.all(actions <= np.float32([3.0, 0.1]))


@pytest.mark.parametrize("k", [3, 7])
def test_uniform_data_and_returns_give_the_uniform_plan(k):
    shares = np.full((8, 7), 1 / 7)
    starts = np.arange(0, 7, k)
    observations = np.stack([1 - starts / 7, 1 - starts / 7, starts * 0 + 1 / 7], -1)
    each = [
        batch(shares[:, s : s + k], k, 0.0, np.tile(o, (8, 1, 1)), k, s)
        for s, o in zip(starts, observations, strict=True)
    ]
    data = jax.tree.map(lambda *xs: np.concatenate(xs), *each)
    config = settings("anchored", 7, k, space="simplex", lr=3e-3, **SMALL)
    state = fit(data, ([0.5, 0.5, 0.1], [0.3, 0.3, 0.1], [0.0], [0.2]), config, 600)
    executed = []
    with jax.enable_x64(False):
        for start, observation in zip(starts, np.float32(observations), strict=True):
            executed += [*np.asarray(plan(state, observation, start, config))[:, 0]]
    np.testing.assert_allclose(executed[:7], 1 / 7, atol=5e-3)

    from offjax.envs import budget

    alpha, beta = budget.instance(7, 0)
    total = sum(
        a * (b**2 - (min(x, b) - b) ** 2)
        for a, b, x in zip(alpha, beta, executed, strict=False)
    )
    assert abs(budget.spec(7).score(np.float64(total))) < 2.0


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
