"""Batch-constrained Q-learning (Fujimoto et al., 2019, arXiv:1812.02900).

    G   the autoencoder of actions, see `bc_vae`
    Q   minimise Σ_k E (r + γ (1 − terminal) max_i [λ min_j Q̄_j + (1 − λ) max_j Q̄_j]
        (s', a_i) − Q_k(s, a))²,  a_i = G(s') + ξ̄(s', G(s')),  i = 1…n
    ξ   minimise −E Q_1(s, a + ξ(s, a)),  a ~ G(s)

ξ moves an action by at most Φ of its box. Acting decodes and moves many actions and
takes the best by Q_1.
"""

from __future__ import annotations

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms import bc_vae
from offjax.algorithms.common import (
    Network,
    Trained,
    bootstrap,
    critics,
    descend,
    first_critic,
    inputs_of,
    q_values,
    squared_error,
    trained,
)
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import Distribution
from offjax.networks.mlp import MLP
from offjax.types import Context, Key, Pytree, Transitions, config


@config
class Config:
    """Hyperparameters; the authors', the same in every domain.

    Attributes:
      perturbation: Φ.
      min_weight: λ, weight of the lower target critic.
      num_samples: n, actions compared in the target.
    """

    lr: float = 1e-3
    discount: float = 0.99
    polyak: float = 0.005
    perturbation: float = 0.05
    min_weight: float = 0.75
    num_samples: int = 10
    hidden_dims: tuple[int, ...] = (400, 300)
    vae_hidden_dims: tuple[int, ...] = (750, 750)
    batch_size: int = 100


class State(flax.struct.PyTreeNode):
    """Autoencoder, perturbation, critics, targets, and the transforms of the data."""

    vae: Trained
    actor: Trained
    critic: Trained
    target_actor: Pytree
    target_critic: Pytree
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


def _vae_config(config: Config) -> bc_vae.Config:
    return bc_vae.Config(lr=config.lr, hidden_dims=config.vae_hidden_dims)


def _perturb(
    params: Pytree, observations: chex.Array, actions: chex.Array, config: Config
) -> chex.Array:
    """a + ξ(s, a), clipped to the box; [..., O], [..., A] → [..., A]."""
    x = jnp.concatenate([observations, actions], axis=-1)
    network: Network = MLP(config.hidden_dims, actions.shape[-1])
    move = jnp.tanh(network.apply(params, x))
    return jnp.clip(actions + config.perturbation * move, -1.0, 1.0)


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for its statistics."""
    observation, action, normalizer, action_box = inputs_of(example)
    vae_key, actor_key, critic_key = jax.random.split(key, 3)
    adam = optax.adam(config.lr)
    network = MLP(config.hidden_dims, action.shape[-1])
    actor = network.init(actor_key, jnp.concatenate([observation, action]))
    critic = critics(config.hidden_dims).init(critic_key, observation, action)
    return State(
        bc_vae.init(vae_key, example, _vae_config(config), context).vae,
        trained(actor, adam),
        trained(critic, adam),
        jax.tree.map(jnp.copy, actor),
        jax.tree.map(jnp.copy, critic),
        normalizer,
        action_box,
        key,
        jnp.int32(0),
    )


def critic_loss(
    params: Pytree,
    state: State,
    batch: Transitions,
    candidates: chex.Array,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Sum of both errors for decoded next actions [B, n, A]; aux is the target [B]."""
    observations = state.normalizer(batch.observations)
    following = state.normalizer(batch.next_observations)[:, None]
    following = jnp.broadcast_to(
        following, (*candidates.shape[:2], following.shape[-1])
    )
    moved = _perturb(state.target_actor, following, candidates, config)
    next_q = critics(config.hidden_dims).apply(state.target_critic, following, moved)
    weight = config.min_weight
    next_q = weight * next_q.min(0) + (1 - weight) * next_q.max(0)
    targets = bootstrap(batch, next_q.max(-1), config.discount)
    actions = state.action_box.to_unit(batch.actions)
    q = critics(config.hidden_dims).apply(params, observations, actions)
    return squared_error(q, targets), targets


def actor_loss(
    params: Pytree,
    critic_params: Pytree,
    observations: chex.Array,
    decoded: chex.Array,
    config: Config,
) -> tuple[chex.Array, None]:
    """−E Q_1 of the moved actions, at transformed observations."""
    moved = _perturb(params, observations, decoded, config)
    q = first_critic(critic_params, config.hidden_dims, observations, moved)
    return -jnp.mean(q), None


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of the autoencoder, then critics, then perturbation, then targets."""
    del context
    observations = state.normalizer(batch.observations)
    actions = state.action_box.to_unit(batch.actions)
    action_dim = actions.shape[-1]
    settings, adam = _vae_config(config), optax.adam(config.lr)
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
    noise = jax.random.normal(
        keys[0], (actions.shape[0], settings.latent_factor * action_dim)
    )
    vae, loss_vae, _ = descend(
        bc_vae.loss_fn, state.vae, adam, observations, actions, noise, settings
    )
    following = state.normalizer(batch.next_observations)
    candidates = bc_vae.decode(
        vae.params, following, keys[1], settings, config.num_samples, action_dim
    )
    critic, loss_q, targets = descend(
        critic_loss, state.critic, adam, state, batch, candidates, config
    )
    decoded = bc_vae.decode(vae.params, observations, keys[2], settings, 1, action_dim)
    actor, loss_pi, _ = descend(
        actor_loss,
        state.actor,
        adam,
        critic.params,
        observations,
        decoded[:, 0],
        config,
    )
    state = state.replace(
        vae=vae,
        actor=actor,
        critic=critic,
        target_actor=optax.incremental_update(
            actor.params, state.target_actor, config.polyak
        ),
        target_critic=optax.incremental_update(
            critic.params, state.target_critic, config.polyak
        ),
        step=state.step + 1,
    )
    metrics = {
        "bcq/vae_loss": loss_vae,
        "bcq/critic_loss": loss_q,
        "bcq/actor_loss": loss_pi,
        "bcq/target": jnp.mean(targets),
    }
    return state, metrics


def distribution(
    state: State, observation: chex.Array, config: Config, key: Key, num: int = 100
) -> Distribution:
    """`num` decoded and moved actions at one raw observation [O], as atoms."""
    box = state.action_box
    normalized = state.normalizer(observation)
    decoded = bc_vae.decode(
        state.vae.params, normalized, key, _vae_config(config), num, box.low.shape[-1]
    )
    repeated = jnp.broadcast_to(normalized, (num, normalized.shape[-1]))
    actions = _perturb(state.actor.params, repeated, decoded, config)
    zeros = jnp.zeros_like(actions)
    return Distribution(
        jnp.zeros(num), actions, zeros, box.shift, box.scale, kind="point"
    )


def q_value(
    state: State, observation: chex.Array, action: chex.Array, config: Config
) -> chex.Array:
    """The first critic [] at one raw observation and action, as the authors act."""
    return q_values(state, config.hidden_dims, observation, action)[0]
