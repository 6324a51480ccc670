"""Gaussian mixture over actions, given observations."""

from __future__ import annotations

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax

from offjax.networks.initializers import symmetric_uniform


class GaussianMixture(nn.Module):
    """ReLU trunk with linear heads for log weights, means and log deviations.

    The log weights read a copy of the features that passes no gradient back, so that
    the choice of component does not shape the trunk (Li et al., 2023, release).

    Attributes:
      hidden_dims: widths of the trunk.
      num_components: N.
      action_dim: A.
    """

    hidden_dims: Sequence[int]
    num_components: int
    action_dim: int

    @nn.compact
    def __call__(
        self, observations: chex.Array
    ) -> tuple[chex.Array, chex.Array, chex.Array]:
        """[..., O] → logits [..., N], means and log deviations [..., N, A]."""
        features = observations
        for width in self.hidden_dims:
            features = nn.relu(nn.Dense(width)(features))
        shape = (*features.shape[:-1], self.num_components, self.action_dim)
        size = self.num_components * self.action_dim
        small = symmetric_uniform(1e-3)
        means = nn.Dense(size, kernel_init=small, name="means")(features)
        # Equal components would stay equal: their deviations differ at first.
        log_stds = nn.Dense(size, kernel_init=small, bias_init=small, name="log_stds")(
            features
        )
        logits = nn.Dense(
            self.num_components, kernel_init=small, bias_init=small, name="logits"
        )(jax.lax.stop_gradient(features))
        return logits, means.reshape(shape), log_stds.reshape(shape)
