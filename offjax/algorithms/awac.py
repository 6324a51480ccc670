"""AWAC (Nair et al., 2020, arXiv:2006.09359), trained offline.

    Q   minimise mean_k E (r + γ (1 − terminal) min_j Q̄_j(s', a') − Q_k(s, a))²,
        a' ~ π(s')
    π   minimise −E min(exp(A/λ), 100) log π(a|s),
        A = min_k Q_k(s, a) − min_k Q_k(s, ã),  ã ~ π(s)

in this order, the policy with the critics that have just moved (CORL's reading). The
policy is a Gaussian over actions with a free mean and one deviation for all states.
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
    trained,
)
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import LOG_2PI, Distribution, gaussian
from offjax.networks.gaussian import GlobalStdGaussian
from offjax.types import Context, Key, Pytree, Transitions, config


@config
class Config:
    """Hyperparameters; the defaults are CORL's for locomotion.

    Attributes:
      temperature: λ, which divides the advantage.
      weight_max: upper bound of the weights.
    """

    lr: float = 3e-4
    actor_lr: float = 3e-4
    discount: float = 0.99
    polyak: float = 0.005
    temperature: float = 0.3333
    weight_max: float = 100.0
    hidden_dims: tuple[int, ...] = (256, 256, 256)
    batch_size: int = 256


class State(flax.struct.PyTreeNode):
    """Policy and critics, and the transforms of the data."""

    actor: Trained
    critic: Trained
    target_params: Pytree
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


def _actor(config: Config, action_dim: int) -> Network:
    return GlobalStdGaussian(
        config.hidden_dims, action_dim, tanh_mean=False, log_std_min=-20.0
    )


def _sample(
    params: Pytree, observations: chex.Array, noise: chex.Array, config: Config
) -> chex.Array:
    mean, log_std = _actor(config, noise.shape[-1]).apply(params, observations)
    return jnp.clip(mean + jnp.exp(log_std) * noise, -1.0, 1.0)


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
        normalizer,
        action_box,
        key,
        jnp.int32(0),
    )


def critic_loss(
    params: Pytree, state: State, batch: Transitions, noise: chex.Array, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Mean error of both critics for standard noise [B, A]; aux is the target [B]."""
    observations = state.normalizer(batch.observations)
    next_observations = state.normalizer(batch.next_observations)
    next_actions = _sample(state.actor.params, next_observations, noise, config)
    next_q = critics(config.hidden_dims).apply(
        state.target_params, next_observations, next_actions
    )
    targets = bootstrap(batch, next_q.min(0), config.discount)
    actions = state.action_box.to_unit(batch.actions)
    q = critics(config.hidden_dims).apply(params, observations, actions)
    return jnp.mean((q - targets) ** 2), targets


def actor_loss(
    params: Pytree,
    critic_params: Pytree,
    state: State,
    batch: Transitions,
    noise: chex.Array,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Weighted negative log-likelihood; aux is the mean advantage."""
    observations = state.normalizer(batch.observations)
    actions = state.action_box.to_unit(batch.actions)
    critic = critics(config.hidden_dims)
    sampled = _sample(state.actor.params, observations, noise, config)
    advantages = critic.apply(critic_params, observations, actions).min(
        0
    ) - critic.apply(critic_params, observations, sampled).min(0)
    weights = jnp.minimum(jnp.exp(advantages / config.temperature), config.weight_max)
    mean, log_std = _actor(config, actions.shape[-1]).apply(params, observations)
    z = (actions - mean) / jnp.exp(log_std)
    log_prob = -0.5 * jnp.sum(z**2 + 2 * log_std + LOG_2PI, axis=-1)
    return -jnp.mean(jax.lax.stop_gradient(weights) * log_prob), jnp.mean(advantages)


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of the critics, then of the policy, then of the targets."""
    del context
    shape = batch.actions.shape
    next_key, key = jax.random.split(jax.random.fold_in(state.key, state.step))
    critic, loss_q, _ = descend(
        critic_loss,
        state.critic,
        optax.adam(config.lr),
        state,
        batch,
        jax.random.normal(next_key, shape),
        config,
    )
    actor, loss_pi, advantage = descend(
        actor_loss,
        state.actor,
        optax.adam(config.actor_lr),
        critic.params,
        state,
        batch,
        jax.random.normal(key, shape),
        config,
    )
    state = state.replace(
        actor=actor,
        critic=critic,
        target_params=optax.incremental_update(
            critic.params, state.target_params, config.polyak
        ),
        step=state.step + 1,
    )
    metrics = {
        "awac/critic_loss": loss_q,
        "awac/actor_loss": loss_pi,
        "awac/advantage": advantage,
    }
    return state, metrics


def distribution(state: State, observation: chex.Array, config: Config) -> Distribution:
    """The learnt policy at one raw observation [O]; the environment clips it."""
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
