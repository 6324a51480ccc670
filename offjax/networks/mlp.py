"""Multi-layer perceptrons, and the ensemble of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.core import FrozenDict

from offjax.types import Array

Initializer = nn.initializers.Initializer


class MLP(nn.Module):
    """Linear layers with an activation after each but the last.

    Attributes:
      layer_norm: LayerNorm before each activation.
      norm_last: LayerNorm after each activation instead.
      output_scale: factor on the output layer's initial weights.
      dropout: share of hidden units that training omits.
      weights: initial ones of the hidden layers, as `biases`.
      output_weights: initial ones of the output layer; None: by `output_scale`.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    activation: Callable[[Array], Array] = nn.relu
    layer_norm: bool = False
    output_scale: float = 1.0
    dropout: float = 0.0
    norm_last: bool = False
    weights: Initializer = nn.initializers.lecun_normal()
    biases: Initializer = nn.initializers.zeros_init()
    output_weights: Initializer | None = None
    output_biases: Initializer = nn.initializers.zeros_init()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
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


def ensemble(module: type[nn.Module], size: int) -> Any:
    """`size` independent members of a module class, in one batched product.

    They share their inputs; parameters and outputs have a leading axis [size].
    """
    return nn.vmap(
        module,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=None,
        out_axes=0,
        axis_size=size,
    )


class QEnsemble(nn.Module):
    """`size` independent critics; `settings` are those of `MLP`."""

    hidden_dims: Sequence[int]
    size: int = 2
    settings: Mapping[str, Any] = FrozenDict()

    @nn.compact
    def __call__(self, observations: Array, actions: Array) -> Array:
        """[..., O], [..., A] → [size, ...]."""
        x = jnp.concatenate([observations, actions], axis=-1)
        critics = ensemble(MLP, self.size)(self.hidden_dims, 1, **self.settings)
        return critics(x)[..., 0]
