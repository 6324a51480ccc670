"""Critic of the closed-form improved policy: iterative CFPI, Algorithm 2.

Li et al., Offline Reinforcement Learning with Closed-Form Policy Improvement Operators,
2023:

    a'  = clip(I_MG(β, min_k Q_k; τ)(s') + clip(ε, −c, c), −1, 1),  ε ~ N(0, σ²)
    y   = r + γ (1 − terminal) min_k Q̄_k(s', a')

and every critic regresses on y. The behaviour model β is fixed (stage `bc`), the online
critics rank and give gradients, and the first `warmup_steps` take the recorded next
action without noise, which is SARSA with a pessimistic target. The critics, their
losses and their joining for acting are those of `sarsa`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from offjax.algorithms import bc, sarsa
from offjax.algorithms.sarsa import State, init, q_value
from offjax.improvement import operators
from offjax.types import Context, Key, Transitions, config

__all__ = ["Config", "State", "improved_actions", "init", "q_value", "update"]


@config
class Config(sarsa.Config):
    """Hyperparameters beside those of `sarsa`; the paper's for AntMaze.

    Attributes:
      log_tau: size of the trust region in the target.
      weight_threshold: ξ of the operator.
      bound: "both", "lse" (the release's) or "jensen".
      compat: "official" for the release's steps.
      warmup_steps: updates with the recorded next action.
      target_noise: σ, in units of the action box.
      noise_clip: c.
      behavior: stage of the behaviour model (algorithm `bc`).
    """

    log_tau: float = 1.5
    weight_threshold: float = 0.05
    bound: str = "both"
    compat: str = ""
    warmup_steps: float = 20_000.0
    target_noise: float = 0.1
    noise_clip: float = 0.5
    behavior: str = "bc"


def improved_actions(
    critic: State,
    config: sarsa.Config,
    behavior: bc.State,
    observations: chex.Array,
    settings: operators.MixtureConfig,
    key: Key,
) -> chex.Array:
    """I_MG of the behaviour model at raw observations [B, O] → actions [B, A]."""

    def improve(observation: chex.Array) -> chex.Array:
        return operators.mixture(
            bc.distribution(behavior, observation, behavior.config),
            lambda action: q_value(critic, observation, action, config),
            key,
            settings,
        )

    return jax.vmap(improve)(observations)


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of every critic towards the improved policy's value."""
    box = state.action_box
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 1)
    settings = operators.MixtureConfig(
        log_tau=config.log_tau,
        weight_threshold=config.weight_threshold,
        bound=config.bound,
        compat=config.compat,
    )
    behavior = context[config.behavior]
    improved = improved_actions(
        state, config, behavior, batch.next_observations, settings, key
    )
    noise = config.target_noise * jax.random.normal(key, improved.shape)
    noise = jnp.clip(noise, -config.noise_clip, config.noise_clip)
    improved = box.from_unit(jnp.clip(box.to_unit(improved) + noise, -1.0, 1.0))
    warm = state.step < config.warmup_steps
    next_actions = jnp.where(warm, batch.next_actions, improved)

    fractions = sarsa.draw_noise(state, batch.rewards.shape[0], config)
    values = sarsa.next_values(state, batch, next_actions, fractions, config)
    values = jnp.broadcast_to(jnp.min(values, axis=0), values.shape)
    targets = sarsa.bootstrap(batch, values, config)
    return sarsa.step(state, targets, batch, fractions, config)
