"""Multi-layer perceptrons, and the ensemble of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import chex
import flax.linen as nn
import jax.numpy as jnp

Initializer = nn.initializers.Initializer


class MLP(nn.Module):
    """Linear layers with an activation after each but the last.

    Attributes:
      hidden_dims: widths of the hidden layers.
      output_dim: width of the linear output layer.
      activation: applied after every hidden layer.
      layer_norm: LayerNorm before each activation.
      norm_last: LayerNorm after each activation instead.
      output_scale: factor on the output layer's initial weights.
      dropout: share of hidden units that training omits.
      weights: initial weights of the hidden layers.
      biases: their initial biases.
      output_weights: those of the output layer; None: by `output_scale`.
      output_biases: its initial biases.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    activation: Callable[[chex.Array], chex.Array] = nn.relu
    layer_norm: bool = False
    output_scale: float = 1.0
    dropout: float = 0.0
    norm_last: bool = False
    weights: Initializer = nn.initializers.lecun_normal()
    biases: Initializer = nn.initializers.zeros_init()
    output_weights: Initializer | None = None
    output_biases: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: chex.Array, train: bool = False) -> chex.Array:
        """[..., in] → [..., output_dim]; dropout in training needs rngs."""
        for width in self.hidden_dims:
            x = nn.Dense(width, kernel_init=self.weights, bias_init=self.biases)(x)
            if self.layer_norm and not self.norm_last:
                x = nn.LayerNorm()(x)
            x = self.activation(x)
            if self.layer_norm and self.norm_last:
                x = nn.LayerNorm()(x)
            if self.dropout > 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        init = self.output_weights or nn.initializers.variance_scaling(
            self.output_scale, "fan_in", "truncated_normal"
        )
        return nn.Dense(
            self.output_dim, kernel_init=init, bias_init=self.output_biases
        )(x)


class QEnsemble(nn.Module):
    """`size` independent critics in one batched product.

    Returns [size, ...] values of observations [..., O] and actions [..., A]. What is
    not named here is as in `MLP`.
    """

    hidden_dims: Sequence[int]
    size: int = 2
    layer_norm: bool = False
    norm_last: bool = False
    activation: Callable[[chex.Array], chex.Array] = nn.relu
    weights: Initializer = nn.initializers.lecun_normal()
    biases: Initializer = nn.initializers.zeros_init()
    output_weights: Initializer | None = None
    output_biases: Initializer = nn.initializers.zeros_init()

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
        values = ensemble(
            self.hidden_dims,
            1,
            activation=self.activation,
            layer_norm=self.layer_norm,
            norm_last=self.norm_last,
            weights=self.weights,
            biases=self.biases,
            output_weights=self.output_weights,
            output_biases=self.output_biases,
        )(x)
        return values[..., 0]
