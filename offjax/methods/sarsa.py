"""SARSA: the value of the behavior policy, from the recorded next action.

    target   y = r + γ (1 − terminal) Q_target(s', a'),  a' the action recorded next

with critics that are independent of each other: each has its own target network, and
pessimism enters only when acting. `network="iqn"` learns quantiles by quantile
regression (Dabney et al., 2018; the critic of Li et al., Closed-Form Policy Improvement
Operators, 2023); `network="mlp"` the mean by squared error (its ensemble ablation).

    quantile loss, fractions ρ̂_j of (s, a) and ρ̂'_i of (s', a') with increments p'_i:
    mean_j Σ_i p'_i |ρ̂_j − 1{δ_ij < 0}| Huber₁(δ_ij),   δ_ij = y_i − Q_ρ̂j(s, a)

For acting the members are joined by `aggregate`:

    min        min_k Q_k                                    (the paper, two critics)
    mean_std   mean_k Q_k − β std_k Q_k                     (the paper, ensembles)

The release uses mean_std with β = 1 and ddof = 1 for two critics, too, which is lower
than their minimum: `aggregate="mean_std", lower_bound_ddof=1`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.datasets.views import TransitionData
from offjax.errors import require_option
from offjax.methods.bc import cfpi_view
from offjax.methods.common import (
    Network,
    TrainState,
    domain,
    in_unit,
    narrow,
    pick,
    soft_update,
    start,
    zeros,
)
from offjax.networks.iqn import IQNEnsemble
from offjax.networks.mlp import QEnsemble
from offjax.networks.trained import Trained, descend, trained
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Params,
    Pytree,
    QFunction,
    Stage,
    Transitions,
    Upstream,
    config,
)

NETWORKS = ("iqn", "mlp")
AGGREGATES = ("min", "mean", "mean_std")


@config
class Config:
    """Hyperparameters; the paper's.

    Attributes:
      network: "iqn" or "mlp".
      ensemble_size: number of critics.
      num_fractions: N_q, fractions per state in training.
      acting_fractions: midpoints (i − ½)/K whose mean is the value when acting.
      aggregate: "min", "mean_std" or "mean".
      lower_bound_ddof: of the deviation in "mean_std": 0 for the population's, 1 for
        the unbiased one.
    """

    critic_lr: float = 3e-4
    discount: float = 0.99
    tau: float = 0.005
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    network: str = "iqn"
    ensemble_size: int = 2
    num_fractions: int = 8
    acting_fractions: int = 32
    aggregate: str = "min"
    lower_bound_ddof: int = 0

    def validate(self) -> None:
        """Refuses an unknown network, and an unknown way to join the members."""
        require_option("network", self.network, NETWORKS)
        require_option("aggregate", self.aggregate, AGGREGATES)


@config
class Ensemble:
    """How acting joins the members; another stage that reads them uses the defaults.

    Attributes:
      active_size: members beyond this many do not count, so that one trained ensemble
        serves a grid over its size.
      lower_bound_beta: β of "mean_std".
    """

    active_size: float = 1e6
    lower_bound_beta: float = 1.0


class State(TrainState):
    """The ensemble and its targets."""

    critic: Trained
    target_critic: Pytree


class Fractions(NamedTuple):
    """Midpoints and increments of random partitions of [0, 1], both [..., F]."""

    midpoints: Array
    increments: Array


Noise = tuple[Fractions, Fractions] | None
"""Fractions [B, F] at (s, a) and at (s', a'); None for an MLP."""


def random_fractions(key: Key, shape: tuple[int, ...]) -> Fractions:
    """Increments proportional to U(0, 1) + 0.1, so that none is negligible."""
    raw = jax.random.uniform(key, shape) + 0.1
    increments = raw / jnp.sum(raw, axis=-1, keepdims=True)
    ends = jnp.cumsum(increments, axis=-1)
    return Fractions(ends - increments / 2, increments)


def draw_noise(key: Key, batch_size: int, config: Config) -> Noise:
    """The fractions of one update."""
    if config.network == "mlp":
        return None
    here, there = jax.random.split(key)
    shape = (batch_size, config.num_fractions)
    return random_fractions(here, shape), random_fractions(there, shape)


def network(config: Config) -> Network:
    """The ensemble of critics that a config describes."""
    ensemble: Any = IQNEnsemble if config.network == "iqn" else QEnsemble
    return ensemble(config.hidden_dims, config.ensemble_size)


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    inputs: tuple[Array, ...] = zeros(data)
    if config.network == "iqn":
        inputs = (*inputs, jnp.zeros(1))
    params = network(config).init(key, *inputs)
    return State(
        **start(key, data),
        critic=trained(params, optax.adam(config.critic_lr)),
        # Copied leaf by leaf: shared buffers could not be donated.
        target_critic=jax.tree.map(jnp.copy, params),
    )


def quantile_loss(
    quantiles: Array, targets: Array, midpoints: Array, target_increments: Array
) -> Array:
    """Quantile Huber loss [...] (threshold 1) of predictions [..., F] at `midpoints`.

    The increments [..., G] are the weights of the targets [..., G], and sum to one.
    """
    errors = targets[..., None, :] - quantiles[..., :, None]
    size = jnp.abs(errors)
    huber = jnp.where(size <= 1, 0.5 * errors**2, size - 0.5)
    below = (errors < 0).astype(errors.dtype)
    tilted = jnp.abs(midpoints[..., :, None] - below) * huber
    weighted = jnp.sum(tilted * target_increments[..., None, :], axis=-1)
    return jnp.mean(weighted, axis=-1)


def regression(
    params: Pytree,
    targets: Array,
    state: State,
    batch: Transitions,
    noise: Noise,
    config: Config,
) -> Array:
    """Sum over the critics of their mean loss, towards `targets` [size, B(, F)]."""
    observations = state.normalizer(batch.observations)
    actions = state.action_box.to_unit(batch.actions)
    if noise is None:
        values = network(config).apply(params, observations, actions)
        return jnp.sum(jnp.mean((values - targets) ** 2, axis=-1))
    here, there = noise
    quantiles = network(config).apply(params, observations, actions, here.midpoints)
    loss = quantile_loss(quantiles, targets, here.midpoints, there.increments)
    return jnp.sum(jnp.mean(loss, axis=-1))


def next_values(
    state: State, batch: Transitions, next_actions: Array, noise: Noise, config: Config
) -> Array:
    """Target critics' values (or quantiles) at (s', a'), [size, B(, F)]."""
    observations = state.normalizer(batch.next_observations)
    unit_actions = state.action_box.to_unit(next_actions)
    inputs: tuple[Array, ...] = (observations, unit_actions)
    if noise is not None:
        inputs = (*inputs, noise[1].midpoints)
    return network(config).apply(state.target_critic, *inputs)


def bootstrap(batch: Transitions, values: Array, config: Config) -> Array:
    """r + γ (1 − terminal) · value, for values [size, B] or [size, B, F]."""
    rewards, masks = batch.rewards, 1 - batch.terminals
    if values.ndim == 3:
        rewards, masks = rewards[:, None], masks[:, None]
    return rewards + config.discount * masks * values


def critic_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Each critic's loss towards its own target, summed; info is the targets."""
    noise = draw_noise(key, batch.rewards.shape[0], config)
    values = next_values(state, batch, batch.next_actions, noise, config)
    targets = bootstrap(batch, values, config)
    return regression(params, targets, state, batch, noise, config), targets


def learn(
    loss: Callable[..., tuple[Array, Array]],
    state: State,
    batch: Transitions,
    config: Config,
    *args: Pytree,
) -> tuple[State, dict[str, Array]]:
    """One step of every critic on a loss such as `critic_loss`, and of the targets.

    `args` are what the loss reads after `config`.
    """
    key, adam = jax.random.fold_in(state.key, state.step), optax.adam(config.critic_lr)
    critic, value, targets = descend(
        loss, state.critic, adam, state, batch, key, config, *args
    )
    state = state.replace(
        critic=critic,
        target_critic=soft_update(critic.params, state.target_critic, config.tau),
        step=state.step + 1,
    )
    return state, {"critic/loss": value, "critic/target": jnp.mean(targets)}


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of every critic; rows must have a true next action or be terminal."""
    return learn(critic_loss, state, batch, config)


def member_values(
    state: State, config: Config, observation: Array, action: Array
) -> Array:
    """Each online critic's value [size] at one raw observation and action."""
    inputs = (state.normalizer(observation), state.action_box.to_unit(action))
    if config.network == "mlp":
        return network(config).apply(state.critic.params, *inputs)
    count = config.acting_fractions
    midpoints = jnp.asarray((np.arange(count) + 0.5) / count, jnp.float32)
    quantiles = network(config).apply(state.critic.params, *inputs, midpoints)
    return jnp.mean(quantiles, axis=-1)


def aggregate(values: Array, config: Config, ensemble: Ensemble | None = None) -> Array:
    """Joins the members' values [size, ...] as `config.aggregate` says, [...]."""
    ensemble = Ensemble() if ensemble is None else ensemble
    active = jnp.arange(values.shape[0]) < ensemble.active_size
    active = active.reshape(-1, *[1] * (values.ndim - 1))
    if config.aggregate == "min":
        return jnp.min(jnp.where(active, values, jnp.inf), axis=0)
    count = jnp.sum(active)
    mean = jnp.sum(jnp.where(active, values, 0), axis=0) / count
    if config.aggregate == "mean":
        return mean
    squares = jnp.sum(jnp.where(active, (values - mean) ** 2, 0), axis=0)
    variance = squares / jnp.maximum(count - config.lower_bound_ddof, 1)
    # The root's slope at 0 is infinite, and one member alone has no deviation.
    spread = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    return mean - ensemble.lower_bound_beta * spread


def q_value(model: Model, observation: Array, action: Array) -> Array:
    """Joined value [] at one raw observation [O] and environment action [A]."""
    values = member_values(model.state, model.config, observation, action)
    return aggregate(values, model.config)


METHOD = Method("sarsa", 1, init, update, q_value=q_value)


def critic(stage: str) -> Callable[[Params], QFunction]:
    """`Recipe.critic` that joins a stage's members by the acting entry `ensemble`."""

    def q_function(params: Params) -> QFunction:
        model, ensemble = params.models[stage], params.acting["ensemble"]

        def value(observation: Array, action: Array) -> Array:
            values = member_values(model.state, model.config, observation, action)
            return aggregate(values, model.config, ensemble)

        return in_unit(params, stage, value)

    return q_function


def settings(preset: str) -> dict[str, Any]:
    """Sizes, and how fast the target networks follow.

    The published share of 0.005 lets a reward travel back one step in some 200 updates.
    Preset demo has too few of them, so its targets follow faster: the behavior's value
    does not run away then, as those of critics that look for better actions do.
    """
    return narrow(preset) | {"tau": pick(preset, paper=0.005, small=0.005, demo=0.05)}


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `sarsa`: two quantile critics of the behavior."""
    paper = 500_000 if domain(spec) == "antmaze" else 400_000
    steps = pick(preset, paper=paper, small=100_000, demo=5_000)
    view = cfpi_view(spec, next_actions=True)
    return Stage("sarsa", METHOD, Config(**settings(preset)), view, steps)
