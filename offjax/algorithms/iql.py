"""Implicit Q-learning (Kostrikov et al., 2022, arXiv:2110.06169).

    V   minimise E L₂^κ(min_k Q̄_k(s, a) − V(s)),  L₂^κ(x) = |κ − 1{x < 0}| x²
    π   minimise −E min(exp(β A), 100) log π(a|s),  A = min_k Q̄_k(s, a) − V(s)
    Q   minimise Σ_k E (r + γ (1 − terminal) V(s') − Q_k(s, a))²

in this order, each reading what the one before has just learnt, as the authors' code
does (CORL's reads V from before its step: `stale_value`); κ is the expectile, β the
inverse temperature, Q̄ the target critics. The policy is a Gaussian with a mean in
[-1, 1] and a deviation that does not depend on the state; its step size falls to 0
along a cosine.
"""

from __future__ import annotations

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms.common import (
    Network,
    Trained,
    bootstrap,
    critics,
    descend,
    inputs_of,
    q_values,
    squared_error,
    trained,
)
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import LOG_2PI, Distribution, gaussian
from offjax.networks.gaussian import GlobalStdGaussian
from offjax.networks.mlp import MLP
from offjax.types import Context, Key, Pytree, Transitions, config, static


@config
class Config:
    """Hyperparameters; the defaults are the authors' for locomotion.

    Attributes:
      expectile: κ.
      temperature: β, which multiplies the advantage.
      advantage_clip: upper bound of exp(β A).
      actor_decay_steps: updates over which the policy's step size falls to 0.
      dropout: share of the policy's hidden units that training leaves out.
      critic_only: leave the policy out, for methods that need Q alone.
      stale_value: policy and critics read V from before its step, which saves a pass.
    """

    lr: float = 3e-4
    actor_lr: float = 3e-4
    actor_decay_steps: float = 1e6
    discount: float = 0.99
    polyak: float = 0.005
    expectile: float = 0.7
    temperature: float = 3.0
    advantage_clip: float = 100.0
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    dropout: float = static(default=0.0)
    critic_only: bool = False
    stale_value: bool = False


class State(flax.struct.PyTreeNode):
    """Policy, critics and value function, and the transforms of the data."""

    actor: Trained
    critic: Trained
    value: Trained
    target_params: Pytree
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


def _actor(config: Config, action_dim: int) -> Network:
    return GlobalStdGaussian(config.hidden_dims, action_dim, dropout=config.dropout)


def _value(config: Config) -> Network:
    return MLP(config.hidden_dims, 1)


def _actor_optimiser(config: Config) -> optax.GradientTransformation:
    def rate(count: chex.Array) -> chex.Array:
        share = jnp.minimum(count / config.actor_decay_steps, 1.0)
        return config.actor_lr * 0.5 * (1 + jnp.cos(jnp.pi * share))

    return optax.adam(rate)


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for its statistics."""
    del context
    observation, action, normalizer, action_box = inputs_of(example)
    actor_key, critic_key, value_key = jax.random.split(key, 3)
    actor = _actor(config, action.shape[-1]).init(actor_key, observation)
    critic = critics(config.hidden_dims).init(critic_key, observation, action)
    value = _value(config).init(value_key, observation)
    adam = optax.adam(config.lr)
    return State(
        trained(actor, _actor_optimiser(config)),
        trained(critic, adam),
        trained(value, adam),
        jax.tree.map(jnp.copy, critic),
        normalizer,
        action_box,
        key,
        jnp.int32(0),
    )


def value_loss(
    params: Pytree, observations: chex.Array, q: chex.Array, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Expectile loss of V towards the target critics' minimum [B]; aux is V [B]."""
    value = _value(config).apply(params, observations)[..., 0]
    error = q - value
    weight = jnp.where(error > 0, config.expectile, 1 - config.expectile)
    return jnp.mean(weight * error**2), value


def actor_loss(
    params: Pytree,
    observations: chex.Array,
    actions: chex.Array,
    advantages: chex.Array,
    config: Config,
    key: Key | None = None,
) -> tuple[chex.Array, None]:
    """Advantage-weighted negative log-likelihood of actions in [-1, 1].

    `key` decides what dropout leaves out; without it nothing is.
    """
    rngs = {} if key is None else {"dropout": key}
    actor = _actor(config, actions.shape[-1])
    mean, log_std = actor.apply(params, observations, key is not None, rngs=rngs)
    z = (actions - mean) / jnp.exp(log_std)
    log_prob = -0.5 * jnp.sum(z**2 + 2 * log_std + LOG_2PI, axis=-1)
    weight = jnp.exp(config.temperature * advantages)
    weight = jnp.minimum(weight, config.advantage_clip)
    return -jnp.mean(jax.lax.stop_gradient(weight) * log_prob), None


def critic_loss(
    params: Pytree,
    observations: chex.Array,
    actions: chex.Array,
    targets: chex.Array,
    config: Config,
) -> tuple[chex.Array, None]:
    """Sum over the critics of their mean squared error towards targets [B]."""
    q = critics(config.hidden_dims).apply(params, observations, actions)
    return squared_error(q, targets), None


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of V, then of the policy, then of the critics, then of the targets."""
    del context
    observations = state.normalizer(batch.observations)
    next_observations = state.normalizer(batch.next_observations)
    actions = state.action_box.to_unit(batch.actions)
    adam = optax.adam(config.lr)
    q = (
        critics(config.hidden_dims)
        .apply(state.target_params, observations, actions)
        .min(0)
    )
    value, loss_v, v = descend(value_loss, state.value, adam, observations, q, config)
    metrics = {"iql/value_loss": loss_v, "iql/q": jnp.mean(q)}

    actor = state.actor
    if not config.critic_only:
        if not config.stale_value:
            v = _value(config).apply(value.params, observations)[..., 0]
        actor, metrics["iql/actor_loss"], _ = descend(
            actor_loss,
            actor,
            _actor_optimiser(config),
            observations,
            jnp.clip(actions, -1 + 1e-5, 1 - 1e-5),
            q - v,
            config,
            jax.random.fold_in(state.key, state.step) if config.dropout > 0 else None,
        )
    read = state.value if config.stale_value else value
    next_v = _value(config).apply(read.params, next_observations)[..., 0]
    targets = bootstrap(batch, next_v, config.discount)
    critic, metrics["iql/critic_loss"], _ = descend(
        critic_loss, state.critic, adam, observations, actions, targets, config
    )
    target_params = optax.incremental_update(
        critic.params, state.target_params, config.polyak
    )
    state = state.replace(
        actor=actor,
        critic=critic,
        value=value,
        target_params=target_params,
        step=state.step + 1,
    )
    return state, metrics


def distribution(state: State, observation: chex.Array, config: Config) -> Distribution:
    """The learnt policy at one raw observation [O]."""
    box = state.action_box
    mean, log_std = _actor(config, box.low.shape[-1]).apply(
        state.actor.params, state.normalizer(observation)
    )
    return gaussian(mean, jnp.exp(log_std), box.shift, box.scale)


def q_value(
    state: State, observation: chex.Array, action: chex.Array, config: Config
) -> chex.Array:
    """Minimum of the two online critics [] at one raw observation and action."""
    return q_values(state, config.hidden_dims, observation, action).min(0)
