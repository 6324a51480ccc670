"""Implicit Q-learning (Kostrikov et al., 2022, arXiv:2110.06169).

    V   minimize E L₂^κ(min_k Q̄_k(s, a) − V(s)),  L₂^κ(x) = |κ − 1{x < 0}| x²
    π   minimize −E min(exp(β A), 100) log π(a|s),  A = min_k Q̄_k(s, a) − V(s)
    Q   minimize Σ_k E (r + γ (1 − terminal) V(s') − Q_k(s, a))²

in this order, each reading what the one before has just learned, as the authors' code
does (CORL's reads V from before its step: `stale_value`); κ is the expectile, β the
inverse temperature, Q̄ the target critics. The policy is a Gaussian with a mean in
[-1, 1] and a deviation that does not depend on the state; its step size falls to 0
along a cosine.

Presets small and demo are ours. On locomotion they standardize observations, which the
authors do not, and draw 256 rows: a policy of 64 units did not learn from raw ones.
On pixels every network has an encoder of its own (`offjax.methods.pixels`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.views import TransitionData, TransitionView
from offjax.distributions import LOG_2PI, Distribution, gaussian
from offjax.improvement import improvement
from offjax.methods.common import (
    LayersConfig,
    Network,
    TrainState,
    actor_critic,
    bootstrap,
    critics,
    domain,
    narrow,
    pick,
    soft_update,
    squared_error,
    start,
    step_rewards,
    zeros,
)
from offjax.methods.pixels import (
    PixelConfig,
    encoder_sizes,
    min_q_value,
    seeing,
    shifted,
    standardized,
)
from offjax.networks.gaussian import GlobalStdGaussian
from offjax.networks.initializers import initialized
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
    static,
)


@config
class Config(LayersConfig, PixelConfig):
    """Hyperparameters; the defaults are the authors' for locomotion.

    Attributes:
      critic_lr: Adam's step size, of the value function too.
      actor_decay_steps: updates over which the policy's step size falls to 0.
      expectile: κ.
      temperature: β, which multiplies the advantage.
      advantage_clip: upper bound of exp(β A).
      dropout: share of the policy's hidden units that training omits.
      critic_only: train no policy, for methods that need Q alone.
      stale_value: policy and critics read V from before its step, which saves a pass.
    """

    critic_lr: float = 3e-4
    actor_lr: float = 3e-4
    actor_decay_steps: float = 1e6
    discount: float = 0.99
    tau: float = 0.005
    expectile: float = 0.7
    temperature: float = 3.0
    advantage_clip: float = 100.0
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    dropout: float = static(default=0.0)
    critic_only: bool = False
    stale_value: bool = False

    def validate(self) -> None:
        """Refuses an unknown initialization, and what `PixelConfig` refuses."""
        LayersConfig.validate(self)
        PixelConfig.validate(self)


class State(TrainState):
    """Policy, critics and value function."""

    actor: Trained
    critic: Trained
    value: Trained
    target_critic: Pytree


def _actor(config: Config, action_dim: int) -> Network:
    policy = GlobalStdGaussian(config.hidden_dims, action_dim, dropout=config.dropout)
    return seeing(policy, config)


def _critics(config: Config) -> Network:
    return seeing(critics(config.hidden_dims), config)


def _value_network(config: Config) -> Network:
    return seeing(MLP(config.hidden_dims, 1), config)


def _value(params: Pytree, state: State, observations: Array, config: Config) -> Array:
    """V [...] at raw observations [..., O]."""
    network = _value_network(config)
    return network.apply(params, standardized(state, observations, config))[..., 0]


def _target_q(state: State, batch: Transitions, config: Config) -> Array:
    """Minimum of the target critics at the recorded actions, [B]."""
    observations = standardized(state, batch.observations, config)
    actions = state.action_box.to_unit(batch.actions)
    q = _critics(config).apply(state.target_critic, observations, actions)
    return q.min(0)


def _actor_optimizer(config: Config) -> optax.GradientTransformation:
    def rate(count: Array) -> Array:
        share = jnp.minimum(count / config.actor_decay_steps, 1.0)
        return config.actor_lr * 0.5 * (1 + jnp.cos(jnp.pi * share))

    return optax.adam(rate)


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, action = zeros(data)
    actor_key, critic_key, value_key = jax.random.split(key, 3)
    actor = _actor(config, action.shape[-1]).init(actor_key, observation)
    critic = _critics(config).init(critic_key, observation, action)
    value = _value_network(config).init(value_key, observation)
    actor = initialized(actor, config.initialization, actor_key)
    critic = initialized(critic, config.initialization, critic_key)
    value = initialized(value, config.initialization, value_key)
    adam = optax.adam(config.critic_lr)
    return State(
        **start(key, data),
        actor=trained(actor, _actor_optimizer(config)),
        critic=trained(critic, adam),
        value=trained(value, adam),
        target_critic=jax.tree.map(jnp.copy, critic),
    )


def value_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Expectile loss of V towards the target critics' minimum; info is its mean."""
    q = _target_q(state, batch, config)
    error = q - _value(params, state, batch.observations, config)
    weight = jnp.where(error > 0, config.expectile, 1 - config.expectile)
    return jnp.mean(weight * error**2), jnp.mean(q)


def actor_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, None]:
    """Advantage-weighted negative log-likelihood; `key` draws the dropout; no info."""
    observations = standardized(state, batch.observations, config)
    actions = state.action_box.to_unit(batch.actions)
    actions = jnp.clip(actions, -1 + 1e-5, 1 - 1e-5)
    value = _value(state.value.params, state, batch.observations, config)
    advantages = _target_q(state, batch, config) - value
    dropout = config.dropout > 0
    mean, log_std = _actor(config, actions.shape[-1]).apply(
        params, observations, dropout, rngs={"dropout": key} if dropout else {}
    )
    z = (actions - mean) / jnp.exp(log_std)
    log_prob = -0.5 * jnp.sum(z**2 + 2 * log_std + LOG_2PI, axis=-1)
    weight = jnp.exp(config.temperature * advantages)
    weight = jnp.minimum(weight, config.advantage_clip)
    return -jnp.mean(jax.lax.stop_gradient(weight) * log_prob), None


def critic_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, None]:
    """Sum over the critics of their error towards r + γ V(s'); no info."""
    next_v = _value(state.value.params, state, batch.next_observations, config)
    targets = bootstrap(batch, next_v, config.discount)
    observations = standardized(state, batch.observations, config)
    actions = state.action_box.to_unit(batch.actions)
    q = _critics(config).apply(params, observations, actions)
    return squared_error(q, targets), None


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of V, then of the policy, then of the critics, then of the targets."""
    batch = shifted(state, batch, config)
    key, adam = jax.random.fold_in(state.key, state.step), optax.adam(config.critic_lr)
    value, loss_v, q = descend(value_loss, state.value, adam, state, batch, key, config)
    metrics = {"iql/value_loss": loss_v, "iql/q": q}
    read = state if config.stale_value else state.replace(value=value)
    actor = state.actor
    if not config.critic_only:
        cosine = _actor_optimizer(config)
        actor, metrics["iql/actor_loss"], _ = descend(
            actor_loss, actor, cosine, read, batch, key, config
        )
    critic, metrics["iql/critic_loss"], _ = descend(
        critic_loss, state.critic, adam, read, batch, key, config
    )
    state = state.replace(
        actor=actor,
        critic=critic,
        value=value,
        target_critic=soft_update(critic.params, state.target_critic, config.tau),
        step=state.step + 1,
    )
    return state, metrics


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """The learned policy at one raw observation [O]."""
    state, box = model.state, model.state.action_box
    mean, log_std = _actor(model.config, box.low.shape[-1]).apply(
        state.actor.params, standardized(state, observation, model.config)
    )
    return gaussian(mean, jnp.exp(log_std), box.shift, box.scale)


METHOD = Method("iql", 1, init, update, act, min_q_value, cameras=True)


def stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `iql`; preset paper has the authors' settings."""
    kind = domain(spec)
    steps = pick(preset, paper=1_000_000, small=200_000, demo=20_000)
    sizes, standardized = narrow(preset), kind == "locomotion" and preset != "paper"
    if standardized:
        sizes, steps = sizes | {"batch_size": 256}, min(steps, 100_000)
    published = {
        "expectile": 0.9 if kind == "antmaze" else 0.7,
        "temperature": {"antmaze": 10.0, "adroit": 0.5, "kitchen": 0.5}.get(kind, 3.0),
        "actor_decay_steps": float(steps),
        "dropout": 0.1 if kind in ("adroit", "kitchen") else 0.0,
    }
    view = TransitionView(
        normalize=standardized,
        reward_scale=step_rewards(spec),
        reward_shift=-1.0 if kind == "antmaze" else 0.0,
        unit_returns=kind == "locomotion",
    )
    sizes |= encoder_sizes(spec, preset)
    return Stage("iql", METHOD, Config(**published | sizes | settings), view, steps)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Implicit Q-learning, acting with the policy's mean."""
    return actor_critic(stage(spec, preset))


def iql_cfpi(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_SG on IQL's policy and critic; log τ is one of 0.1, 0.2, 2.0 per dataset."""
    return dataclasses.replace(
        recipe(spec, preset),
        name="iql_cfpi",
        improve=improvement("closed_form_gaussian", log_tau=0.2),
    )
