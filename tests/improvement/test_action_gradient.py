"""Action Gradient against a NumPy loop written from the paper's equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.distributions import gaussian, point
from offjax.errors import UserError
from offjax.improvement.action_gradient import (
    OPTIMIZERS,
    Config,
    action_gradient,
    median_gradient_norm,
    refine,
)

A = 3


def critic(seed):
    """A smooth critic with many bumps: value [] of an action [A]; and NumPy twins."""
    rng = np.random.default_rng(seed)
    w1, b1 = rng.normal(size=(A, 16)) * 1.5, rng.normal(size=16)
    w2 = rng.normal(size=16)

    def q(a):
        return jnp.tanh(a @ w1 + b1) @ w2

    def q_np(a):
        return np.tanh(a @ w1 + b1) @ w2

    def grad_np(a):
        return w1 @ (w2 * (1 - np.tanh(a @ w1 + b1) ** 2))

    return q, q_np, grad_np


def numpy_loop(a, q, grad, eta, n, optimizer, low, high):
    zeta, zeta2, eps = 0.9, 0.999, 1e-8
    a = np.clip(a, low, high)
    m, v = np.zeros(A), np.zeros(A)
    candidates = [a]
    for i in range(n):
        g = grad(a)
        if optimizer == "sgd":
            d = g
        elif optimizer == "momentum":
            m = zeta * m + g
            d = m
        elif optimizer == "momentum_paper":
            m = m + zeta * g
            d = m
        elif optimizer == "rmsprop":
            v = zeta * v + (1 - zeta) * g * g
            d = g / (np.sqrt(v) + eps)
        else:
            m = zeta * m + (1 - zeta) * g
            v = zeta2 * v + (1 - zeta2) * g * g
            p = i + 1 if optimizer == "adam" else 1
            d = (m / (1 - zeta**p)) / (np.sqrt(v / (1 - zeta2**p)) + eps)
        a = np.clip(a + eta * d, low, high)
        candidates.append(a)
    return max(candidates, key=q)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_numpy_loop(optimizer, seed):
    q, q_np, grad_np = critic(seed)
    start = np.random.default_rng(100 + seed).uniform(-0.9, 1.1, A)
    low, high = np.array([-1.0, -0.8, -1.0]), np.array([1.0, 1.0, 0.7])
    expected = numpy_loop(start, q_np, grad_np, 0.03, 12, optimizer, low, high)
    with jax.enable_x64(True):
        got = refine(
            jnp.asarray(start),
            q,
            step_size=0.03,
            num_steps=12,
            optimizer=optimizer,
            low=low,
            high=high,
        )
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_constant_gradient_displacements():
    # For g = 1: plain nη; printed momentum ηζ n(n+1)/2; printed adam's first step is
    # exact and its later ones are not; true adam's are all η.
    def move(optimizer, n):
        return float(
            refine(
                jnp.zeros(1),
                lambda a: a[0],
                step_size=1e-3,
                num_steps=n,
                optimizer=optimizer,
            )[0]
        )

    assert move("sgd", 4) == pytest.approx(4e-3, rel=1e-5)
    assert move("momentum", 3) == pytest.approx((1 + 1.9 + 2.71) * 1e-3, rel=1e-5)
    assert move("momentum_paper", 4) == pytest.approx(0.9 * 10e-3, rel=1e-5)
    assert move("rmsprop", 1) == pytest.approx(1e-3 / np.sqrt(0.1), rel=1e-5)
    assert move("adam", 5) == pytest.approx(5e-3, rel=1e-4)
    assert move("adam_paper", 1) == pytest.approx(1e-3, rel=1e-4)
    assert move("adam_paper", 4) == pytest.approx(
        (1 + 1.344 + 1.566 + 1.721) * 1e-3, rel=3e-2
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_value_never_falls(optimizer):
    for seed in range(5):
        q, _, _ = critic(seed)
        starts = jax.random.uniform(jax.random.key(seed), (64, A), minval=-1)
        refined = jax.vmap(
            lambda a, q=q: refine(a, q, step_size=0.3, num_steps=7, optimizer=optimizer)
        )(starts)
        assert np.all(jax.vmap(q)(refined) >= jax.vmap(q)(starts))
        assert np.all(np.abs(refined) <= 1)
        assert np.mean(jax.vmap(q)(refined) > jax.vmap(q)(starts)) > 0.9


def test_no_steps_is_exactly_the_policy():
    q, _, _ = critic(0)
    outside = jnp.array([0.1, -1.3, 0.7])
    same = refine(outside, q, step_size=0.1, num_steps=0)
    np.testing.assert_array_equal(same, outside)
    masked = refine(jnp.zeros(A), q, step_size=0.1, num_steps=9, active_steps=0)
    np.testing.assert_array_equal(masked, jnp.zeros(A))


def test_masked_steps_equal_fewer_steps():
    q, _, _ = critic(1)
    start = jnp.array([0.2, 0.1, -0.4])
    for n in (1, 4, 9):
        full = refine(start, q, step_size=0.05, num_steps=9, active_steps=n)
        short = refine(start, q, step_size=0.05, num_steps=n)
        np.testing.assert_allclose(full, short, rtol=1e-6)


def test_critic_that_is_not_a_number_never_wins():
    def q(a):
        return jnp.where(a[0] > 0.5, jnp.nan, a[0])

    got = refine(jnp.array([0.3]), q, step_size=0.15, num_steps=5)
    assert float(got[0]) == pytest.approx(0.45)


def test_operator_works_in_the_distributions_box():
    shift, scale = jnp.array([5.0]), jnp.array([2.0])
    dist = gaussian(jnp.array([0.0]), jnp.array([0.3]), shift, scale)
    config = Config(step_size=0.1, ascent_steps=3)
    key = jax.random.key(0)
    got = action_gradient(dist, lambda a: 2.0 * a[0], key, config)
    assert float(got[0]) == pytest.approx(5.0 + 3 * 0.1 * 2.0)
    config = Config(step_size=0.1, ascent_steps=3, step_mode="normalized")
    got = action_gradient(dist, lambda a: a[0], key, config)
    assert float(got[0]) == pytest.approx(5.0 + 3 * 0.1 * 4.0)
    config = Config(step_size=0.1, ascent_steps=100)
    got = action_gradient(dist, lambda a: 2.0 * a[0], key, config)
    assert float(got[0]) == pytest.approx(7.0)
    config = Config(ascent_steps=0)
    got = action_gradient(point(jnp.array([0.25])), lambda a: a[0], key, config)
    assert float(got[0]) == 0.25


def test_grid_of_settings_is_one_program():
    traces = []

    @jax.jit
    def grid(configs, a):
        traces.append(1)
        q = critic(2)[0]
        dist = point(a)
        return jax.vmap(lambda c: action_gradient(dist, q, jax.random.key(0), c))(
            configs
        )

    start = jnp.array([0.1, 0.2, 0.3])
    etas, ns = jnp.array([0.01, 0.01, 0.1]), jnp.array([2.0, 8.0, 8.0])

    def stacked(etas):
        config = Config(step_size=etas, ascent_steps=8, active_steps=ns)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (3,)), config)

    got = grid(stacked(etas), start)
    for row, eta, n in zip(got, etas, ns, strict=True):
        q = critic(2)[0]
        alone = refine(start, q, step_size=eta, num_steps=int(n))
        np.testing.assert_allclose(row, alone, rtol=1e-4)
    grid(stacked(2 * etas), start)
    assert len(traces) == 1


def test_median_gradient_norm():
    def q(s, a):
        return s[0] * (3 * a[0] + 4 * a[1])

    observations = jnp.array([[1.0], [2.0], [9.0]])
    assert float(median_gradient_norm(q, observations, jnp.zeros((3, 2)))) == 10.0


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"step_size": 0.0}, "step_size"),
        ({"step_size": -1e-3}, "step_size"),
        ({"step_size": np.nan}, "step_size"),
        ({"num_steps": -1}, "num_steps"),
        ({"optimizer": "sgdm"}, "momentum_paper"),
        ({"high": np.inf}, "finite"),
        ({"low": np.array([-1.0, -np.inf, -1.0])}, "finite"),
    ],
)
def test_bad_input(bad, word):
    arguments = {"step_size": 0.1, "num_steps": 2} | bad
    with pytest.raises(UserError, match=word):
        refine(jnp.zeros(A), lambda a: a.sum(), **arguments)
    with pytest.raises(UserError, match="step_mode"):
        action_gradient(
            point(jnp.zeros(A)),
            lambda a: a.sum(),
            jax.random.key(0),
            Config(step_mode="relative"),
        )
