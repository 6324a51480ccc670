"""Conservative Q-learning, CQL(H) (Kumar et al., 2020, arXiv:2006.04779).

    Q   minimise Σ_k E (r + γ (1 − terminal) min_j Q̄_j(s', a') − Q_k(s, a))²
            + α_cql E [log Σ_a exp Q_k(s, a) − Q_k(s, a_data)],  a' ~ π(s')
    π   minimise E [η log π(a|s) − min_k Q_k(s, a)],  a ~ π(s)
    η   minimise −log η E [log π(a|s) − A]           (target entropy −A)

The log-sum over actions is estimated by importance sampling from the uniform
distribution, π(s) and π(s'), `num_actions` each. With `lagrange` the penalty's weight
is α_cql α', and α' rises while the gap of values is above `lagrange_gap`. All losses
read the weights before the step, as in public implementations.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.algorithms.common import (
    Network,
    Trained,
    critics,
    descend,
    inputs_of,
    q_values,
    squared_error,
    trained,
)
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import Distribution, gaussian
from offjax.networks.gaussian import TanhGaussian, tanh_sample
from offjax.types import Context, Key, Pytree, Transitions, config


@config
class Config:
    """Hyperparameters; the defaults are CORL's for locomotion.

    Attributes:
      alpha: α_cql, weight of the conservative penalty.
      num_actions: samples from each of the three proposals.
      lagrange: tune the penalty's weight towards `lagrange_gap`.
      max_target: the target takes the best of `num_actions` actions of π(s').
      gap_min: lower clip of the gap of values, row by row.
    """

    actor_lr: float = 3e-5
    lr: float = 3e-4
    lagrange_lr: float = 3e-4
    discount: float = 0.99
    polyak: float = 0.005
    alpha: float = 10.0
    num_actions: int = 10
    lagrange: bool = False
    lagrange_gap: float = 5.0
    max_target: bool = False
    gap_min: float = -np.inf
    hidden_dims: tuple[int, ...] = (256, 256, 256)
    batch_size: int = 256


class State(flax.struct.PyTreeNode):
    """Policy, critics, the two dual variables, and the transforms of the data."""

    actor: Trained
    critic: Trained
    target_params: Pytree
    log_temperature: Trained
    log_multiplier: Trained
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


class Noise(NamedTuple):
    """What one update draws: standard normal but for `uniform`, in [-1, 1]."""

    policy: chex.Array  # [B, A] for π(s) in the policy's loss
    target: chex.Array  # [B, M, A] for π(s') in the target; M = 1 or num_actions
    uniform: chex.Array  # [B, n, A]
    here: chex.Array  # [B, n, A] for π(s) in the penalty
    there: chex.Array  # [B, n, A] for π(s') in the penalty


class Rows(NamedTuple):
    """A batch as the networks see it."""

    observations: chex.Array
    actions: chex.Array
    rewards: chex.Array
    next_observations: chex.Array
    masks: chex.Array


def _actor(config: Config, action_dim: int) -> Network:
    return TanhGaussian(config.hidden_dims, action_dim)


def _sample(
    actor_params: Pytree, observations: chex.Array, noise: chex.Array, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Actions [B, n, A] and log densities [B, n] for noise [B, n, A]."""
    actor = _actor(config, noise.shape[-1])
    mean, log_std = actor.apply(actor_params, observations)
    return tanh_sample(mean[:, None], log_std[:, None], noise)


def _values(
    params: Pytree, observations: chex.Array, actions: chex.Array, config: Config
) -> chex.Array:
    """Both critics [2, B, n] at n actions [B, n, A] of each observation.

    As rows of one matrix, whose products are faster than those of a stack of them.
    """
    rows = jnp.repeat(observations, actions.shape[1], axis=0)
    flat = actions.reshape(-1, actions.shape[-1])
    q = critics(config.hidden_dims).apply(params, rows, flat)
    return q.reshape(2, *actions.shape[:2])


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for its statistics."""
    del context
    observation, action, normalizer, action_box = inputs_of(example)
    actor_key, critic_key = jax.random.split(key)
    actor = _actor(config, action.shape[-1]).init(actor_key, observation)
    critic = critics(config.hidden_dims).init(critic_key, observation, action)
    return State(
        trained(actor, optax.adam(config.actor_lr)),
        trained(critic, optax.adam(config.lr)),
        jax.tree.map(jnp.copy, critic),
        trained(jnp.float32(0.0), optax.adam(config.actor_lr)),
        trained(jnp.float32(1.0), optax.adam(config.lagrange_lr)),
        normalizer,
        action_box,
        key,
        jnp.int32(0),
    )


def draw_noise(state: State, batch_size: int, config: Config) -> Noise:
    """The noise of this step."""
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 5)
    action_dim, n = state.action_box.low.shape[-1], config.num_actions
    many, one = (batch_size, n, action_dim), (batch_size, 1, action_dim)
    return Noise(
        jax.random.normal(keys[0], (batch_size, action_dim)),
        jax.random.normal(keys[1], many if config.max_target else one),
        jax.random.uniform(keys[2], many, minval=-1.0, maxval=1.0),
        jax.random.normal(keys[3], many),
        jax.random.normal(keys[4], many),
    )


def actor_loss(
    params: Pytree,
    critic_params: Pytree,
    log_temperature: chex.Array,
    rows: Rows,
    noise: Noise,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Loss of the policy; aux is the mean log density of its actions."""
    samples = noise.policy[:, None]
    actions, log_prob = _sample(params, rows.observations, samples, config)
    q = _values(critic_params, rows.observations, actions, config).min(0)
    loss = jnp.mean(jnp.exp(log_temperature) * log_prob - q)
    return loss, jnp.mean(log_prob)


def temperature_loss(
    log_temperature: chex.Array, mean_log_prob: chex.Array, action_dim: int
) -> tuple[chex.Array, None]:
    """Moves the policy's entropy towards minus the number of action dimensions."""
    return -log_temperature * jax.lax.stop_gradient(mean_log_prob - action_dim), None


def critic_loss(
    params: Pytree, state: State, rows: Rows, noise: Noise, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Bellman errors plus penalties of both critics; aux is their gaps [2]."""
    actor, observations = state.actor.params, rows.observations
    sample = jax.lax.stop_gradient(
        _sample(actor, rows.next_observations, noise.target, config)[0]
    )
    next_q = _values(state.target_params, rows.next_observations, sample, config)
    next_q = next_q.min(0).max(-1)
    targets = rows.rewards + config.discount * rows.masks * next_q
    q = critics(config.hidden_dims).apply(params, observations, rows.actions)
    bellman = squared_error(q, targets)

    here, log_here = _sample(actor, observations, noise.here, config)
    there, log_there = _sample(actor, rows.next_observations, noise.there, config)
    actions = jnp.concatenate([noise.uniform, there, here], axis=1)
    action_dim = noise.uniform.shape[-1]
    log_uniform = jnp.full_like(log_here, -action_dim * jnp.log(2.0))
    log_probs = jnp.concatenate([log_uniform, log_there, log_here], axis=1)
    actions, log_probs = jax.lax.stop_gradient((actions, log_probs))
    sampled = _values(params, observations, actions, config) - log_probs
    gaps = jax.nn.logsumexp(sampled, axis=-1) - q
    gaps = jnp.mean(jnp.maximum(gaps, config.gap_min), axis=-1)
    if not config.lagrange:
        return bellman + config.alpha * jnp.sum(gaps), gaps
    multiplier = jnp.clip(jnp.exp(state.log_multiplier.params), 0.0, 1e6)
    penalty = multiplier * config.alpha * jnp.sum(gaps - config.lagrange_gap)
    return bellman + penalty, gaps


def multiplier_loss(
    log_multiplier: chex.Array, gaps: chex.Array, config: Config
) -> tuple[chex.Array, None]:
    """Raises α' while the gaps [2] are above `lagrange_gap`."""
    multiplier = jnp.clip(jnp.exp(log_multiplier), 0.0, 1e6)
    excess = jax.lax.stop_gradient(jnp.mean(gaps)) - config.lagrange_gap
    return -multiplier * config.alpha * excess, None


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of everything, all from the weights before it."""
    del context
    rows = Rows(
        state.normalizer(batch.observations),
        state.action_box.to_unit(batch.actions),
        batch.rewards,
        state.normalizer(batch.next_observations),
        1 - batch.terminals,
    )
    noise = draw_noise(state, batch.rewards.shape[0], config)
    actor_adam, adam = optax.adam(config.actor_lr), optax.adam(config.lr)
    actor, loss_pi, log_prob = descend(
        actor_loss,
        state.actor,
        actor_adam,
        state.critic.params,
        state.log_temperature.params,
        rows,
        noise,
        config,
    )
    critic, loss_q, gaps = descend(
        critic_loss, state.critic, adam, state, rows, noise, config
    )
    temperature, *_ = descend(
        temperature_loss,
        state.log_temperature,
        actor_adam,
        log_prob,
        rows.actions.shape[-1],
    )
    multiplier = state.log_multiplier
    if config.lagrange:
        multiplier, *_ = descend(
            multiplier_loss, multiplier, optax.adam(config.lagrange_lr), gaps, config
        )
    state = state.replace(
        actor=actor,
        critic=critic,
        target_params=optax.incremental_update(
            critic.params, state.target_params, config.polyak
        ),
        log_temperature=temperature,
        log_multiplier=multiplier,
        step=state.step + 1,
    )
    metrics = {
        "cql/actor_loss": loss_pi,
        "cql/critic_loss": loss_q,
        "cql/gap": jnp.mean(gaps),
        "cql/entropy": -log_prob,
    }
    return state, metrics


def distribution(state: State, observation: chex.Array, config: Config) -> Distribution:
    """The learnt policy, tanh of a Gaussian, at one raw observation [O]."""
    box = state.action_box
    mean, log_std = _actor(config, box.low.shape[-1]).apply(
        state.actor.params, state.normalizer(observation)
    )
    return gaussian(mean, jnp.exp(log_std), box.shift, box.scale, squashed=True)


def q_value(
    state: State, observation: chex.Array, action: chex.Array, config: Config
) -> chex.Array:
    """Minimum of the two online critics [] at one raw observation and action."""
    return q_values(state, config.hidden_dims, observation, action).min(0)
