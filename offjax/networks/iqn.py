"""Implicit quantile critic: values at given fractions of the return's distribution.

Dabney et al., Implicit Quantile Networks, 2018, for continuous actions as in Li et al.,
Closed-Form Policy Improvement Operators, 2023: features of (s, a) times an embedding
φ(ρ) = sigmoid(LayerNorm(W [cos πkρ]_{k=1…K})), then one more hidden layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from offjax.networks.mlp import ensemble
from offjax.types import Array


class IQN(nn.Module):
    """One critic; `embedding_dim` is K.

    The layer after the product is as wide as the last before it.
    """

    hidden_dims: Sequence[int] = (256, 256)
    embedding_dim: int = 64

    @nn.compact
    def __call__(self, observations: Array, actions: Array, fractions: Array) -> Array:
        """[..., O], [..., A], fractions [..., F] → quantile values [..., F]."""
        width = self.hidden_dims[-1]
        x = jnp.concatenate([observations, actions], axis=-1)
        for i, size in enumerate(self.hidden_dims):
            x = nn.Dense(size, name=f"base_{i}")(x)
            x = nn.relu(nn.LayerNorm(epsilon=1e-5, name=f"base_norm_{i}")(x))
        multiples = np.pi * np.arange(1, self.embedding_dim + 1)
        embedding = jnp.cos(fractions[..., None] * multiples.astype(x.dtype))
        embedding = nn.Dense(width, name="fraction")(embedding)
        embedding = nn.LayerNorm(epsilon=1e-5, name="fraction_norm")(embedding)
        x = x[..., None, :] * nn.sigmoid(embedding)
        x = nn.Dense(width, name="merge")(x)
        x = nn.relu(nn.LayerNorm(epsilon=1e-5, name="merge_norm")(x))
        return nn.Dense(1, name="value")(x)[..., 0]


class IQNEnsemble(nn.Module):
    """`size` independent critics; the fractions are shared."""

    hidden_dims: Sequence[int] = (256, 256)
    size: int = 2
    embedding_dim: int = 64

    @nn.compact
    def __call__(self, observations: Array, actions: Array, fractions: Array) -> Array:
        """[..., O], [..., A], [..., F] → [size, ..., F]."""
        critics = ensemble(IQN, self.size)(self.hidden_dims, self.embedding_dim)
        return critics(observations, actions, fractions)
