"""What actor-critic algorithms share: a network with its optimiser, twin critics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.networks.mlp import QEnsemble
from offjax.types import Pytree, Transitions

Network = Any
"""A flax module. The type of `apply` is a union that fits no use of it."""


class Trained(flax.struct.PyTreeNode):
    """Parameters with the state of their optimiser."""

    params: Pytree
    opt_state: optax.OptState


def trained(params: Pytree, optimiser: optax.GradientTransformation) -> Trained:
    """Fresh optimiser state beside `params`."""
    return Trained(params, optimiser.init(params))


def descend(
    loss_fn: Callable[..., tuple[chex.Array, Pytree]],
    network: Trained,
    optimiser: optax.GradientTransformation,
    *args: Pytree,
) -> tuple[Trained, chex.Array, Pytree]:
    """One optimiser step on `loss_fn(params, *args) → (loss, aux)`.

    Returns:
      The new network, the loss and aux before the step.
    """
    (loss, aux), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        network.params, *args
    )
    updates, opt_state = optimiser.update(grads, network.opt_state, network.params)
    params = optax.apply_updates(network.params, updates)
    return Trained(params, opt_state), loss, aux


class Inputs(NamedTuple):
    """What networks are initialised with, and the transforms of raw data."""

    observation: chex.Array  # [O] zeros
    action: chex.Array  # [A] zeros
    normalizer: Normalizer
    action_box: ActionBox


def inputs_of(example: Pytree) -> Inputs:
    """From prepared data, which is read for its statistics."""
    statistics = example.statistics
    return Inputs(
        jnp.zeros_like(statistics.observation_mean),
        jnp.zeros_like(statistics.action_low),
        Normalizer.from_statistics(statistics),
        ActionBox(statistics.action_low, statistics.action_high),
    )


def critics(hidden_dims: Sequence[int]) -> Network:
    """Twin critics: [..., O], [..., A] → [2, ...]."""
    return QEnsemble(hidden_dims)


def first_critic(
    params: Pytree,
    hidden_dims: Sequence[int],
    observations: chex.Array,
    actions: chex.Array,
) -> chex.Array:
    """Q_1 [...] alone: half the work, for losses that do not read the other."""
    first = jax.tree.map(lambda x: x[:1], params)
    return QEnsemble(hidden_dims, size=1).apply(first, observations, actions)[0]


def q_values(
    state: Any,
    hidden_dims: Sequence[int],
    observation: chex.Array,
    action: chex.Array,
) -> chex.Array:
    """Both online critics [2] at one raw observation [O] and environment action [A].

    Args:
      state: with `critic`, `normalizer` and `action_box`.
      hidden_dims: the critics' widths.
      observation: raw.
      action: in the environment's units.
    """
    inputs = (state.normalizer(observation), state.action_box.to_unit(action))
    return critics(hidden_dims).apply(state.critic.params, *inputs)


def bootstrap(
    batch: Transitions, next_values: chex.Array, discount: chex.Numeric
) -> chex.Array:
    """r + γ (1 − terminal) · value, [B]."""
    return batch.rewards + discount * (1 - batch.terminals) * next_values


def squared_error(q: chex.Array, targets: chex.Array) -> chex.Array:
    """Sum over the critics [2, B] of their mean squared error towards targets [B]."""
    return jnp.sum(jnp.mean((q - targets) ** 2, axis=-1))
