"""TD3+BC (Fujimoto and Gu, 2021, arXiv:2106.06860).

    Q   minimize Σ_k E (r + γ (1 − terminal) min_j Q̄_j(s', ã) − Q_k(s, a))²,
        ã = clip(π̄(s') + clip(ε, −c, c), −1, 1),  ε ~ N(0, σ²)
    π   minimize −λ E Q_1(s, π(s)) + E ‖π(s) − a‖²/A,  λ = α / E|Q_1(s, π(s))|

The policy and all targets move once per `policy_freq` critic steps. One `update` does
the whole group: `policy_freq` critic steps, each on its part of one larger batch, then
the policy's on the last part. The field counts critic steps, and so does `state.step`:
1M of them are 500,000 updates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.views import TransitionData, TransitionView
from offjax.distributions import Distribution, unit_point
from offjax.methods.common import (
    LayersConfig,
    Network,
    TrainState,
    actor_critic,
    bootstrap,
    critics,
    domain,
    first_critic,
    min_q_value,
    narrow,
    pick,
    soft_update,
    squared_error,
    start_actor_critic,
    step_rewards,
    zeros,
)
from offjax.networks.mlp import MLP
from offjax.networks.trained import Trained, descend
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
    """Hyperparameters; the authors', the same in every domain.

    Attributes:
      alpha: α, weight of the critic against cloning.
      policy_noise: σ, in units of the action box.
      noise_clip: c.
      policy_freq: critic steps per step of the policy.
      batch_size: rows of one critic step.
    """

    critic_lr: float = 3e-4
    actor_lr: float = 3e-4
    discount: float = 0.99
    tau: float = 0.005
    alpha: float = 2.5
    policy_noise: float = 0.2
    noise_clip: float = 0.5
    policy_freq: int = 2
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256


class State(TrainState):
    """Policy, critics and their targets."""

    actor: Trained
    critic: Trained
    target_actor: Pytree
    target_critic: Pytree


def _policy(params: Pytree, observations: Array, config: Config) -> Array:
    """Actions [..., A] in [-1, 1] at normalized observations [..., O]."""
    # The output layer's width tells the number of action dimensions.
    last = params["params"][f"Dense_{len(config.hidden_dims)}"]["bias"]
    network: Network = MLP(config.hidden_dims, last.shape[-1])
    return jnp.tanh(network.apply(params, observations))


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    _, action = zeros(data)
    actor = MLP(config.hidden_dims, action.shape[-1])
    critic = critics(config.hidden_dims)
    fields = start_actor_critic(key, data, actor, critic, config, config.initialization)
    return State(**fields, target_actor=jax.tree.map(jnp.copy, fields["actor"].params))


def critic_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Sum of both critics' errors; info is the target [B]. Noise [B, A] from `key`."""
    observations = state.normalizer(batch.observations)
    next_observations = state.normalizer(batch.next_observations)
    actions = state.action_box.to_unit(batch.actions)
    noise = config.policy_noise * jax.random.normal(key, batch.actions.shape)
    noise = jnp.clip(noise, -config.noise_clip, config.noise_clip)
    next_actions = _policy(state.target_actor, next_observations, config) + noise
    next_actions = jnp.clip(next_actions, -1.0, 1.0)
    next_q = critics(config.hidden_dims).apply(
        state.target_critic, next_observations, next_actions
    )
    targets = bootstrap(batch, next_q.min(0), config.discount)
    q = critics(config.hidden_dims).apply(params, observations, actions)
    return squared_error(q, targets), targets


def actor_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Loss of the policy; info is the mean of Q_1."""
    observations = state.normalizer(batch.observations)
    actions = state.action_box.to_unit(batch.actions)
    proposed = _policy(params, observations, config)
    q = first_critic(state.critic.params, config.hidden_dims, observations, proposed)
    weight = config.alpha / jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
    cloning = jnp.mean((proposed - actions) ** 2)
    return -weight * jnp.mean(q) + cloning, jnp.mean(q)


def step_keys(state: State, count: int) -> Key:
    """Keys [count, 2] of the next steps, each of its number."""
    steps = state.step + jnp.arange(count)
    return jax.vmap(lambda i: jax.random.fold_in(state.key, i))(steps)


def critic_steps(
    loss: Callable[..., tuple[Array, Array]],
    state: State,
    batch: Transitions,
    keys: Key,
    config: Any,
) -> tuple[State, Array, Transitions]:
    """As many steps of the critics as there are keys, each on its part of a batch.

    Args:
      loss: `(params, state, part, key, config) → (loss, info)`.
      state: its other networks stay as they are.
      batch: [n · B, ...].
      keys: [n, 2].
      config: with `critic_lr`.

    Returns:
      The state after them, the mean of the losses, and the last part.
    """
    parts = jax.tree.map(lambda x: x.reshape(len(keys), -1, *x.shape[1:]), batch)

    def step(critic: Trained, given: tuple[Transitions, Key]) -> tuple[Trained, Array]:
        adam = optax.adam(config.critic_lr)
        critic, value, _ = descend(loss, critic, adam, state, *given, config)
        return critic, value

    critic, losses = jax.lax.scan(step, state.critic, (parts, keys))
    last = jax.tree.map(lambda x: x[-1], parts)
    return state.replace(critic=critic), jnp.mean(losses), last


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """`policy_freq` critic steps on as many parts of the batch, one of the policy."""
    keys = step_keys(state, config.policy_freq)
    state, loss_q, last = critic_steps(critic_loss, state, batch, keys, config)
    adam = optax.adam(config.actor_lr)
    actor, loss, q = descend(
        actor_loss, state.actor, adam, state, last, state.key, config
    )
    state = state.replace(
        actor=actor,
        target_actor=soft_update(actor.params, state.target_actor, config.tau),
        target_critic=soft_update(state.critic.params, state.target_critic, config.tau),
        step=state.step + config.policy_freq,
    )
    return state, {
        "td3_bc/critic_loss": loss_q,
        "td3_bc/actor_loss": loss,
        "td3_bc/q": q,
    }


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """The policy's action at one raw observation [O], as a point."""
    state = model.state
    unit = _policy(state.actor.params, state.normalizer(observation), model.config)
    return unit_point(unit, state.action_box.shift, state.action_box.scale)


METHOD = Method("td3_bc", 1, init, update, act, min_q_value)


@dataclasses.dataclass(frozen=True)
class GroupView(TransitionView):
    """Rows for the `policy_freq` critic steps of one update."""

    def draw(self, count: int, key: Key, config: Any) -> Array:
        """Numbers of `policy_freq` · `batch_size` rows: uniform, with replacement."""
        rows = config.policy_freq * config.batch_size
        return jax.random.randint(key, (rows,), 0, count)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `td3_bc`; one update is two critic steps: 500,000 are the usual 1M."""
    kind = domain(spec)
    view = GroupView(reward_shift=-1.0 if kind == "antmaze" else 0.0)
    if kind == "budget":
        view = GroupView(normalize=False, reward_scale=step_rewards(spec))
    steps = pick(preset, paper=500_000, small=100_000, demo=10_000)
    return Stage("td3_bc", METHOD, Config(**narrow(preset)), view, steps)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """TD3+BC, acting with the policy."""
    return actor_critic(stage(spec, preset))
