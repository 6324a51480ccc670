"""Batch-constrained Q-learning (Fujimoto et al., 2019, arXiv:1812.02900).

    G   the autoencoder of actions, see `bc_vae`
    Q   minimize Σ_k E (r + γ (1 − terminal) max_i [λ min_j Q̄_j + (1 − λ) max_j Q̄_j]
        (s', a_i) − Q_k(s, a))²,  a_i = G(s') + ξ̄(s', G(s')),  i = 1…n
    ξ   minimize −E Q_1(s, a + ξ(s, a)),  a ~ G(s)

ξ moves an action by at most Φ of its box. Acting decodes and moves many actions and
takes the best by Q_1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.views import TransitionData, TransitionView
from offjax.distributions import Distribution, unit_atoms
from offjax.improvement import improvement
from offjax.methods import bc_vae
from offjax.methods.common import (
    Network,
    TrainState,
    bootstrap,
    critics,
    first_critic,
    memoryless,
    narrow,
    pick,
    reads_critic,
    soft_update,
    squared_error,
    start,
    step_rewards,
    twin_values,
    zeros,
)
from offjax.networks.mlp import MLP
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

ACTING_SAMPLES = 100
"""Actions that acting compares."""


@config
class Config:
    """Hyperparameters; the authors', the same in every domain.

    Attributes:
      critic_lr: Adam's step size, of all networks.
      perturbation: Φ.
      min_weight: λ, weight of the lower target critic.
      num_samples: n, actions compared in the target.
    """

    critic_lr: float = 1e-3
    discount: float = 0.99
    tau: float = 0.005
    perturbation: float = 0.05
    min_weight: float = 0.75
    num_samples: int = 10
    hidden_dims: tuple[int, ...] = (400, 300)
    vae_hidden_dims: tuple[int, ...] = (750, 750)
    batch_size: int = 100


class State(TrainState):
    """Autoencoder, perturbation, critics and targets."""

    vae: Trained
    actor: Trained
    critic: Trained
    target_actor: Pytree
    target_critic: Pytree


def _vae_config(config: Config) -> bc_vae.Config:
    return bc_vae.Config(hidden_dims=config.vae_hidden_dims)


def _decode(
    state: State, observations: Array, key: Key, config: Config, num: int
) -> Array:
    """`num` actions [..., num, A] for each normalized observation [..., O]."""
    vae, action_dim = state.vae.params, state.action_box.low.shape[-1]
    return bc_vae.decode(vae, observations, key, _vae_config(config), num, action_dim)


def _perturb(
    params: Pytree, observations: Array, actions: Array, config: Config
) -> Array:
    """a + ξ(s, a), clipped to the box; [..., O], [..., A] → [..., A]."""
    x = jnp.concatenate([observations, actions], axis=-1)
    network: Network = MLP(config.hidden_dims, actions.shape[-1])
    move = jnp.tanh(network.apply(params, x))
    return jnp.clip(actions + config.perturbation * move, -1.0, 1.0)


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, action = zeros(data)
    vae_key, actor_key, critic_key = jax.random.split(key, 3)
    adam = optax.adam(config.critic_lr)
    network = MLP(config.hidden_dims, action.shape[-1])
    vae = bc_vae.init(vae_key, data, _vae_config(config), upstream).vae
    actor = network.init(actor_key, jnp.concatenate([observation, action]))
    critic = critics(config.hidden_dims).init(critic_key, observation, action)
    return State(
        **start(key, data),
        vae=trained(vae.params, adam),
        actor=trained(actor, adam),
        critic=trained(critic, adam),
        target_actor=jax.tree.map(jnp.copy, actor),
        target_critic=jax.tree.map(jnp.copy, critic),
    )


def critic_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Sum of both errors; info is the target [B]. `key` decodes the next actions."""
    following = state.normalizer(batch.next_observations)
    decoded = _decode(state, following, key, config, config.num_samples)
    following = jnp.broadcast_to(
        following[:, None], (*decoded.shape[:2], following.shape[-1])
    )
    moved = _perturb(state.target_actor, following, decoded, config)
    next_q = critics(config.hidden_dims).apply(state.target_critic, following, moved)
    weight = config.min_weight
    next_q = weight * next_q.min(0) + (1 - weight) * next_q.max(0)
    targets = bootstrap(batch, next_q.max(-1), config.discount)
    observations = state.normalizer(batch.observations)
    actions = state.action_box.to_unit(batch.actions)
    q = critics(config.hidden_dims).apply(params, observations, actions)
    return squared_error(q, targets), targets


def actor_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, None]:
    """−E Q_1 of one moved action per row, which `key` decodes; no info."""
    observations = state.normalizer(batch.observations)
    decoded = _decode(state, observations, key, config, 1)[:, 0]
    moved = _perturb(params, observations, decoded, config)
    q = first_critic(state.critic.params, config.hidden_dims, observations, moved)
    return -jnp.mean(q), None


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of the autoencoder, then critics, then perturbation, then targets."""
    adam = optax.adam(config.critic_lr)
    keys = jax.random.split(jax.random.fold_in(state.key, state.step), 3)
    vae, loss_vae, _ = descend(
        bc_vae.vae_loss, state.vae, adam, state, batch, keys[0], _vae_config(config)
    )
    state = state.replace(vae=vae)
    critic, loss_q, targets = descend(
        critic_loss, state.critic, adam, state, batch, keys[1], config
    )
    state = state.replace(critic=critic)
    actor, loss_pi, _ = descend(
        actor_loss, state.actor, adam, state, batch, keys[2], config
    )
    state = state.replace(
        actor=actor,
        target_actor=soft_update(actor.params, state.target_actor, config.tau),
        target_critic=soft_update(critic.params, state.target_critic, config.tau),
        step=state.step + 1,
    )
    return state, {
        "bcq/vae_loss": loss_vae,
        "bcq/critic_loss": loss_q,
        "bcq/actor_loss": loss_pi,
        "bcq/target": jnp.mean(targets),
    }


def candidates(model: Model, observation: Array, key: Key, num: int) -> Distribution:
    """`num` decoded and moved actions at one raw observation [O], as atoms."""
    state, config, box = model.state, model.config, model.state.action_box
    observation = state.normalizer(observation)
    decoded = _decode(state, observation, key, config, num)
    repeated = jnp.broadcast_to(observation, (num, observation.shape[-1]))
    actions = _perturb(state.actor.params, repeated, decoded, config)
    return unit_atoms(actions, box.shift, box.scale)


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """One decoded and moved action at one raw observation [O]."""
    return candidates(model, observation, key, 1)


def propose(model: Model, observation: Array, key: Key) -> Distribution:
    """The actions at one raw observation [O] of which the critic takes the best."""
    return candidates(model, observation, key, ACTING_SAMPLES)


def q_value(model: Model, observation: Array, action: Array) -> Array:
    """The first critic [] at one raw observation and action, as the authors act."""
    return twin_values(model, observation, action)[0]


METHOD = Method("bcq", 1, init, update, act, q_value)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `bcq`; raw observations."""
    settings = Config(**narrow(preset, "hidden_dims", "vae_hidden_dims"))
    view = TransitionView(normalize=False, reward_scale=step_rewards(spec))
    steps = pick(preset, paper=1_000_000, small=100_000, demo=10_000)
    return Stage("bcq", METHOD, settings, view, steps)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """BCQ, acting with the best of 100 decoded and moved actions by Q_1."""
    return Recipe(
        "bcq",
        (stage(spec, preset),),
        memoryless("bcq", propose),
        improve=improvement("best_of_n", n=ACTING_SAMPLES),
        critic=reads_critic("bcq"),
    )
