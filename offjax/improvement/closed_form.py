"""Closed-form policy improvement: one analytic step along a critic's gradient.

Li et al., Offline Reinforcement Learning with Closed-Form Policy Improvement
Operators, ICML 2023. For a behavior policy β and a critic linearized at an action
a_β, the improved action solves

    max_a  (a − a_β)ᵀ g   subject to   −log β(a) ≤ δ,      g = ∇Q(a_β)

where δ lies log τ above the smallest value that the left side can take. With
‖x‖_Σ = √(xᵀΣx):

    I_SG      a = μ + √(2 log τ) Σg / ‖g‖_Σ
    I_MG, LSE a_i = μ_i + κ_i Σ_i g_i / ‖g_i‖_Σi,
              κ_i² = 2 (log τ + c_i − max_j c_j),  c_i = log λ_i − ½ log det 2πΣ_i
    I_MG, Jensen  a = μ̄ + κ Σ̄g / ‖g‖_Σ̄,  Σ̄⁻¹ = Σ_i λ_i Σ_i⁻¹,
              μ̄ = Σ̄ Σ_i λ_i Σ_i⁻¹ μ_i,
              κ² = 2 log τ − Σ_i λ_i (μ_i − μ̄)ᵀ Σ_i⁻¹ (μ_i − μ̄)
    I_DET     a = a_β + √(2δ) g / ‖g‖

The LSE bound gives one candidate per component, the Jensen bound one for all; I_MG is
the best of them by the critic itself. A zero gradient gives no step. All functions are
pure and for one state; they know no action box: with tanh-squashed policies, call them
on the action before tanh and the critic after it.

Where the release differs from the paper it is available as ``compat="official"``:

* LSE steps use κ_i² = 4 (log τ + c_i − max_j c_j), and divide by the norm over the
  components, separately for each action dimension, instead of over the dimensions;
* the largest peak is taken over all components, negligible ones included;
* the Jensen bound adds 1e-6 to every variance.

Its critic (mean − std of two members with the unbiased std) is an option of the critic.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from offjax.distributions import LOG_2PI
from offjax.errors import UserError, require_option
from offjax.improvement import checks
from offjax.types import Array

OFFICIAL_EPSILON = 1e-7  # added to norms by the release
OFFICIAL_VARIANCE = 1e-6  # added to variances in the release's Jensen bound

QFn = Callable[[Array], Array]
"""action [A] → value []."""


def single_gaussian(
    mean: Array, cov: Array, grad: Array, log_tau: Array | float
) -> Array:
    """I_SG: best action of a linear critic at most log τ below the density's peak.

    From a mean [A] with variances [A] or a covariance matrix [A, A], along the critic's
    gradient [A] there: a step [A] of Mahalanobis length √(2 log τ).

    Raises:
      UserError: negative log τ, a covariance that is not positive definite, shapes
        that do not match.
    """
    mean, cov, grad = _floats(mean, cov, grad)
    checks.radius("log_tau", log_tau)
    checks.covariance("cov", cov, mean.shape[-1])
    checks.same_shape("grad", grad, mean)
    return mean + jnp.sqrt(_positive(2 * log_tau)) * _direction(cov, grad)


def deterministic(action: Array, grad: Array, delta: Array | float) -> Array:
    """I_DET: a step of length √(2δ) along the gradient, from an action [A] to [A].

    Raises:
      UserError: negative δ, or a gradient of another shape.
    """
    action, grad = _floats(action, grad)
    checks.radius("delta", delta)
    checks.same_shape("grad", grad, action)
    length = jnp.sqrt(_positive(2 * delta))
    return action + length * _direction(jnp.ones_like(action), grad)


def mixture_lse(
    logits: Array,
    means: Array,
    covs: Array,
    grads: Array,
    log_tau: Array | float,
    weight_threshold: Array | float = 0.0,
    *,
    compat: str = "",
) -> tuple[Array, Array]:
    """I_MG by the LogSumExp bound: one candidate per component.

    Args:
      logits: [N] log weights, normalized here.
      means: [N, A] component means.
      covs: [N, A] variances or [N, A, A] matrices.
      grads: [N, A] gradients of the critic, each at its component's mean.
      log_tau: size of the trust region.
      weight_threshold: ξ; lighter components are infeasible, and do not count for the
        largest peak. The heaviest component always stays.
      compat: see the module; with "official" covariances are diagonal.

    Returns:
      Candidates [N, A] and whether they are feasible [N]. An infeasible component has
      no point within the bound: its candidate is its mean.

    Raises:
      UserError: see `single_gaussian`; log weights that are no distribution.
    """
    logits, means, covs, grads = _floats(logits, means, covs, grads)
    _check_mixture(logits, means, covs, log_tau, compat)
    checks.same_shape("grads", grads, means)
    log_weights = jax.nn.log_softmax(logits)
    log_peaks = log_weights - 0.5 * _log_det(covs)
    # A covariance without a density (traced, so not refused) makes no proposal.
    log_peaks = jnp.where(jnp.isnan(log_peaks), -jnp.inf, log_peaks)
    kept = heavy(logits, weight_threshold)
    counted = log_peaks if compat else jnp.where(kept, log_peaks, -jnp.inf)
    radius_sq = 2 * (log_tau + log_peaks - jnp.max(counted))
    feasible = kept & (radius_sq >= 0)
    radii = jnp.sqrt(_positive(jnp.where(kept, radius_sq, 0.0)))[:, None]
    if compat:
        squares = jnp.sum(covs * grads**2, axis=0)
        steps = covs * grads / (jnp.sqrt(squares) + OFFICIAL_EPSILON)
        return means + jnp.sqrt(2.0) * radii * steps, feasible
    return means + radii * jax.vmap(_direction)(covs, grads), feasible


def mixture_jensen(
    logits: Array,
    means: Array,
    covs: Array,
    grad_fn: QFn,
    log_tau: Array | float,
    *,
    compat: str = "",
) -> tuple[Array, Array]:
    """I_MG by the Jensen bound: one candidate, from the precision-weighted mean μ̄.

    `grad_fn`, action [A] → gradient of the critic [A], is called once, at μ̄; the other
    arguments are as of `mixture_lse`.

    Returns:
      Candidate [A] (μ̄ itself where infeasible) and whether the bound has any feasible
      point [], that is, whether log τ outweighs the spread of the means.

    Raises:
      UserError: see `single_gaussian`; log weights that are no distribution.
    """
    logits, means, covs = _floats(logits, means, covs)
    _check_mixture(logits, means, covs, log_tau, compat)
    if compat:
        covs = covs + OFFICIAL_VARIANCE
    weights = jax.nn.softmax(logits)
    if covs.ndim == 2:
        precisions = weights[:, None] / covs
        cov = 1 / jnp.sum(precisions, axis=0)
        center = cov * jnp.sum(precisions * means, axis=0)
        spread = jnp.sum(precisions * (means - center) ** 2)
    else:
        precisions = weights[:, None, None] * jnp.linalg.inv(covs)
        cov = jnp.linalg.inv(jnp.sum(precisions, axis=0))
        center = cov @ jnp.einsum("nij,nj->i", precisions, means)
        offsets = means - center
        spread = jnp.einsum("ni,nij,nj->", offsets, precisions, offsets)
    grad = grad_fn(center)
    checks.same_shape("grad_fn's result", grad, center)
    radius_sq = 2 * log_tau - spread
    candidate = center + jnp.sqrt(_positive(radius_sq)) * _direction(cov, grad)
    # Rounding must not make a single component infeasible at log τ = 0.
    return candidate, radius_sq >= -1e-6


def mixture(
    logits: Array,
    means: Array,
    covs: Array,
    q_fn: QFn,
    log_tau: Array | float,
    weight_threshold: Array | float = 0.05,
    *,
    bound: str = "both",
    infeasible: str = "keep",
    compat: str = "",
) -> Array:
    """I_MG: the best by the critic of the LSE and the Jensen candidates.

    Args:
      logits: as of `mixture_lse`, like `means`, `covs` and `compat`.
      means: [N, A].
      covs: [N, A] or [N, A, A].
      q_fn: action [A] → value [], differentiable.
      log_tau: size of the trust region; at 0 this is mode selection.
      weight_threshold: ξ; lighter components propose nothing.
      bound: "both", or only "lse" or "jensen" (μ̄ where Jensen is infeasible).
      infeasible: what a heavy enough component without a feasible point proposes:
        "keep" its mean, so that log τ → 0 tends to mode selection, or "drop": nothing,
        as the paper has it.
      compat: "official" for the release's LSE and Jensen steps.

    Returns:
      Action [A]; of equal candidates the LSE bound's.

    Raises:
      UserError: see `single_gaussian`; log weights that are no distribution; a critic
        that does not return one number; an unknown option.
    """
    logits, means, covs = _floats(logits, means, covs)
    require_option("bound", bound, ("both", "lse", "jensen"))
    require_option("infeasible", infeasible, ("keep", "drop"))
    _check_mixture(logits, means, covs, log_tau, compat)
    checks.scalar_critic(q_fn, means[0])
    grad_fn = jax.grad(q_fn)
    jensen, jensen_feasible = mixture_jensen(
        logits, means, covs, grad_fn, log_tau, compat=compat
    )
    if bound == "jensen":
        return jensen
    grads = jax.vmap(grad_fn)(means)
    candidates, feasible = mixture_lse(
        logits, means, covs, grads, log_tau, weight_threshold, compat=compat
    )
    allowed = feasible if infeasible == "drop" else heavy(logits, weight_threshold)
    if bound == "both":
        candidates = jnp.concatenate([candidates, jensen[None]])
        allowed = jnp.append(allowed, jensen_feasible)
    values = jnp.where(allowed, jax.vmap(q_fn)(candidates), -jnp.inf)
    return candidates[jnp.argmax(values)]


def heavy(logits: Array, weight_threshold: Array | float) -> Array:
    """Which components [N] have a weight of at least ξ; the heaviest always has."""
    weights = jax.nn.softmax(logits)
    return (weights >= weight_threshold) | (weights >= jnp.max(weights))


def _direction(cov: Array, grad: Array) -> Array:
    """Σg/‖g‖_Σ for variances [A] or a matrix [A, A]; 0 where g is 0."""
    size = jnp.max(jnp.abs(grad))  # the direction does not depend on it, floats do
    grad = grad / jnp.where(size > 0, size, 1.0)
    along = cov * grad if cov.ndim == 1 else cov @ grad
    square = grad @ along
    return jnp.where(square > 0, along / jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _log_det(covs: Array) -> Array:
    """log det 2πΣ of [N, A] variances or [N, A, A] matrices; NaN without a density."""
    action_dim = covs.shape[-1]
    if covs.ndim == 2:
        log_variances = jnp.log(covs)
    else:
        diagonals = jnp.diagonal(jnp.linalg.cholesky(covs), axis1=-2, axis2=-1)
        log_variances = 2 * jnp.log(diagonals)
    log_det = action_dim * LOG_2PI + jnp.sum(log_variances, axis=-1)
    return jnp.where(jnp.isfinite(log_det), log_det, jnp.nan)


def _positive(x: Array | float) -> Array:
    return jnp.maximum(x, 0.0)


def _floats(*arrays: Array) -> list[Array]:
    dtype = jnp.result_type(float, *arrays)
    return [jnp.asarray(array, dtype) for array in arrays]


def _check_mixture(
    logits: Array, means: Array, covs: Array, log_tau: Array | float, compat: str
) -> None:
    require_option("compat", compat, ("", "official"))
    if means.ndim != 2:
        raise UserError(
            f"means have shape {means.shape}: pass one mean per component, [N, A]."
        )
    checks.weights(logits, means.shape[0])
    checks.radius("log_tau", log_tau)
    checks.covariance("covs", covs, means.shape[1], batch=means.shape[0])
    if compat and covs.ndim != 2:
        raise UserError(
            'compat="official" knows diagonal covariances only: pass variances '
            "[N, A], or leave compat out."
        )
