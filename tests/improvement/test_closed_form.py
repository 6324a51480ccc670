"""Operators against a numerical solver, hand-computed numbers and their theory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

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


def random_problem(rng, n, a, full):
    """Logits, means, covariances (matrices too) and gradients."""
    logits, means, grads = rng.normal(size=n), rng.normal(size=(n, a)), None
    means *= rng.uniform(0.05, 0.8)
    grads = rng.normal(size=(n, a)) * np.exp(rng.normal())
    stds = np.exp(rng.normal(size=(n, a)) * 0.4 - 0.7)
    matrices = np.stack([np.diag(s**2) for s in stds])
    if full:
        rotations = [np.linalg.qr(rng.normal(size=(a, a)))[0] for _ in range(n)]
        matrices = np.stack(
            [r @ m @ r.T for r, m in zip(rotations, matrices, strict=True)]
        )
        matrices = (matrices + np.swapaxes(matrices, 1, 2)) / 2
    return logits, means, (matrices if full else stds**2), matrices, grads


def solve(start, grad, log_density, log_density_grad, bound):
    """max grad·a subject to log_density(a) ≥ bound, by SLSQP from a feasible start."""
    best = minimize(
        lambda x: -grad @ x,
        start,
        jac=lambda x: -grad,
        constraints={
            "type": "ineq",
            "fun": lambda x: log_density(x) - bound,
            "jac": log_density_grad,
        },
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    return grad @ best.x


def log_normal(mean, cov):
    density = multivariate_normal(mean, cov)
    precision = np.linalg.inv(cov)
    return density.logpdf, lambda x: -precision @ (x - mean)


@jax.jit
def all_operators(logits, means, covs, grads, log_tau):
    sg = cf.single_gaussian(means[0], covs[0], grads[0], log_tau)
    lse = cf.mixture_lse(logits, means, covs, grads, log_tau)
    jensen = cf.mixture_jensen(logits, means, covs, lambda a: grads[0], log_tau)
    return sg, lse, jensen


SHAPES = sorted({(k, 9 - k) for k in range(1, 9)} | {(k, k) for k in range(1, 9)})


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("n,a", SHAPES)
def test_equals_numerical_optimum(n, a, full):
    rng = np.random.default_rng(100 * n + 10 * a + full)
    for _ in range(7):  # 16 shapes x 2 kinds x 7 = 224 problems
        logits, means, covs, matrices, grads = random_problem(rng, n, a, full)
        log_tau = rng.uniform(0.05, 3.0)
        sg, (lse, feasible), (jensen, jensen_feasible) = all_operators(
            logits, means, covs, grads, log_tau
        )
        log_weights = logits - np.log(np.exp(logits).sum())
        logs = [log_normal(m, c) for m, c in zip(means, matrices, strict=True)]
        scale = np.abs(grads).max()

        value, gradient = logs[0]
        best = solve(means[0], grads[0], value, gradient, value(means[0]) - log_tau)
        assert grads[0] @ np.asarray(sg) == pytest.approx(best, abs=1e-4 * scale)

        at_peaks = [f(m) for (f, _), m in zip(logs, means, strict=True)]
        peaks = log_weights + at_peaks
        bound = peaks.max() - log_tau  # −δ of the LogSumExp bound
        np.testing.assert_array_equal(feasible, peaks >= bound)
        for i in range(n):
            value, gradient = logs[i]
            best = grads[i] @ means[i]
            if peaks[i] >= bound:
                threshold = bound - log_weights[i]
                best = solve(means[i], grads[i], value, gradient, threshold)
            assert grads[i] @ np.asarray(lse[i]) == pytest.approx(
                best, abs=1e-4 * scale
            )

        weights = np.exp(log_weights)

        def mean_log(x, weights=weights, logs=logs):
            return sum(w * f(x) for w, (f, _) in zip(weights, logs, strict=True))

        def mean_log_grad(x, weights=weights, logs=logs):
            return sum(w * g(x) for w, (_, g) in zip(weights, logs, strict=True))

        bound = weights @ at_peaks - log_tau
        center = minimize(
            lambda x: -mean_log(x), means[0], jac=lambda x: -mean_log_grad(x), tol=1e-12
        ).x
        assert bool(jensen_feasible) == (mean_log(center) >= bound - 1e-9)
        best = grads[0] @ center
        if jensen_feasible:
            best = solve(center, grads[0], mean_log, mean_log_grad, bound)
        assert grads[0] @ np.asarray(jensen) == pytest.approx(best, abs=1e-4 * scale)


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


def test_one_component_is_the_gaussian():  # (a)
    rng = np.random.default_rng(1)
    logits, means, covs, _, grads = random_problem(rng, 1, 5, True)
    sg = cf.single_gaussian(means[0], covs[0], grads[0], 0.7)
    lse, _ = cf.mixture_lse(logits, means, covs, grads, 0.7)
    jensen, _ = cf.mixture_jensen(logits, means, covs, lambda a: grads[0], 0.7)
    np.testing.assert_allclose(lse[0], sg, rtol=1e-5)
    np.testing.assert_allclose(jensen, sg, rtol=1e-4, atol=1e-5)
    variances = np.diagonal(covs, axis1=1, axis2=2)
    diagonal = cf.single_gaussian(means[0], variances[0], grads[0], 0.7)
    official, _ = cf.mixture_lse(
        logits, means, variances, grads, 0.7, compat="official"
    )
    assert np.abs(official[0] - diagonal).max() > 0.01


def test_zero_trust_region_is_mode_selection():  # (b)
    rng = np.random.default_rng(2)
    for _ in range(20):
        logits, means, covs, _, grads = random_problem(rng, 4, 3, False)
        target = rng.normal(size=3)
        sg = cf.single_gaussian(means[0], covs[0], grads[0], 0.0)
        np.testing.assert_array_equal(sg, means[0].astype(np.float32))
        weights = np.exp(logits) / np.exp(logits).sum()
        values = -((means - target) ** 2).sum(1)
        values[weights < 0.05] = -np.inf
        # Jensen may be feasible only where all means coincide, so LSE decides.

        def q(a, target=target):
            return -jnp.sum((a - target) ** 2)

        got = cf.mixture(logits, means, covs, q, 0.0)
        np.testing.assert_array_equal(got, means[values.argmax()].astype(np.float32))


def test_length_and_active_constraint():  # (c), (d)
    rng = np.random.default_rng(3)
    logits, means, covs, _, grads = random_problem(rng, 4, 6, False)
    weights = np.exp(logits) / np.exp(logits).sum()
    got, feasible = cf.mixture_lse(logits, means, covs, grads, 1.3)
    peaks = np.log(weights) - 0.5 * np.log(2 * np.pi * covs).sum(1)
    lengths = np.sqrt(((got - means) ** 2 / covs).sum(1))
    expected = np.sqrt(np.maximum(2 * (1.3 + peaks - peaks.max()), 0))
    np.testing.assert_allclose(lengths, expected, rtol=1e-4)
    densities = peaks - 0.5 * ((got - means) ** 2 / covs).sum(1)
    np.testing.assert_allclose(densities[feasible], peaks.max() - 1.3, rtol=1e-4)
    sg = cf.single_gaussian(means[0], covs[0], grads[0], 0.9)
    length = np.sqrt(((sg - means[0]) ** 2 / covs[0]).sum())
    assert length == pytest.approx(np.sqrt(1.8), rel=1e-5)


def test_equal_components_are_one_gaussian():  # (e)
    rng = np.random.default_rng(4)
    _, means, covs, _, grads = random_problem(rng, 1, 4, True)
    means, covs, grads = (np.repeat(x, 5, 0) for x in (means, covs, grads))
    sg = cf.single_gaussian(means[0], covs[0], grads[0], 0.6)
    lse, _ = cf.mixture_lse(np.zeros(5), means, covs, grads, 0.6)
    jensen, _ = cf.mixture_jensen(np.zeros(5), means, covs, lambda a: grads[0], 0.6)
    np.testing.assert_allclose(lse, np.repeat(sg[None], 5, 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jensen, sg, rtol=1e-3, atol=1e-5)


def test_official_lengths_average_to_2a_over_n():  # (f)
    rng = np.random.default_rng(5)
    n, a = 4, 6
    logits, means, _, _, grads = random_problem(rng, n, a, False)
    covs = np.exp(0.1 * rng.normal(size=(n, a)))
    got, feasible = cf.mixture_lse(logits, means, covs, grads, 9.0, compat="official")
    assert feasible.all()
    correct, _ = cf.mixture_lse(logits, means, covs, grads, 9.0)
    squares = ((got - means) ** 2 / covs).sum(1), ((correct - means) ** 2 / covs).sum(1)
    assert np.mean(squares[0] / squares[1]) == pytest.approx(2 * a / n, rel=1e-4)


def test_scale_and_shift_of_the_critic_do_not_matter():  # (g)
    rng = np.random.default_rng(6)
    logits, means, covs, _, _ = random_problem(rng, 3, 4, False)
    target = rng.normal(size=4)

    def q(a):
        return -jnp.sum((a - target) ** 2)

    got = cf.mixture(logits, means, covs, q, 1.0)
    for scale, shift in ((1e-3, 0.0), (1e4, 3.0)):
        other = cf.mixture(logits, means, covs, lambda a: scale * q(a) + shift, 1.0)  # noqa: B023
        np.testing.assert_allclose(other, got, rtol=1e-4, atol=1e-5)
    tiny = cf.single_gaussian(means[0], covs[0], np.full(4, 1e-30), 1.0)
    large = cf.single_gaussian(means[0], covs[0], np.full(4, 1e30), 1.0)
    np.testing.assert_allclose(tiny, large, rtol=1e-6)
    assert np.abs(tiny - means[0]).max() > 0.1


def test_zero_gradient_gives_no_step():
    rng = np.random.default_rng(7)
    logits, means, covs, _, _ = random_problem(rng, 3, 4, True)
    zero = np.zeros(4)
    means32 = means.astype(np.float32)
    np.testing.assert_array_equal(
        cf.single_gaussian(means[0], covs[0], zero, 1.0), means32[0]
    )
    lse, _ = cf.mixture_lse(logits, means, covs, np.zeros_like(means), 1.0)
    np.testing.assert_array_equal(lse, means32)
    np.testing.assert_array_equal(cf.deterministic(means[0], zero, 0.1), means32[0])
    assert np.isfinite(cf.mixture(logits, means, covs, lambda a: 0.0 * a[0], 1.0)).all()


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
