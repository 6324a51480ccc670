"""FQL: flow Q-learning (Park, Li and Levine, 2025, arXiv:2502.02538).

A flow model v clones the behavior by flow matching. A one-step policy μ(s, z), which
acts from noise z, is distilled from it and maximizes Q: nothing is differentiated
through the flow's integration.

    v   minimize E ‖v(s, x_t, t) − (a − x_0)‖²,  x_t = (1 − t) x_0 + t a,
        x_0 ~ N(0, I),  t ~ U(0, 1)
    μ   minimize α E ‖μ(s, z) − flow_v(s, z)‖² − λ E mean_k Q_k(s, μ(s, z)),
        z ~ N(0, I)
    Q   minimize mean_k E (r + γ (1 − terminal) agg_j Q̄_j(s', μ(s', z')) − Q_k(s, a))²

flow_v takes `flow_steps` Euler steps from z; agg is the mean, or the minimum; λ is 1,
or 1 / E|mean_k Q_k| with `normalize_q`. All three learn from the weights before the
update, and the target critics follow the critics from before theirs, as in the
authors' code.

α is the authors' for the domains that the paper has. With `normalize_q`, α = 1 for
maze2d and Budget Allocation and α = 3 with the minimum for locomotion are ours. So is
preset small: narrow networks. On pixels every network has an encoder of its own, as in
the authors' code, and the flow's is called once for all of its steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.views import TransitionData, TransitionView
from offjax.distributions import Distribution, unit_point
from offjax.errors import require_least, require_option
from offjax.methods.common import (
    Network,
    TrainState,
    actor_critic,
    bootstrap,
    domain,
    narrow,
    pick,
    soft_update,
    start,
    step_rewards,
    zeros,
)
from offjax.methods.pixels import (
    PixelConfig,
    encoder_of,
    encoder_sizes,
    seeing,
    shifted,
    standardized,
)
from offjax.networks.mlp import MLP, QEnsemble
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
class Config(PixelConfig):
    """Hyperparameters; the authors'.

    Attributes:
      alpha: α, weight of the distillation.
      flow_steps: Euler steps of the flow.
      q_aggregation: of the target critics, "mean" or "min".
      normalize_q: whether λ is 1 / E|mean_k Q_k|, or 1.
    """

    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    discount: float = 0.99
    tau: float = 0.005
    alpha: float = 10.0
    flow_steps: int = 10
    q_aggregation: str = "mean"
    normalize_q: bool = False
    hidden_dims: tuple[int, ...] = (512, 512, 512, 512)
    batch_size: int = 256

    def validate(self) -> None:
        """Raises `UserError` for an unknown aggregation, or no steps of the flow."""
        PixelConfig.validate(self)
        require_option("q_aggregation", self.q_aggregation, ("mean", "min"))
        require_least(1, flow_steps=self.flow_steps)


class State(TrainState):
    """Flow, one-step policy, critics and their target."""

    flow: Trained
    actor: Trained
    critic: Trained
    target_critic: Pytree


def _vector_field(config: Config, action_dim: int) -> Network:
    """Of the flow, and of the one-step policy: ([..., in]) → [..., A]."""
    weights = nn.initializers.xavier_uniform()
    return MLP(
        config.hidden_dims, action_dim, nn.gelu, weights=weights, output_weights=weights
    )


def _critics(config: Config) -> Network:
    weights = nn.initializers.xavier_uniform()
    settings = {
        "activation": nn.gelu,
        "layer_norm": True,
        "norm_last": True,
        "weights": weights,
        "output_weights": weights,
    }
    return seeing(QEnsemble(config.hidden_dims, settings=settings), config)


def _init_field(
    key: Key, observation: Array, inputs: Array, width: int, config: Config
) -> Pytree:
    """Parameters of a vector field [width] of an observation [O] and `inputs`."""
    network = _vector_field(config, width)
    if not config.cameras:
        return network.init(key, jnp.concatenate([observation, inputs]))
    key, encoder_key = jax.random.split(key)
    encoder = encoder_of(config)
    params = encoder.init(encoder_key, observation)
    features = encoder.apply(params, observation)
    joined = jnp.concatenate([features, inputs])
    return {"encoder": params, "network": network.init(key, joined)}


def _see(params: Pytree, observations: Array, config: Config) -> Array:
    """What a vector field reads of normalized observations [..., O]."""
    if not config.cameras:
        return observations
    return encoder_of(config).apply(params["encoder"], observations)


def _field(
    params: Pytree, inputs: Sequence[Array], width: int, config: Config
) -> Array:
    """[..., width] of what `_see` gave and more, side by side."""
    network = params["network"] if config.cameras else params
    joined = jnp.concatenate(inputs, axis=-1)
    return _vector_field(config, width).apply(network, joined)


def _one_step(
    params: Pytree, observations: Array, noise: Array, config: Config
) -> Array:
    """μ(s, z), unclipped: normalized [..., O] and noise [..., A] → [..., A]."""
    seen = _see(params, observations, config)
    return _field(params, (seen, noise), noise.shape[-1], config)


def _velocity(
    params: Pytree, seen: Array, actions: Array, times: Array, config: Config
) -> Array:
    """v(s, x, t): what `_see` gave, [..., A] and times [..., 1] → [..., A]."""
    return _field(params, (seen, actions, times), actions.shape[-1], config)


def flow(params: Pytree, observations: Array, noise: Array, config: Config) -> Array:
    """Actions [B, A] of the flow from noise [B, A], clipped to [-1, 1]."""
    seen = _see(params, observations, config)

    def euler(actions: Array, i: Array) -> tuple[Array, None]:
        times = jnp.full((*actions.shape[:-1], 1), i / config.flow_steps)
        velocity = _velocity(params, seen, actions, times, config)
        return actions + velocity / config.flow_steps, None

    actions, _ = jax.lax.scan(euler, noise, jnp.arange(config.flow_steps))
    return jnp.clip(actions, -1.0, 1.0)


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, action = zeros(data)
    flow_key, actor_key, critic_key = jax.random.split(key, 3)
    width = action.shape[-1]
    field = _init_field(flow_key, observation, jnp.append(action, 0.0), width, config)
    policy = _init_field(actor_key, observation, action, width, config)
    critic = _critics(config).init(critic_key, observation, action)
    adam = optax.adam(config.actor_lr)
    return State(
        **start(key, data),
        flow=trained(field, adam),
        actor=trained(policy, adam),
        critic=trained(critic, optax.adam(config.critic_lr)),
        target_critic=jax.tree.map(jnp.copy, critic),
    )


def flow_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, None]:
    """Flow matching; `key` draws x_0 [B, A] and t [B, 1]. No info."""
    actions = state.action_box.to_unit(batch.actions)
    _, start_key, time_key = jax.random.split(key, 3)
    begin = jax.random.normal(start_key, actions.shape)
    times = jax.random.uniform(time_key, (actions.shape[0], 1))
    between = (1 - times) * begin + times * actions
    seen = _see(params, standardized(state, batch.observations, config), config)
    velocity = _velocity(params, seen, between, times, config)
    return jnp.mean((velocity - (actions - begin)) ** 2), None


def actor_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, dict[str, Array]]:
    """Distillation and Q; `key` draws z [B, A]. Info: both parts."""
    observations = standardized(state, batch.observations, config)
    key, *_ = jax.random.split(key, 3)
    noise = jax.random.normal(jax.random.split(key)[1], batch.actions.shape)
    actions = _one_step(params, observations, noise, config)
    goals = flow(state.flow.params, observations, noise, config)
    distillation = jnp.mean((actions - goals) ** 2)
    q = _critics(config).apply(
        state.critic.params, observations, jnp.clip(actions, -1.0, 1.0)
    )
    q = jnp.mean(q, axis=0)
    weight: chex.Numeric = 1.0
    if config.normalize_q:
        weight = jax.lax.stop_gradient(1 / jnp.mean(jnp.abs(q)))
    loss = config.alpha * distillation - weight * jnp.mean(q)
    return loss, {"distillation": distillation, "q": jnp.mean(q)}


def critic_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Mean over critics and rows; `key` draws z' [B, A]. Info: the targets [B]."""
    observations = standardized(state, batch.observations, config)
    next_observations = standardized(state, batch.next_observations, config)
    noise_key = jax.random.split(jax.random.split(key)[1])[0]
    noise = jax.random.normal(noise_key, batch.actions.shape)
    following = _one_step(state.actor.params, next_observations, noise, config)
    next_q = _critics(config).apply(
        state.target_critic, next_observations, jnp.clip(following, -1.0, 1.0)
    )
    joined = next_q.min(0) if config.q_aggregation == "min" else next_q.mean(0)
    targets = bootstrap(batch, joined, config.discount)
    actions = state.action_box.to_unit(batch.actions)
    q = _critics(config).apply(params, observations, actions)
    return jnp.mean((q - targets) ** 2), targets


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of everything, all from the weights before it."""
    batch = shifted(state, batch, config)
    return learn(state, batch, jax.random.fold_in(state.key, state.step), config)


def learn(
    state: State, batch: Transitions, key: Key, config: Config
) -> tuple[State, dict[str, Array]]:
    """`update` with its key given."""
    _, actor_key, critic_key = jax.random.split(key, 3)
    adam = optax.adam(config.actor_lr)
    critic_adam = optax.adam(config.critic_lr)
    critic, critic_value, _ = descend(
        critic_loss, state.critic, critic_adam, state, batch, critic_key, config
    )
    flow_network, flow_value, _ = descend(
        flow_loss, state.flow, adam, state, batch, actor_key, config
    )
    actor, actor_value, parts = descend(
        actor_loss, state.actor, adam, state, batch, actor_key, config
    )
    target = soft_update(state.critic.params, state.target_critic, config.tau)
    state = state.replace(
        flow=flow_network,
        actor=actor,
        critic=critic,
        target_critic=target,
        step=state.step + 1,
    )
    return state, {
        "fql/critic_loss": critic_value,
        "fql/flow_loss": flow_value,
        "fql/actor_loss": actor_value,
        **{f"fql/{name}": value for name, value in parts.items()},
    }


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """One action of μ from noise, at one raw observation [O], as a point."""
    state, box = model.state, model.state.action_box
    noise = jax.random.normal(key, box.low.shape)
    observation = standardized(state, observation, model.config)
    unit = _one_step(state.actor.params, observation, noise, model.config)
    return unit_point(jnp.clip(unit, -1.0, 1.0), box.shift, box.scale)


def q_value(model: Model, observation: Array, action: Array) -> Array:
    """Mean of the two online critics [] at one raw observation and action."""
    state, config = model.state, model.config
    inputs = standardized(state, observation, config), state.action_box.to_unit(action)
    return _critics(config).apply(state.critic.params, *inputs).mean(0)


METHOD = Method("fql", 1, init, update, act, q_value, cameras=True)


def _settings(kind: str, preset: str) -> dict[str, Any]:
    """Hyperparameters of a domain."""
    by_domain: dict[str, dict[str, Any]] = {
        "antmaze": {"q_aggregation": "min"},
        "scene": {"alpha": 300.0},
        "locomotion": {"alpha": 3.0, "normalize_q": True, "q_aggregation": "min"},
    }
    settings = by_domain.get(kind, {"alpha": 1.0, "normalize_q": True})
    fewer = {} if preset == "paper" else {"flow_steps": 5}
    return settings | narrow(preset) | fewer


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """FQL, acting with the one-step policy from noise."""
    kind = domain(spec)
    view = TransitionView(
        normalize=False,
        reward_scale=step_rewards(spec),
        reward_shift=-1.0 if kind == "antmaze" else 0.0,
    )
    config = Config(**(_settings(kind, preset) | encoder_sizes(spec, preset)))
    steps = pick(preset, paper=1_000_000, small=200_000, demo=20_000)
    return actor_critic(Stage("fql", METHOD, config, view, steps))
