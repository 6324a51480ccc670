"""Iterative CFPI: the critic of the closed-form improved policy, Algorithm 2.

Li et al., Offline Reinforcement Learning with Closed-Form Policy Improvement Operators,
2023:

    a'  = clip(I_MG(β, min_k Q_k; τ)(s') + clip(ε, −c, c), −1, 1),  ε ~ N(0, σ²)
    y   = r + γ (1 − terminal) min_k Q̄_k(s', a')

and every critic regresses on y. The behavior model β is fixed (stage `bc`), the online
critics rank and give gradients, and the first `warmup_steps` take the recorded next
action without noise, which is SARSA with a pessimistic target. The critics, their
losses and their joining for acting are those of `sarsa`.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from offjax.improvement import improvement, operators
from offjax.methods import bc, sarsa
from offjax.methods.common import memoryless, narrow, pick, reads_critic
from offjax.methods.sarsa import State, init
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Pytree,
    QFunction,
    Recipe,
    Stage,
    Transitions,
    Upstream,
    config,
)


@config
class Config(sarsa.Config):
    """Hyperparameters beside those of `sarsa`; the paper's for AntMaze.

    Attributes:
      log_tau: size of the trust region in the target.
      weight_threshold: ξ of the operator.
      bound: "both", "lse" (the release's) or "jensen".
      infeasible: what a component without a feasible point proposes: "drop" nothing,
        "keep" its mean.
      compat: "official" for the release's steps.
      warmup_steps: updates with the recorded next action.
      target_noise: σ, in units of the action box.
      noise_clip: c.
      lower_bound_beta: β where `aggregate` is "mean_std", in training and acting.
    """

    log_tau: float = 1.5
    weight_threshold: float = 0.0
    bound: str = "both"
    infeasible: str = "drop"
    compat: str = ""
    warmup_steps: float = 20_000.0
    target_noise: float = 0.1
    noise_clip: float = 0.5
    lower_bound_beta: float = 1.0


def improved_actions(
    behavior: Model,
    q: QFunction,
    observations: Array,
    settings: operators.MixtureConfig,
    key: Key,
) -> Array:
    """I_MG of the behavior model at raw observations [B, O] → actions [B, A]."""

    def improve(observation: Array) -> Array:
        distribution = behavior.act(observation, key)
        return operators.mixture(distribution, partial(q, observation), key, settings)

    return jax.vmap(improve)(observations)


def next_actions(
    state: State, batch: Transitions, key: Key, config: Config, behavior: Model
) -> Array:
    """Actions [B, A] of the target: improved and noisy, recorded ones at first."""
    settings = operators.MixtureConfig(
        log_tau=config.log_tau,
        weight_threshold=config.weight_threshold,
        bound=config.bound,
        infeasible=config.infeasible,
        compat=config.compat,
    )
    online = Model(METHOD, config, state)
    improved = improved_actions(
        behavior, online.q_value, batch.next_observations, settings, key
    )
    noise = config.target_noise * jax.random.normal(key, improved.shape)
    noise = jnp.clip(noise, -config.noise_clip, config.noise_clip)
    box = state.action_box
    improved = box.from_unit(jnp.clip(box.to_unit(improved) + noise, -1.0, 1.0))
    warm = state.step < config.warmup_steps
    return jnp.where(warm, batch.next_actions, improved)


def critic_loss(
    params: Pytree,
    state: State,
    batch: Transitions,
    key: Key,
    config: Config,
    behavior: Model,
) -> tuple[Array, Array]:
    """Each critic's loss towards the lowest target, summed; info is the targets.

    Fractions are drawn from `key`, the noise of the actions from 1 folded into it.
    """
    actions = next_actions(state, batch, jax.random.fold_in(key, 1), config, behavior)
    fractions = sarsa.draw_noise(key, batch.rewards.shape[0], config)
    values = sarsa.next_values(state, batch, actions, fractions, config)
    values = jnp.broadcast_to(jnp.min(values, axis=0), values.shape)
    targets = sarsa.bootstrap(batch, values, config)
    return sarsa.regression(params, targets, state, batch, fractions, config), targets


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of every critic towards the improved policy's value."""
    return sarsa.learn(critic_loss, state, batch, config, upstream["bc"])


def q_value(model: Model, observation: Array, action: Array) -> Array:
    """Joined value [] at one raw observation [O] and environment action [A]."""
    values = sarsa.member_values(model.state, model.config, observation, action)
    ensemble = sarsa.Ensemble(lower_bound_beta=model.config.lower_bound_beta)
    return sarsa.aggregate(values, model.config, ensemble)


METHOD = Method("iterative_cfpi", 1, init, update, q_value=q_value)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Algorithm 2: the critic's targets use I_MG; log τ = 1.5 throughout."""
    iterative = Stage(
        "critic",
        METHOD,
        Config(
            warmup_steps=pick(preset, paper=20_000.0, small=5_000.0, demo=500.0),
            **narrow(preset),
        ),
        bc.cfpi_view(spec, next_actions=True),
        num_steps=pick(preset, paper=1_000_000, small=100_000, demo=5_000),
        reads=("bc",),
    )
    return Recipe(
        "iterative_cfpi",
        (bc.behavior(spec, preset), iterative),
        memoryless("bc"),
        improve=improvement("closed_form_mixture", log_tau=1.5),
        critic=reads_critic("critic"),
    )
