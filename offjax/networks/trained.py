"""A network with its optimizer, and the step that both take."""

from __future__ import annotations

from collections.abc import Callable

import flax.struct
import jax
import optax

from offjax.types import Array, Pytree


class Trained(flax.struct.PyTreeNode):
    """Parameters with the state of their optimizer."""

    params: Pytree
    opt_state: optax.OptState


def trained(params: Pytree, optimizer: optax.GradientTransformation) -> Trained:
    """Fresh optimizer state beside `params`."""
    return Trained(params, optimizer.init(params))


def descend(
    loss_fn: Callable[..., tuple[Array, Pytree]],
    network: Trained,
    optimizer: optax.GradientTransformation,
    *args: Pytree,
) -> tuple[Trained, Array, Pytree]:
    """One optimizer step on `loss_fn(params, *args) → (loss, info)`.

    Returns:
      The new network, the loss and the info before the step.
    """
    (loss, info), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        network.params, *args
    )
    return apply_gradients(network, grads, optimizer), loss, info


def apply_gradients(
    network: Trained, grads: Pytree, optimizer: optax.GradientTransformation
) -> Trained:
    """The network after one optimizer step along gradients of its parameters."""
    updates, opt_state = optimizer.update(grads, network.opt_state, network.params)
    return Trained(optax.apply_updates(network.params, updates), opt_state)
