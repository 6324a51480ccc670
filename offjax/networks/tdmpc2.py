"""TD-MPC2's networks: layers with LayerNorm and Mish, and latents on simplices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax

LAYER_NORM_EPSILON = 1e-5


class Size(NamedTuple):
    """Widths of a model, and the number of its Q functions."""

    encoder_dim: int
    latent_dim: int
    mlp_dim: int
    num_q: int


SIZES = {
    "demo": Size(32, 32, 32, 2),
    "small": Size(64, 64, 64, 2),
    "1M": Size(256, 128, 384, 2),
    "5M": Size(256, 512, 512, 5),
}
"""Name → size; 1M and 5M are published, the others are for a few CPU cores."""


def simnorm(x: chex.Array, group: int) -> chex.Array:
    """Softmax within each `group` consecutive entries of the last axis: [..., D]."""
    return jax.nn.softmax(x.reshape(*x.shape[:-1], -1, group)).reshape(x.shape)


class NormedMLP(nn.Module):
    """Linear → LayerNorm → Mish, and a linear layer, or one with a simplicial output.

    Weights begin normal with deviation 0.02, biases at 0.

    Attributes:
      hidden_dims: widths of the hidden layers.
      output_dim: width of the output.
      group: entries of one simplex of the output, which is then Linear → LayerNorm →
        `simnorm`; 0 for a linear output.
      dropout: share of the first layer's units that training leaves out.
      zero_output: whether the output's weights begin at 0.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    group: int = 0
    dropout: float = 0.0
    zero_output: bool = False

    @nn.compact
    def __call__(self, x: chex.Array, train: bool = False) -> chex.Array:
        """[..., in] → [..., output_dim]; dropout in training needs rngs."""
        normal, zeros = nn.initializers.normal(0.02), nn.initializers.zeros_init()
        for i, width in enumerate(self.hidden_dims):
            x = nn.Dense(width, kernel_init=normal)(x)
            if i == 0 and self.dropout > 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = jax.nn.mish(nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x))
        init = zeros if self.zero_output else normal
        x = nn.Dense(self.output_dim, kernel_init=init)(x)
        if self.group:
            x = simnorm(nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x), self.group)
        return x


class NormedEnsemble(nn.Module):
    """`size` independent `NormedMLP`s in one batched product; zero outputs at first.

    Attributes: as of `NormedMLP`.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    size: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: chex.Array, train: bool = False) -> chex.Array:
        """[..., in] → [size, ..., output_dim]."""
        ensemble = nn.vmap(
            NormedMLP,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(None, None),
            out_axes=0,
            axis_size=self.size,
        )
        member = ensemble(
            self.hidden_dims, self.output_dim, dropout=self.dropout, zero_output=True
        )
        return member(x, train)
