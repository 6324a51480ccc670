"""Gaussian policies whose deviation does not depend on the observation."""

from __future__ import annotations

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax.numpy as jnp

from offjax.networks.mlp import MLP


class GlobalStdGaussian(nn.Module):
    """Mean by an MLP, one learnt log deviation per action dimension.

    Attributes:
      hidden_dims: widths of the hidden layers.
      action_dim: A.
      tanh_mean: whether the mean is squashed into [-1, 1].
      log_std_min: lower clip of the log deviation.
      log_std_max: upper clip.
    """

    hidden_dims: Sequence[int]
    action_dim: int
    tanh_mean: bool = True
    log_std_min: float = -5.0
    log_std_max: float = 2.0

    @nn.compact
    def __call__(self, observations: chex.Array) -> tuple[chex.Array, chex.Array]:
        """[..., O] → mean [..., A] and log deviation [A]."""
        mean = MLP(self.hidden_dims, self.action_dim)(observations)
        if self.tanh_mean:
            mean = jnp.tanh(mean)
        log_std = self.param("log_std", nn.initializers.zeros_init(), (self.action_dim,))
        return mean, jnp.clip(log_std, self.log_std_min, self.log_std_max)
