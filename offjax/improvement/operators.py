"""The closed-form operators as `types.Improvement` wants them.

`(distribution, q, key, config) → action` for one state, with `q(action) → value` at
that state. Tanh-squashed policies are improved in latent space: the step starts at the
mean before tanh, under the latent covariance, along the gradient of the critic after
tanh. For the others the latent is the action in units of its box, and proposals are
clipped to it.
"""

from __future__ import annotations

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.improvement import checks, closed_form, latent
from offjax.improvement.latent import QFn
from offjax.types import Key, config


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
        checks.at_least(self, log_tau=0, log_tau_max=0, num_draws=1)
        checks.log_tau_range(self.log_tau, self.log_tau_max, self.num_draws)


@config
class MixtureConfig:
    """I_MG; see `closed_form.mixture` for `bound`, `infeasible` and `compat`.

    Attributes:
      log_tau: size of the trust region; the lowest of them if there are many.
      log_tau_max: the highest, where `num_draws` > 1.
      weight_threshold: ξ, the weight below which a component proposes nothing.
      num_draws: uniform draws of log τ per action, of which the critic picks one.
      bound: which of the two lower bounds proposes: "lse", "jensen" or "both".
      infeasible: what a component without a step proposes; see `closed_form.mixture`.
      space: as in `GaussianConfig`.
      compat: "" or "official"; see `closed_form.mixture`.
    """

    log_tau: float = 0.5
    log_tau_max: float = 1.0
    weight_threshold: float = 0.05
    num_draws: int = 1
    bound: str = "both"
    infeasible: str = "keep"
    space: str = "latent"
    compat: str = ""

    def validate(self) -> None:
        """Raises `UserError` for trust regions that are none, or no draw."""
        checks.at_least(self, log_tau=0, log_tau_max=0, weight_threshold=0, num_draws=1)
        checks.log_tau_range(self.log_tau, self.log_tau_max, self.num_draws)


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
        checks.at_least(self, delta=0, num_candidates=1)


def gaussian(
    distribution: Distribution, q: QFn, key: Key, config: GaussianConfig
) -> chex.Array:
    """I_SG: action [A] that improves a single Gaussian.

    Raises:
      UserError: a policy that is not one Gaussian.
    """
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
) -> chex.Array:
    """I_MG: action [A] that improves a mixture (or one Gaussian).

    Raises:
      UserError: a policy without a density, or an unknown option.
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
) -> chex.Array:
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
    improve: Callable[[chex.Array], chex.Array],
    q_fn: QFn,
    key: Key,
    config: GaussianConfig | MixtureConfig,
) -> chex.Array:
    if config.num_draws == 1:
        return improve(config.log_tau)
    draws = jax.random.uniform(
        key, (config.num_draws,), minval=config.log_tau, maxval=config.log_tau_max
    )
    proposals = jax.vmap(improve)(draws)
    return proposals[jnp.argmax(jax.vmap(q_fn)(proposals))]
