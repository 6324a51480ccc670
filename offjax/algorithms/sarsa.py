"""SARSA: the value of the behaviour policy, from the recorded next action.

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

from typing import NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.algorithms.common import Network
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.errors import UserError
from offjax.networks.iqn import IQNEnsemble
from offjax.networks.mlp import QEnsemble
from offjax.types import Context, Key, Pytree, Transitions, config


@config
class Config:
    """Hyperparameters; the paper's.

    Attributes:
      discount: γ.
      polyak: share of the online weights that enters the target at each step.
      network: "iqn" or "mlp".
      ensemble_size: number of critics.
      num_fractions: N_q, fractions per state in training.
      acting_fractions: mid-points (i − ½)/K whose mean is the value when acting.
      aggregate: "min", "mean_std" or "mean".
      lower_bound_beta: β of "mean_std".
      lower_bound_ddof: 0 for the population's deviation, 1 for the unbiased one.
      active_size: members beyond this many do not count when acting, so that one
        trained ensemble serves a grid over its size.
      warm_start: stage whose critic (of this algorithm) is trained further.
    """

    lr: float = 3e-4
    discount: float = 0.99
    polyak: float = 0.005
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    network: str = "iqn"
    ensemble_size: int = 2
    num_fractions: int = 8
    acting_fractions: int = 32
    aggregate: str = "min"
    lower_bound_beta: float = 1.0
    lower_bound_ddof: int = 0
    active_size: float = 1e6
    warm_start: str = ""


class State(flax.struct.PyTreeNode):
    """Online and target critics, and what acting with them needs.

    `config` is for stages that read this state without knowing its settings.
    """

    params: Pytree
    target_params: Pytree
    opt_state: optax.OptState
    normalizer: Normalizer
    action_box: ActionBox
    config: Config
    key: Key
    step: chex.Array


class Fractions(NamedTuple):
    """Mid-points and increments of random partitions of [0, 1], both [..., F]."""

    midpoints: chex.Array
    increments: chex.Array


def random_fractions(key: Key, shape: tuple[int, ...]) -> Fractions:
    """Increments proportional to U(0, 1) + 0.1, so that none is negligible."""
    raw = jax.random.uniform(key, shape) + 0.1
    increments = raw / jnp.sum(raw, axis=-1, keepdims=True)
    ends = jnp.cumsum(increments, axis=-1)
    return Fractions(ends - increments / 2, increments)


def network(config: Config) -> Network:
    """The ensemble of critics that a config describes.

    Raises:
      UserError: an unknown network.
    """
    if config.network == "iqn":
        return IQNEnsemble(config.hidden_dims, config.ensemble_size)
    if config.network == "mlp":
        return QEnsemble(config.hidden_dims, config.ensemble_size)
    raise UserError(f"network is {config.network!r}, but it must be 'iqn' or 'mlp'.")


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state, or that of `warm_start` with a fresh optimiser."""
    if config.warm_start:
        earlier = jax.tree.map(jnp.copy, context[config.warm_start])
        opt_state = optax.adam(config.lr).init(earlier.params)
        return earlier.replace(opt_state=opt_state, key=key, step=jnp.int32(0))
    statistics = example.statistics
    normalizer = Normalizer.from_statistics(statistics)
    action_box = ActionBox(statistics.action_low, statistics.action_high)
    observation = jnp.zeros_like(statistics.observation_mean)
    action = jnp.zeros_like(statistics.action_low)
    inputs: tuple[chex.Array, ...] = (observation, action)
    if config.network == "iqn":
        inputs = (*inputs, jnp.zeros(1))
    params = network(config).init(key, *inputs)
    opt_state = optax.adam(config.lr).init(params)
    # Copied leaf by leaf: shared buffers could not be donated.
    target = jax.tree.map(jnp.copy, params)
    return State(
        params,
        target,
        opt_state,
        normalizer,
        action_box,
        jax.tree.map(jnp.float32, config),
        key,
        jnp.int32(0),
    )


def quantile_loss(
    quantiles: chex.Array,
    targets: chex.Array,
    midpoints: chex.Array,
    target_increments: chex.Array,
) -> chex.Array:
    """Quantile Huber loss (threshold 1), [...].

    Args:
      quantiles: [..., F] predictions at `midpoints` [..., F].
      targets: [..., G] samples of the target with weights `target_increments`
        [..., G], which sum to one.
    """
    errors = targets[..., None, :] - quantiles[..., :, None]
    size = jnp.abs(errors)
    huber = jnp.where(size <= 1, 0.5 * errors**2, size - 0.5)
    below = (errors < 0).astype(errors.dtype)
    tilted = jnp.abs(midpoints[..., :, None] - below) * huber
    weighted = jnp.sum(tilted * target_increments[..., None, :], axis=-1)
    return jnp.mean(weighted, axis=-1)


def loss_fn(
    params: Pytree,
    targets: chex.Array,
    state: State,
    batch: Transitions,
    noise: tuple[Fractions, Fractions] | None,
    config: Config,
) -> chex.Array:
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
    state: State,
    batch: Transitions,
    next_actions: chex.Array,
    noise: tuple[Fractions, Fractions] | None,
    config: Config,
) -> chex.Array:
    """Target critics' values (or quantiles) at (s', a'), [size, B(, F)]."""
    observations = state.normalizer(batch.next_observations)
    unit_actions = state.action_box.to_unit(next_actions)
    inputs: tuple[chex.Array, ...] = (observations, unit_actions)
    if noise is not None:
        inputs = (*inputs, noise[1].midpoints)
    return network(config).apply(state.target_params, *inputs)


def bootstrap(batch: Transitions, values: chex.Array, config: Config) -> chex.Array:
    """r + γ (1 − terminal) · value, for values [size, B] or [size, B, F]."""
    rewards, masks = batch.rewards, 1 - batch.terminals
    if values.ndim == 3:
        rewards, masks = rewards[:, None], masks[:, None]
    return jax.lax.stop_gradient(rewards + config.discount * masks * values)


def draw_noise(
    state: State, batch_size: int, config: Config
) -> tuple[Fractions, Fractions] | None:
    """Fractions at (s, a) and at (s', a') for this step; None for an MLP."""
    if config.network == "mlp":
        return None
    here, there = jax.random.split(jax.random.fold_in(state.key, state.step))
    shape = (batch_size, config.num_fractions)
    return random_fractions(here, shape), random_fractions(there, shape)


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of every critic; rows must have a true next action or be terminal."""
    del context
    noise = draw_noise(state, batch.rewards.shape[0], config)
    values = next_values(state, batch, batch.next_actions, noise, config)
    targets = bootstrap(batch, values, config)
    return step(state, targets, batch, noise, config)


def step(
    state: State,
    targets: chex.Array,
    batch: Transitions,
    noise: tuple[Fractions, Fractions] | None,
    config: Config,
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step towards given targets, and one of the target networks."""
    loss, grads = jax.value_and_grad(loss_fn)(
        state.params, targets, state, batch, noise, config
    )
    updates, opt_state = optax.adam(config.lr).update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    target_params = optax.incremental_update(params, state.target_params, config.polyak)
    state = state.replace(
        params=params,
        target_params=target_params,
        opt_state=opt_state,
        step=state.step + 1,
    )
    return state, {"critic/loss": loss, "critic/target": jnp.mean(targets)}


def member_values(
    state: State, observation: chex.Array, action: chex.Array, config: Config
) -> chex.Array:
    """Each online critic's value [size] at one raw observation and action."""
    inputs = (state.normalizer(observation), state.action_box.to_unit(action))
    if config.network == "mlp":
        return network(config).apply(state.params, *inputs)
    count = config.acting_fractions
    midpoints = jnp.asarray((np.arange(count) + 0.5) / count, jnp.float32)
    quantiles = network(config).apply(state.params, *inputs, midpoints)
    return jnp.mean(quantiles, axis=-1)


def aggregate(values: chex.Array, config: Config) -> chex.Array:
    """Joins the members' values [size, ...] as `config.aggregate` says, [...].

    Raises:
      UserError: an unknown way to join them.
    """
    active = jnp.arange(values.shape[0]) < config.active_size
    active = active.reshape(-1, *[1] * (values.ndim - 1))
    if config.aggregate == "min":
        return jnp.min(jnp.where(active, values, jnp.inf), axis=0)
    count = jnp.sum(active)
    mean = jnp.sum(jnp.where(active, values, 0), axis=0) / count
    if config.aggregate == "mean":
        return mean
    if config.aggregate != "mean_std":
        raise UserError(
            f"aggregate is {config.aggregate!r}, but it must be one of "
            "['min', 'mean', 'mean_std']."
        )
    squares = jnp.sum(jnp.where(active, (values - mean) ** 2, 0), axis=0)
    variance = squares / jnp.maximum(count - config.lower_bound_ddof, 1)
    # The root's slope at 0 is infinite, and one member alone has no deviation.
    spread = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    return mean - config.lower_bound_beta * spread


def q_value(
    state: State, observation: chex.Array, action: chex.Array, config: Config
) -> chex.Array:
    """Joined value [] at one raw observation [O] and environment action [A]."""
    return aggregate(member_values(state, observation, action, config), config)
