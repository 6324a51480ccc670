"""Operators against hand-computed numbers, at their limits and on bad input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.improvement import closed_form as cf

GOLDEN_MEANS = jnp.array([[0.2, -0.4], [0.6, 0.1]])
GOLDEN_VARIANCES = jnp.array([[0.5, 0.25], [0.4, 0.3]]) ** 2
GOLDEN_LOGITS = jnp.log(jnp.array([0.6, 0.4]))


def two_critics(u):
    a = jnp.tanh(u)
    return jnp.array([a[0] + 2 * a[1], 1.5 * a[0] + a[1] - 0.1])


def q_min(u):
    return two_critics(u).min()


def q_official(u):
    q = two_critics(u)
    return q.mean() - q.std(ddof=1)


def test_golden_single_gaussian():
    mean, variances = jnp.array([0.2, -0.4]), jnp.array([0.5, 0.25]) ** 2
    for q, grad, latent, action in (
        (
            q_min,
            (0.961043, 1.711278),
            (0.573439, -0.233760),
            (0.517880, -0.229593),
        ),
        (
            q_official,
            (0.861524, 1.888486),
            (0.537004, -0.215319),
            (0.490717, -0.212052),
        ),
    ):
        np.testing.assert_allclose(jax.grad(q)(mean), grad, atol=2e-6)
        got = cf.single_gaussian(mean, variances, jax.grad(q)(mean), 0.5)
        np.testing.assert_allclose(got, latent, atol=2e-6)
        np.testing.assert_allclose(jnp.tanh(got), action, atol=2e-6)


@pytest.mark.parametrize(
    "log_tau,critic,compat,lse,jensen,jensen_q,q_values",
    [
        (
            0.5,
            q_min,
            "",
            [(0.573439, -0.233760), (0.689930, 0.240766)],
            (0.462045, -0.197022),
            0.042726,
            (0.058695, 1.033124),
        ),
        (
            0.5,
            q_official,
            "",
            [(0.537004, -0.215319), (0.675489, 0.245461)],
            (0.454435, -0.193916),
            -0.020526,
            (-0.007409, 1.013914),
        ),
        (
            0.5,
            q_official,
            "official",
            [(0.808386, -0.193382), (0.750001, 0.279126)],
            (0.454440, -0.193910),
            -0.020508,
            (None, 1.113529),
        ),
        (
            2.0,
            q_min,
            "",
            [(0.946877, -0.067519), (0.912586, 0.589288)],
            (0.883053, 0.128014),
            0.962584,
            (0.603533, 1.512940),
        ),
        (
            2.0,
            q_official,
            "",
            [(0.874008, -0.030638), (0.862391, 0.605605)],
            (0.820165, 0.153677),
            0.962492,
            (0.583675, 1.426723),
        ),
        (
            2.0,
            q_official,
            "official",
            [(1.416772, 0.013236), (1.121387, 0.722624)],
            (0.820165, 0.153682),
            0.962502,
            (None, 1.665472),
        ),
    ],
)
def test_golden_mixture(log_tau, critic, compat, lse, jensen, jensen_q, q_values):
    problem = (GOLDEN_LOGITS, GOLDEN_MEANS, GOLDEN_VARIANCES)
    grads = jax.vmap(jax.grad(critic))(GOLDEN_MEANS)
    got, feasible = cf.mixture_lse(*problem, grads, log_tau, compat=compat)
    np.testing.assert_allclose(got, lse, atol=3e-6)
    assert feasible.all()
    for u, value in zip(got, q_values, strict=True):
        if value is not None:
            assert critic(u) == pytest.approx(value, abs=3e-6)
    got, feasible = cf.mixture_jensen(
        *problem, jax.grad(critic), log_tau, compat=compat
    )
    np.testing.assert_allclose(got, jensen, atol=3e-6)
    assert feasible
    assert critic(got) == pytest.approx(jensen_q, abs=3e-6)
    got = cf.mixture(*problem, critic, log_tau, compat=compat)
    np.testing.assert_allclose(got, lse[1], atol=3e-6)


def test_golden_radii():
    """κ and μ̄ of the example: (1, 0.520302), √0.044588 and (0.404082, −0.241772)."""
    grads = jnp.ones_like(GOLDEN_MEANS)
    problem = (GOLDEN_LOGITS, GOLDEN_MEANS, GOLDEN_VARIANCES)
    got, _ = cf.mixture_lse(*problem, grads, 0.5)
    lengths = jnp.sqrt(jnp.sum((got - GOLDEN_MEANS) ** 2 / GOLDEN_VARIANCES, axis=1))
    np.testing.assert_allclose(lengths, (1.0, 0.520302), atol=2e-6)
    center, feasible = cf.mixture_jensen(*problem, jnp.zeros_like, 0.47)
    assert not feasible  # D/2 = 0.477706
    np.testing.assert_allclose(center, (0.404082, -0.241772), atol=2e-6)
    assert cf.mixture_jensen(*problem, jnp.zeros_like, 0.478)[1]


def test_deterministic_step():
    got = cf.deterministic(np.array([0.1, 0.2]), np.array([3.0, 4.0]), 0.1)
    length = np.sqrt(0.2)
    np.testing.assert_allclose(got, [0.1 + 0.6 * length, 0.2 + 0.8 * length], rtol=1e-6)


def test_narrow_components_stay_finite_in_float32():
    """Standard deviations at the floor e^-5, where a difference of squares cancels."""
    means = np.array([[0.8, -0.9], [0.8001, -0.9001]])
    variances = np.full((2, 2), np.exp(-10.0))
    got, feasible = cf.mixture_jensen(np.zeros(2), means, variances, jnp.ones_like, 0.5)
    spread = ((means - means.mean(0)) ** 2 / np.exp(-10.0)).mean(0).sum()
    step = np.sqrt((1 - spread) / 2) * np.exp(-5.0)
    assert feasible
    np.testing.assert_allclose(got, means.mean(0) + step, atol=1e-6)


def test_threshold_and_infeasible_components():
    logits = jnp.log(jnp.array([0.96, 0.04]))
    means = jnp.array([[0.0, 0.0], [1.0, 1.0]])
    variances = jnp.array([[1.0, 1.0], [1e-4, 1e-4]])  # light, but the largest peak
    grads = jnp.ones((2, 2))
    got, feasible = cf.mixture_lse(logits, means, variances, grads, 0.5)
    np.testing.assert_array_equal(feasible, [False, True])
    np.testing.assert_array_equal(got[0], means[0])
    got, feasible = cf.mixture_lse(logits, means, variances, grads, 0.5, 0.05)
    np.testing.assert_array_equal(feasible, [True, False])
    np.testing.assert_allclose(got, [[0.5**0.5] * 2, [1, 1]], rtol=1e-6)

    def q(a):
        return jnp.sum(a)

    problem = (logits, means, variances)
    got = cf.mixture(*problem, q, 0.5, bound="lse")
    np.testing.assert_allclose(got, [0.5**0.5] * 2, rtol=1e-6)
    keep = cf.mixture(*problem, lambda a: -q(a), 0.5, 0.0, bound="lse")
    drop = cf.mixture(
        *problem, lambda a: -q(a), 0.5, 0.0, bound="lse", infeasible="drop"
    )
    np.testing.assert_array_equal(keep, means[0])
    assert (drop > 0.9).all()
    # A threshold above all weights keeps the heaviest component.
    assert np.isfinite(cf.mixture(*problem, q, 0.5, 0.99)).all()


def test_an_infeasible_jensen_candidate_is_never_chosen():
    """Between two far modes the critic is highest, but no bound allows going there."""
    means, variances = np.array([[-1.0], [1.0]]), np.full((2, 1), 0.04)

    def q(a):
        return -jnp.sum(a**2)

    got = cf.mixture(np.zeros(2), means, variances, q, 0.5)
    np.testing.assert_allclose(np.abs(got), 1 - 0.2, rtol=1e-5)  # κ σ = 0.2
    got = cf.mixture(np.zeros(2), means, variances, q, 0.5, bound="jensen")
    np.testing.assert_allclose(got, 0.0, atol=1e-6)


def test_zero_weights_are_the_limit():
    logits = jnp.array([0.0, -jnp.inf])
    means = jnp.array([[0.2, 0.1], [1.0, 1.0]])
    variances = jnp.array([[0.3, 0.2], [0.1, 0.1]])

    def q(a):
        return a[0] + a[1]

    got = cf.mixture(logits, means, variances, q, 0.5)
    expected = cf.single_gaussian(means[0], variances[0], jnp.ones(2), 0.5)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_under_jit_and_vmap_values_are_not_looked_at():
    means, variances, grads = jnp.zeros((3, 2)), jnp.ones((3, 2)), jnp.ones((3, 2))
    step = jax.jit(jax.vmap(cf.single_gaussian, (0, 0, 0, None)))
    np.testing.assert_allclose(step(means, variances, grads, 0.5), 0.5**0.5, rtol=1e-6)
    np.testing.assert_array_equal(step(means, variances, grads, -1.0), means)
    indefinite = jnp.stack([jnp.eye(2), jnp.array([[1.0, 2.0], [2.0, 1.0]])])
    lse = jax.jit(cf.mixture_lse)
    got, feasible = lse(
        jnp.zeros(2), jnp.zeros((2, 2)), indefinite, jnp.ones((2, 2)), 1.0
    )
    np.testing.assert_array_equal(feasible, [True, False])
    np.testing.assert_array_equal(got[1], np.zeros(2))


ZERO, ONE = np.zeros((2, 2)), np.ones((2, 2))


def first(a):
    return a[0]


@pytest.mark.parametrize(
    "words,operator,args,options",
    [
        ("log_tau", cf.single_gaussian, (ZERO[0], ONE[0], ONE[0], -0.1), {}),
        ("delta", cf.deterministic, (ZERO[0], ONE[0], -0.1), {}),
        ("positive", cf.single_gaussian, (ZERO[0], -ONE[0], ONE[0], 0.1), {}),
        (
            "positive",
            cf.single_gaussian,
            (ZERO[0], 2 - np.eye(2), ONE[0], 0.1),
            {},
        ),
        ("shape", cf.single_gaussian, (ZERO[0], np.ones(3), ONE[0], 0.1), {}),
        ("shape", cf.single_gaussian, (ZERO[0], ONE[0], np.ones(3), 0.1), {}),
        ("no distribution", cf.mixture, (ZERO[0] + np.nan, ZERO, ONE, first, 0.5), {}),
        ("per component", cf.mixture, (np.zeros(3), ZERO, ONE, first, 0.5), {}),
        ("one number", cf.mixture, (ZERO[0], ZERO, ONE, lambda a: a, 0.5), {}),
        (
            "diagonal",
            cf.mixture_lse,
            (ZERO[0], ZERO, np.stack([np.eye(2)] * 2), ONE, 0.5),
            {"compat": "official"},
        ),
        ("bound", cf.mixture, (ZERO[0], ZERO, ONE, first, 0.5), {"bound": "best"}),
    ],
)
def test_bad_input_is_named(words, operator, args, options):
    with pytest.raises(UserError, match=words):
        operator(*args, **options)
