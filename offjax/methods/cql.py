"""Conservative Q-learning, CQL(H) (Kumar et al., 2020, arXiv:2006.04779).

    Q   minimize Σ_k E (r + γ (1 − terminal) min_j Q̄_j(s', a') − Q_k(s, a))²
            + α_cql E [log Σ_a exp Q_k(s, a) − Q_k(s, a_data)],  a' ~ π(s')
    π   minimize E [η log π(a|s) − min_k Q_k(s, a)],  a ~ π(s)
    η   minimize −log η E [log π(a|s) − A]           (target entropy −A)

The log-sum over actions is estimated by importance sampling from the uniform
distribution, π(s) and π(s'), `num_actions` each. With `lagrange` the penalty's weight
is α_cql α', and α' rises while the gap of values is above `target_action_gap`. All
losses read the weights before the step, as in public implementations.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.datasets.views import TransitionData, TransitionView
from offjax.distributions import Distribution, gaussian
from offjax.improvement import improvement
from offjax.methods.common import (
    LayersConfig,
    Network,
    TrainState,
    actor_critic,
    bootstrap,
    critics,
    domain,
    min_q_value,
    narrow,
    pick,
    soft_update,
    squared_error,
    start_actor_critic,
    step_rewards,
    zeros,
)
from offjax.networks.gaussian import TanhGaussian, tanh_sample
from offjax.networks.trained import Trained, descend, trained
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Pytree,
    Recipe,
    Stage,
    Transitions,
    Upstream,
    config,
)


@config
class Config(LayersConfig):
    """Hyperparameters; the defaults are CORL's for locomotion.

    Attributes:
      actor_lr: Adam's step size, of log η too.
      lagrange_lr: Adam's step size of log α'.
      alpha: α_cql, weight of the conservative penalty.
      num_actions: samples from each of the three proposals.
      lagrange: tune the penalty's weight towards `target_action_gap`.
      target_action_gap: gap of values that `lagrange` aims at.
      max_target: the target takes the best of `num_actions` actions of π(s').
      gap_min: lower clip of the gap of values, row by row.
    """

    actor_lr: float = 3e-5
    critic_lr: float = 3e-4
    lagrange_lr: float = 3e-4
    discount: float = 0.99
    tau: float = 0.005
    alpha: float = 10.0
    num_actions: int = 10
    lagrange: bool = False
    target_action_gap: float = 5.0
    max_target: bool = False
    gap_min: float = -np.inf
    hidden_dims: tuple[int, ...] = (256, 256, 256)
    batch_size: int = 256


class State(TrainState):
    """Policy, critics, and the two dual variables."""

    actor: Trained
    critic: Trained
    target_critic: Pytree
    log_temperature: Trained
    log_alpha_prime: Trained


class Noise(NamedTuple):
    """What one update draws: standard normal but for `uniform`, in [-1, 1]."""

    policy: Array  # [B, 1, A] for π(s) in the policy's loss
    target: Array  # [B, M, A] for π(s') in the target; M = 1 or num_actions
    uniform: Array  # [B, n, A]
    here: Array  # [B, n, A] for π(s) in the penalty
    there: Array  # [B, n, A] for π(s') in the penalty


def draw_noise(key: Key, actions: Array, config: Config) -> Noise:
    """The noise of one update, for recorded actions [B, A]."""
    keys = jax.random.split(key, 5)
    batch_size, action_dim = actions.shape
    many, one = (batch_size, config.num_actions, action_dim), actions[:, None].shape
    return Noise(
        jax.random.normal(keys[0], actions.shape)[:, None],
        jax.random.normal(keys[1], many if config.max_target else one),
        jax.random.uniform(keys[2], many, minval=-1.0, maxval=1.0),
        jax.random.normal(keys[3], many),
        jax.random.normal(keys[4], many),
    )


def _actor(config: Config, action_dim: int) -> Network:
    return TanhGaussian(config.hidden_dims, action_dim)


def _sample(
    params: Pytree, observations: Array, noise: Array, config: Config
) -> tuple[Array, Array]:
    """Actions [B, n, A] and log densities [B, n] for noise [B, n, A]."""
    actor = _actor(config, noise.shape[-1])
    mean, log_std = actor.apply(params, observations)
    return tanh_sample(mean[:, None], log_std[:, None], noise)


def _values(
    params: Pytree, observations: Array, actions: Array, config: Config
) -> Array:
    """Both critics [2, B, n] at n actions [B, n, A] of each observation."""
    # Products of one tall matrix are faster than those of a stack of matrices.
    rows = jnp.repeat(observations, actions.shape[1], axis=0)
    flat = actions.reshape(-1, actions.shape[-1])
    q = critics(config.hidden_dims).apply(params, rows, flat)
    return q.reshape(2, *actions.shape[:2])


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    _, action = zeros(data)
    networks = _actor(config, action.shape[-1]), critics(config.hidden_dims)
    return State(
        **start_actor_critic(key, data, *networks, config, config.initialization),
        log_temperature=trained(jnp.float32(0.0), optax.adam(config.actor_lr)),
        log_alpha_prime=trained(jnp.float32(1.0), optax.adam(config.lagrange_lr)),
    )


def actor_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Loss of the policy; info is the mean log density of its actions."""
    observations = state.normalizer(batch.observations)
    noise = draw_noise(key, batch.actions, config)
    actions, log_prob = _sample(params, observations, noise.policy, config)
    q = _values(state.critic.params, observations, actions, config).min(0)
    loss = jnp.mean(jnp.exp(state.log_temperature.params) * log_prob - q)
    return loss, jnp.mean(log_prob)


def critic_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Bellman errors plus penalties of both critics; info is their gaps [2]."""
    actor, noise = state.actor.params, draw_noise(key, batch.actions, config)
    observations = state.normalizer(batch.observations)
    following = state.normalizer(batch.next_observations)
    recorded = state.action_box.to_unit(batch.actions)
    sample, _ = _sample(actor, following, noise.target, config)
    next_q = _values(state.target_critic, following, sample, config).min(0).max(-1)
    q = critics(config.hidden_dims).apply(params, observations, recorded)
    bellman = squared_error(q, bootstrap(batch, next_q, config.discount))

    here, log_here = _sample(actor, observations, noise.here, config)
    there, log_there = _sample(actor, following, noise.there, config)
    actions = jnp.concatenate([noise.uniform, there, here], axis=1)
    action_dim = noise.uniform.shape[-1]
    log_uniform = jnp.full_like(log_here, -action_dim * jnp.log(2.0))
    log_probs = jnp.concatenate([log_uniform, log_there, log_here], axis=1)
    sampled = _values(params, observations, actions, config) - log_probs
    gaps = jax.nn.logsumexp(sampled, axis=-1) - q
    gaps = jnp.mean(jnp.maximum(gaps, config.gap_min), axis=-1)
    if not config.lagrange:
        return bellman + config.alpha * jnp.sum(gaps), gaps
    alpha_prime = jnp.clip(jnp.exp(state.log_alpha_prime.params), 0.0, 1e6)
    penalty = alpha_prime * config.alpha * jnp.sum(gaps - config.target_action_gap)
    return bellman + penalty, gaps


def temperature_loss(
    log_temperature: Array, log_prob: Array, action_dim: int
) -> tuple[Array, None]:
    """Moves the policy's entropy towards −A, from the mean log density; no info."""
    return -log_temperature * (log_prob - action_dim), None


def alpha_prime_loss(
    log_alpha_prime: Array, gaps: Array, config: Config
) -> tuple[Array, None]:
    """Raises α' while the gaps [2] are above `target_action_gap`; no info."""
    alpha_prime = jnp.clip(jnp.exp(log_alpha_prime), 0.0, 1e6)
    excess = jnp.mean(gaps) - config.target_action_gap
    return -alpha_prime * config.alpha * excess, None


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of everything, all from the weights before it."""
    key = jax.random.fold_in(state.key, state.step)
    actor_adam = optax.adam(config.actor_lr)
    actor, loss_pi, log_prob = descend(
        actor_loss, state.actor, actor_adam, state, batch, key, config
    )
    adam = optax.adam(config.critic_lr)
    critic, loss_q, gaps = descend(
        critic_loss, state.critic, adam, state, batch, key, config
    )
    entropy = (log_prob, batch.actions.shape[-1])
    log_temperature, *_ = descend(
        temperature_loss, state.log_temperature, actor_adam, *entropy
    )
    log_alpha_prime = state.log_alpha_prime
    if config.lagrange:
        adam = optax.adam(config.lagrange_lr)
        log_alpha_prime, *_ = descend(
            alpha_prime_loss, log_alpha_prime, adam, gaps, config
        )
    state = state.replace(
        actor=actor,
        critic=critic,
        target_critic=soft_update(critic.params, state.target_critic, config.tau),
        log_temperature=log_temperature,
        log_alpha_prime=log_alpha_prime,
        step=state.step + 1,
    )
    return state, {
        "cql/actor_loss": loss_pi,
        "cql/critic_loss": loss_q,
        "cql/gap": jnp.mean(gaps),
        "cql/entropy": -log_prob,
    }


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """The learned policy, tanh of a Gaussian, at one raw observation [O]."""
    state, box = model.state, model.state.action_box
    mean, log_std = _actor(model.config, box.low.shape[-1]).apply(
        state.actor.params, state.normalizer(observation)
    )
    return gaussian(mean, jnp.exp(log_std), box.shift, box.scale, squashed=True)


METHOD = Method("cql", 1, init, update, act, min_q_value)


def kind_of(dataset: str) -> tuple[str, str]:
    """(environment, kind) of a dataset id: ("hopper", "medium-replay"), or "" each."""
    environments = ("halfcheetah", "hopper", "walker2d")
    environment = next((e for e in environments if e in dataset.lower()), "")
    kinds = ("medium-replay", "medium-expert", "medium")
    return environment, next((k for k in kinds if k in dataset.lower()), "")


def for_dataset(recipe: Recipe, dataset: str) -> Recipe:
    """The recipe as CORL has it for a dataset id: on hopper-medium `unit_returns`."""
    if kind_of(dataset) != ("hopper", "medium"):
        return recipe

    def published(stage: Stage) -> Stage:
        if stage.method is not METHOD:
            return stage
        view = dataclasses.replace(stage.view, unit_returns=True)  # type: ignore[type-var]
        return dataclasses.replace(stage, view=view)

    return dataclasses.replace(recipe, stages=tuple(map(published, recipe.stages)))


def _settings(kind: str, preset: str) -> dict[str, Any]:
    """Hyperparameters of a domain."""
    by_domain: dict[str, dict[str, Any]] = {
        "maze2d": {"lagrange": True},
        "antmaze": {
            "alpha": 5.0,
            "lagrange": True,
            "target_action_gap": 0.8,
            "actor_lr": 1e-4,
            "max_target": True,
            "gap_min": -200.0,
            "hidden_dims": (256, 256, 256, 256, 256),
        },
        "adroit": {"alpha": 1.0, "actor_lr": 1e-4},
    }
    settings = by_domain.get(kind, {})
    if preset == "paper":
        return settings
    # The critic's passes per row are three for each action.
    return settings | {
        **narrow(preset),
        "actor_lr": 1e-4,
        "num_actions": 5,
    }


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `cql` with CORL's settings."""
    kind = domain(spec)
    view = TransitionView(normalize=kind != "budget", reward_scale=step_rewards(spec))
    if kind == "antmaze":
        view = TransitionView(normalize=False, reward_scale=10.0, reward_shift=-5.0)
    return Stage(
        "cql",
        METHOD,
        Config(**_settings(kind, preset)),
        view,
        num_steps=pick(preset, paper=1_000_000, small=100_000, demo=10_000),
    )


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Conservative Q-learning, acting with tanh of the policy's mean."""
    return actor_critic(stage(spec, preset), for_dataset=for_dataset)


def cql_cfpi(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_SG on the policy and the critic of CQL, before tanh; log τ = 0.1."""
    return dataclasses.replace(
        recipe(spec, preset),
        name="cql_cfpi",
        improve=improvement("closed_form_gaussian", log_tau=0.1),
    )
