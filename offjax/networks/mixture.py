"""Gaussian mixture over actions, given observations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax

from offjax.networks.initializers import symmetric_uniform
from offjax.types import Array


class GaussianMixture(nn.Module):
    """ReLU trunk with linear heads for log weights, means and log deviations.

    The log weights read a copy of the features that passes no gradient back, so that
    the choice of component does not shape the trunk (Li et al., 2023, release).
    """

    hidden_dims: Sequence[int]
    num_components: int
    action_dim: int

    @nn.compact
    def __call__(self, observations: Array) -> tuple[Array, Array, Array]:
        """[..., O] → logits [..., N], means and log deviations [..., N, A]."""
        features = observations
        for width in self.hidden_dims:
            features = nn.relu(nn.Dense(width)(features))
        shape = (*features.shape[:-1], self.num_components, self.action_dim)
        size = self.num_components * self.action_dim
        small = symmetric_uniform(1e-3)
        means = nn.Dense(size, kernel_init=small, name="means")(features)
        # Equal components would stay equal: their deviations differ at first.
        head = partial(nn.Dense, kernel_init=small, bias_init=small)
        log_stds = head(size, name="log_stds")(features)
        fixed = jax.lax.stop_gradient(features)
        logits = head(self.num_components, name="logits")(fixed)
        return logits, means.reshape(shape), log_stds.reshape(shape)
