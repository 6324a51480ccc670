"""The closed-form operators as `types.Improvement` wants them.

`(distribution, q, key, config) → action` for one state, with `q(action) → value` at
that state; `offjax.improvement.latent` says where they work.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from offjax.distributions import Distribution
from offjax.errors import UserError, require_least
from offjax.improvement import checks, closed_form, latent
from offjax.improvement.latent import QFn
from offjax.types import Array, Key, config


@config
class GaussianConfig:
    """I_SG; the paper's headline is log τ = 0.5, the release's 10 draws of [0.2, 2].

    Attributes:
      log_tau: size of the trust region; the lowest of them if there are many.
      log_tau_max: the highest, where `num_draws` > 1.
      num_draws: uniform draws of log τ per action, of which the critic picks one.
      space: "latent", or "action": expand at the squashed mean, with the latent
        covariance in action space (the release, on policies that CQL learns).
    """

    log_tau: float = 0.5
    log_tau_max: float = 2.0
    num_draws: int = 1
    space: str = "latent"

    def validate(self) -> None:
        """Raises `UserError` for trust regions that are none, or no draw."""
        require_least(0, log_tau=self.log_tau, log_tau_max=self.log_tau_max)
        require_least(1, num_draws=self.num_draws)
        if self.num_draws > 1 and self.log_tau_max < self.log_tau:
            raise UserError(
                f"log_tau is {self.log_tau} and log_tau_max {self.log_tau_max}: with "
                "num_draws > 1 they are the ends of a range, so the first must not be "
                "above the second."
            )


@config
class MixtureConfig(GaussianConfig):
    """I_MG as printed; see `closed_form.mixture` for what the options mean.

    `infeasible="keep", weight_threshold=0.05` lets a component without a feasible point
    propose its mean, so that log τ → 0 tends to mode selection.

    Attributes:
      weight_threshold: ξ, the weight below which a component proposes nothing.
      bound: which of the two lower bounds proposes: "lse", "jensen" or "both".
      infeasible: what a component without a step proposes; see `closed_form.mixture`.
      compat: "" or "official"; see `closed_form.mixture`.
    """

    log_tau_max: float = 1.0
    weight_threshold: float = 0.0
    bound: str = "both"
    infeasible: str = "drop"
    compat: str = ""

    def validate(self) -> None:
        """Raises `UserError` as `GaussianConfig`, and for a negative ξ."""
        GaussianConfig.validate(self)
        require_least(0, weight_threshold=self.weight_threshold)


@config
class DeterministicConfig:
    """I_DET, with the paper's settings.

    Attributes:
      delta: δ; the step has length √(2δ) in units of the action box.
      num_candidates: M samples of a stochastic policy, of which the best by the critic
        is improved (a deterministic policy has one, a decoder as many as it decoded).
      space: "action", the paper's; "latent" steps before tanh, as the release does.
    """

    delta: float = 0.1
    num_candidates: int = 50
    space: str = "action"

    def validate(self) -> None:
        """Raises `UserError` for a negative δ, or no candidate."""
        require_least(0, delta=self.delta)
        require_least(1, num_candidates=self.num_candidates)


def gaussian(
    distribution: Distribution, q: QFn, key: Key, config: GaussianConfig
) -> Array:
    """I_SG: action [A] that improves a single Gaussian; `UserError` for others."""
    checks.has_density(distribution, "closed_form_gaussian")
    if distribution.kind != "gaussian":
        raise UserError(
            "closed_form_gaussian improves one Gaussian, but this policy is a mixture "
            f"of {distribution.logits.shape[0]}: use closed_form_mixture."
        )
    distribution = latent.in_space(distribution, config.space)
    q_fn = latent.critic(distribution, q)
    mean, variances = distribution.means[0], distribution.stds[0] ** 2
    grad = jax.grad(q_fn)(mean)
    action = _best_draw(
        lambda log_tau: closed_form.single_gaussian(mean, variances, grad, log_tau),
        q_fn,
        key,
        config,
    )
    return latent.to_box(distribution, action)


def mixture(
    distribution: Distribution, q: QFn, key: Key, config: MixtureConfig
) -> Array:
    """I_MG: action [A] that improves a mixture, or one Gaussian.

    `UserError` for a policy without a density, or an unknown option.
    """
    checks.has_density(distribution, "closed_form_mixture")
    distribution = latent.in_space(distribution, config.space)
    q_fn = latent.critic(distribution, q)
    action = _best_draw(
        lambda log_tau: closed_form.mixture(
            distribution.logits,
            distribution.means,
            distribution.stds**2,
            q_fn,
            log_tau,
            config.weight_threshold,
            bound=config.bound,
            infeasible=config.infeasible,
            compat=config.compat,
        ),
        q_fn,
        key,
        config,
    )
    return latent.to_box(distribution, action)


def deterministic(
    distribution: Distribution, q: QFn, key: Key, config: DeterministicConfig
) -> Array:
    """I_DET: the best candidate of the policy, moved along the critic's gradient."""
    candidates = latent.candidates(distribution, key, config.num_candidates)
    if config.space == "action" and distribution.squashed:
        candidates = jnp.tanh(candidates)
    distribution = latent.in_space(distribution, config.space)
    q_fn = latent.critic(distribution, q)
    best = candidates[jnp.argmax(jax.vmap(q_fn)(candidates))]
    action = closed_form.deterministic(best, jax.grad(q_fn)(best), config.delta)
    return latent.to_box(distribution, action)


def _best_draw(
    improve: Callable[[Array], Array], q_fn: QFn, key: Key, config: GaussianConfig
) -> Array:
    if config.num_draws == 1:
        return improve(config.log_tau)
    draws = jax.random.uniform(
        key, (config.num_draws,), minval=config.log_tau, maxval=config.log_tau_max
    )
    proposals = jax.vmap(improve)(draws)
    return proposals[jnp.argmax(jax.vmap(q_fn)(proposals))]
