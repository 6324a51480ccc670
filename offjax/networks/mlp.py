"""Multi-layer perceptrons, and the ensemble of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import chex
import flax.linen as nn
import jax.numpy as jnp


class MLP(nn.Module):
    """Linear layers with an activation after each but the last.

    Attributes:
      hidden_dims: widths of the hidden layers.
      output_dim: width of the linear output layer.
      activation: applied after every hidden layer.
      layer_norm: LayerNorm before each activation.
      output_scale: factor on the output layer's initial weights.
      dropout: share of hidden units that training leaves out.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    activation: Callable[[chex.Array], chex.Array] = nn.relu
    layer_norm: bool = False
    output_scale: float = 1.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: chex.Array, train: bool = False) -> chex.Array:
        """[..., in] → [..., output_dim]; dropout in training needs rngs."""
        for width in self.hidden_dims:
            x = nn.Dense(width)(x)
            if self.layer_norm:
                x = nn.LayerNorm()(x)
            x = self.activation(x)
            if self.dropout > 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        init = nn.initializers.variance_scaling(
            self.output_scale, "fan_in", "truncated_normal"
        )
        return nn.Dense(self.output_dim, kernel_init=init)(x)


class QEnsemble(nn.Module):
    """`size` independent critics in one batched product.

    Returns [size, ...] values of observations [..., O] and actions [..., A].
    """

    hidden_dims: Sequence[int]
    size: int = 2
    layer_norm: bool = False

    @nn.compact
    def __call__(self, observations: chex.Array, actions: chex.Array) -> chex.Array:
        """[..., O], [..., A] → [size, ...]."""
        ensemble = nn.vmap(
            MLP,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            out_axes=0,
            axis_size=self.size,
        )
        x = jnp.concatenate([observations, actions], axis=-1)
        return ensemble(self.hidden_dims, 1, layer_norm=self.layer_norm)(x)[..., 0]
