"""Plain recurrent layers, with a mask over the steps that were recorded."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.networks.transformer import Linear
from offjax.types import Array


class Recurrence(nn.Module):
    """h_t = g(x_t + U h_{t−1} + b): an Elman layer whose inputs are mapped outside.

    With `reverse` it runs from the last step to the first.
    """

    activation: Callable[[Array], Array]
    reverse: bool = False

    @nn.compact
    def __call__(
        self, inputs: Array, hidden: Array | None = None, mask: Array | None = None
    ) -> tuple[Array, Array]:
        """Outputs [..., T, H] and the last state [..., H], from inputs [..., T, H].

        The state before the first step is `hidden` [..., H], or 0. Steps where `mask`
        [..., T] is 0 leave the state as it is.
        """
        recur = Linear(inputs.shape[-1], name="recur")
        if hidden is None:
            hidden = jnp.zeros_like(inputs[..., 0, :])
        if self.is_initializing():
            recur(hidden)
        weights = recur.variables["params"]
        steps = jnp.moveaxis(inputs + weights["bias"], -2, 0)
        recorded = None if mask is None else jnp.moveaxis(mask > 0, -1, 0)[..., None]

        def step(h: Array, xs: tuple[Array, Array | None]):
            x, keep = xs
            new = self.activation(x + h @ weights["kernel"])
            h = new if keep is None else jnp.where(keep, new, h)
            return h, h

        last, outputs = jax.lax.scan(
            step, hidden, (steps, recorded), reverse=self.reverse
        )
        return jnp.moveaxis(outputs, 0, -2), last


class BidirectionalRNN(nn.Module):
    """Layers of two tanh recurrences, one in each direction; the last step's output."""

    width: int = 2048
    num_layers: int = 2

    @nn.compact
    def __call__(self, x: Array, mask: Array, train: bool) -> Array:
        """[..., T, in], mask [..., T] of a prefix → [..., 2 · width].

        The last step is the last recorded one, of which the backward half has seen
        nothing else. `train` changes nothing.
        """
        for layer in range(self.num_layers):
            halves = []
            for name in ("forward", "backward"):
                inputs = Linear(self.width, name=f"{name}{layer}_in")(x)
                recurrence = Recurrence(
                    jnp.tanh, name == "backward", name=f"{name}{layer}"
                )
                halves.append(recurrence(inputs, None, mask)[0])
            x = jnp.concatenate(halves, axis=-1)
        last = jnp.sum(mask > 0, axis=-1) - 1
        return jnp.take_along_axis(x, last[..., None, None], axis=-2)[..., 0, :]
