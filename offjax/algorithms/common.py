"""What several actor-critic algorithms share: a network with its optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex
import flax.struct
import jax
import optax

from offjax.types import Pytree

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
