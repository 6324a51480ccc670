"""TD3+BC (Fujimoto and Gu, 2021, arXiv:2106.06860).

    Q   minimise Σ_k E (r + γ (1 − terminal) min_j Q̄_j(s', ã) − Q_k(s, a))²,
        ã = clip(π̄(s') + clip(ε, −c, c), −1, 1),  ε ~ N(0, σ²)
    π   minimise −λ E Q_1(s, π(s)) + E ‖π(s) − a‖²/A,  λ = α / E|Q_1(s, π(s))|

The policy and all targets move once per `policy_freq` critic steps. One `update` does
the whole group: `policy_freq` critic steps, each on its part of one larger batch, then
the policy's on the last part. The field counts critic steps, and so does `state.step`:
1M of them are 500,000 updates.
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
      alpha: α, weight of the critic against cloning.
      policy_noise: σ, in units of the action box.
      noise_clip: c.
      policy_freq: critic steps per step of the policy.
      batch_size: rows of one critic step; the sampler draws `policy_freq` times that.
    """

    lr: float = 3e-4
    actor_lr: float = 3e-4
    discount: float = 0.99
    polyak: float = 0.005
    alpha: float = 2.5
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256


class State(flax.struct.PyTreeNode):
    """Policy, critics and their targets, and the transforms of the data."""

    actor: Trained
    critic: Trained
    target_actor: Pytree
    target_critic: Pytree
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


def _act(params: Pytree, observations: chex.Array, config: Config) -> chex.Array:
    # The output layer's width tells the number of action dimensions.
    last = params["params"][f"Dense_{len(config.hidden_dims)}"]["bias"]
    network: Network = MLP(config.hidden_dims, last.shape[-1])
    return jnp.tanh(network.apply(params, observations))


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for its statistics."""
    del context
    observation, action, normalizer, action_box = inputs_of(example)
    actor_key, critic_key = jax.random.split(key)
    actor = MLP(config.hidden_dims, action.shape[-1]).init(actor_key, observation)
    critic = critics(config.hidden_dims).init(critic_key, observation, action)
    return State(
        trained(actor, optax.adam(config.actor_lr)),
        trained(critic, optax.adam(config.lr)),
        jax.tree.map(jnp.copy, actor),
        jax.tree.map(jnp.copy, critic),
        normalizer,
        action_box,
        key,
        jnp.int32(0),
    )


def critic_loss(
    params: Pytree, state: State, batch: Transitions, noise: chex.Array, config: Config
) -> tuple[chex.Array, chex.Array]:
    """Sum of both critics' errors for standard noise [B, A]; aux is the target [B]."""
    observations = state.normalizer(batch.observations)
    next_observations = state.normalizer(batch.next_observations)
    actions = state.action_box.to_unit(batch.actions)
    noise = jnp.clip(config.policy_noise * noise, -config.noise_clip, config.noise_clip)
    next_actions = _act(state.target_actor, next_observations, config) + noise
    next_actions = jnp.clip(next_actions, -1.0, 1.0)
    next_q = critics(config.hidden_dims).apply(
        state.target_critic, next_observations, next_actions
    )
    targets = bootstrap(batch, next_q.min(0), config.discount)
    q = critics(config.hidden_dims).apply(params, observations, actions)
    return squared_error(q, targets), targets


def actor_loss(
    params: Pytree,
    critic_params: Pytree,
    observations: chex.Array,
    actions: chex.Array,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Loss of the policy at transformed rows; aux is the mean of Q_1."""
    proposed = _act(params, observations, config)
    q = first_critic(critic_params, config.hidden_dims, observations, proposed)
    weight = config.alpha / jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
    cloning = jnp.mean((proposed - actions) ** 2)
    return -weight * jnp.mean(q) + cloning, jnp.mean(q)


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """`policy_freq` critic steps on as many parts of the batch, one of the policy."""
    del context
    parts = jax.tree.map(
        lambda x: x.reshape(config.policy_freq, -1, *x.shape[1:]), batch
    )

    def critic_step(
        critic: Trained, part_and_step: tuple[Transitions, chex.Array]
    ) -> tuple[Trained, chex.Array]:
        part, i = part_and_step
        noise = jax.random.normal(
            jax.random.fold_in(state.key, state.step + i), part.actions.shape
        )
        critic, loss, _ = descend(
            critic_loss, critic, optax.adam(config.lr), state, part, noise, config
        )
        return critic, loss

    steps = jnp.arange(config.policy_freq)
    critic, losses = jax.lax.scan(critic_step, state.critic, (parts, steps))
    last = jax.tree.map(lambda x: x[-1], parts)
    actor, loss, q = descend(
        actor_loss,
        state.actor,
        optax.adam(config.actor_lr),
        critic.params,
        state.normalizer(last.observations),
        state.action_box.to_unit(last.actions),
        config,
    )
    state = state.replace(
        actor=actor,
        critic=critic,
        target_actor=optax.incremental_update(
            actor.params, state.target_actor, config.polyak
        ),
        target_critic=optax.incremental_update(
            critic.params, state.target_critic, config.polyak
        ),
        step=state.step + config.policy_freq,
    )
    metrics = {
        "td3_bc/critic_loss": jnp.mean(losses),
        "td3_bc/actor_loss": loss,
        "td3_bc/q": q,
    }
    return state, metrics


def distribution(state: State, observation: chex.Array, config: Config) -> Distribution:
    """The policy's action at one raw observation [O], as a point."""
    box = state.action_box
    action = _act(state.actor.params, state.normalizer(observation), config)
    zero = jnp.zeros_like(action)
    return Distribution(
        jnp.zeros(1), action[None], zero[None], box.shift, box.scale, kind="point"
    )


def q_value(
    state: State, observation: chex.Array, action: chex.Array, config: Config
) -> chex.Array:
    """Minimum of the two online critics [] at one raw observation and action."""
    return q_values(state, config.hidden_dims, observation, action).min(0)
