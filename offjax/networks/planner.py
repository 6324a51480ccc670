"""The network that plans a window of actions from its first state."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from offjax.networks.mlp import MLP
from offjax.types import Array


class Planner(nn.Module):
    """State embedding + position encoding → MLP → outputs of the whole window.

    The embedding's width is even; the position is the time of the window's start.
    """

    output_dim: int
    hidden_dims: Sequence[int]
    embedding_dim: int
    position_encoding: bool = True

    @nn.compact
    def __call__(self, observations: Array, times: Array) -> Array:
        """[..., O] (normalized), [...] → [..., output_dim]."""
        x = nn.Dense(self.embedding_dim)(observations)
        if self.position_encoding:
            x = x + sinusoids(times, self.embedding_dim)
        return MLP(self.hidden_dims, self.output_dim, output_scale=0.01)(x)


def sinusoids(times: Array, width: int) -> Array:
    """Sine and cosine codes of `times` [...], as in transformers: [..., width]."""
    rates = jnp.exp(-jnp.log(1e4) * jnp.arange(width // 2) / (width // 2))
    angles = jnp.asarray(times)[..., None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
