"""Gaussian policies: with one deviation for all observations, or before tanh."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.distributions import LOG_2PI
from offjax.networks.mlp import MLP
from offjax.types import Array


class GlobalStdGaussian(nn.Module):
    """Mean by an MLP, one learned and clipped log deviation per action dimension.

    With `tanh_mean` the mean is squashed into [-1, 1].
    """

    hidden_dims: Sequence[int]
    action_dim: int
    tanh_mean: bool = True
    log_std_min: float = -5.0
    log_std_max: float = 2.0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, observations: Array, train: bool = False) -> tuple[Array, Array]:
        """[..., O] → mean [..., A] and log deviation [A]."""
        network = MLP(self.hidden_dims, self.action_dim, dropout=self.dropout)
        mean = network(observations, train)
        if self.tanh_mean:
            mean = jnp.tanh(mean)
        log_std = self.param(
            "log_std", nn.initializers.zeros_init(), (self.action_dim,)
        )
        return mean, jnp.clip(log_std, self.log_std_min, self.log_std_max)


class TanhGaussian(nn.Module):
    """Mean and deviation before tanh, both by one MLP.

    The log deviation is m·x + b of the output x with learned scalars m = 1 and b = −1
    at first, clipped (the actor of public CQL code).
    """

    hidden_dims: Sequence[int]
    action_dim: int

    @nn.compact
    def __call__(self, observations: Array) -> tuple[Array, Array]:
        """[..., O] → latent mean and log deviation, both [..., A]."""
        network = MLP(self.hidden_dims, 2 * self.action_dim, output_scale=1e-2)
        mean, log_std = jnp.split(network(observations), 2, axis=-1)
        slope = self.param("log_std_slope", nn.initializers.ones_init(), ())
        offset = self.param("log_std_offset", nn.initializers.constant(-1.0), ())
        return mean, jnp.clip(slope * log_std + offset, -20.0, 2.0)


def tanh_sample(mean: Array, log_std: Array, noise: Array) -> tuple[Array, Array]:
    """Action in [-1, 1] and its log density, for standard noise, all [..., A]."""
    latent = mean + jnp.exp(log_std) * noise
    log_prob = -0.5 * (noise**2 + 2 * log_std + LOG_2PI)
    # log(1 − tanh²u), in a form that does not cancel.
    jacobian = 2 * (jnp.log(2.0) - latent - jax.nn.softplus(-2 * latent))
    return jnp.tanh(latent), jnp.sum(log_prob - jacobian, axis=-1)
