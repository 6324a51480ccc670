"""Operators on random problems: against a numerical solver, and their theory."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from offjax.improvement import closed_form as cf


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
