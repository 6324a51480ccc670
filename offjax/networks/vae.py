"""Conditional variational autoencoder of actions (Fujimoto et al., BCQ, 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from offjax.networks.mlp import MLP
from offjax.types import Array


class ActionVAE(nn.Module):
    """Encodes (s, a) into a Gaussian, decodes (s, z) into an action in [-1, 1]."""

    hidden_dims: Sequence[int]
    latent_dim: int
    action_dim: int

    def setup(self) -> None:
        """Both networks."""
        self.encoder = MLP(self.hidden_dims, 2 * self.latent_dim)
        self.decoder = MLP(self.hidden_dims, self.action_dim)

    def encode(self, observations: Array, actions: Array) -> tuple[Array, Array]:
        """[..., O], [..., A] → mean and deviation [..., Z]."""
        x = jnp.concatenate([observations, actions], axis=-1)
        mean, log_std = jnp.split(self.encoder(x), 2, axis=-1)
        return mean, jnp.exp(jnp.clip(log_std, -4.0, 15.0))

    def decode(self, observations: Array, latents: Array) -> Array:
        """[..., O], [..., Z] → action [..., A]; the latents of acting are clipped."""
        x = jnp.concatenate([observations, latents], axis=-1)
        return jnp.tanh(self.decoder(x))

    def __call__(
        self, observations: Array, actions: Array, noise: Array
    ) -> tuple[Array, Array, Array]:
        """Reconstruction [..., A], mean and deviation [..., Z], for noise [..., Z]."""
        mean, std = self.encode(observations, actions)
        return self.decode(observations, mean + std * noise), mean, std
