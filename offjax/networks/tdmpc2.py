"""TD-MPC2's networks: LayerNorm and Mish, simplicial latents, values in bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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


def mish(x: chex.Array) -> chex.Array:
    """x tanh(softplus x), with one exponential where the definition has three."""
    n = jnp.exp(jnp.minimum(x, 20.0))  # the rest of the factor is 1 from there on
    n = n * (n + 2)
    return x * n / (n + 2)


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
            x = mish(nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x))
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


def symlog(x: chex.Array) -> chex.Array:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: chex.Array) -> chex.Array:
    """Inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


class Bins(NamedTuple):
    """Numbers as distributions over `num` bins of their symlog, in [−limit, limit]."""

    num: int
    limit: float

    @property
    def centres(self) -> np.ndarray:
        """Of the bins, in symlog; [num]."""
        return np.linspace(-self.limit, self.limit, self.num)

    def two_hot(self, x: chex.Array) -> chex.Array:
        """Weights [..., num] of the two bins around symlog x; beyond them, the last.

        A triangle of the width of two bins around each centre gives the same numbers.
        """
        centres = self.centres
        y = jnp.clip(symlog(x), -self.limit, self.limit)[..., None]
        return jnp.maximum(0.0, 1.0 - jnp.abs(y - centres) / (centres[1] - centres[0]))

    def expectation(self, logits: chex.Array) -> chex.Array:
        """symexp of the expected bin: [..., num] → [...]."""
        return symexp(jax.nn.softmax(logits) @ self.centres.astype(logits.dtype))

    def cross_entropy(self, logits: chex.Array, x: chex.Array) -> chex.Array:
        """Of logits [..., num] towards values [...]."""
        return -jnp.sum(self.two_hot(x) * jax.nn.log_softmax(logits), axis=-1)
