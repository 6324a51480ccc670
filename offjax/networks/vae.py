"""Conditional variational autoencoder of actions (Fujimoto et al., BCQ, 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import chex
import flax.linen as nn
import jax.numpy as jnp

from offjax.networks.mlp import MLP


class ActionVAE(nn.Module):
    """Encodes (s, a) into a Gaussian, decodes (s, z) into an action in [-1, 1]."""

    hidden_dims: Sequence[int]
    latent_dim: int
    action_dim: int

    def setup(self) -> None:
        """Both networks."""
        self.encoder = MLP(self.hidden_dims, 2 * self.latent_dim)
        self.decoder = MLP(self.hidden_dims, self.action_dim)

    def encode(
        self, observations: chex.Array, actions: chex.Array
    ) -> tuple[chex.Array, chex.Array]:
        """[..., O], [..., A] → mean and deviation [..., Z]."""
        x = jnp.concatenate([observations, actions], axis=-1)
        mean, log_std = jnp.split(self.encoder(x), 2, axis=-1)
        return mean, jnp.exp(jnp.clip(log_std, -4.0, 15.0))

    def decode(self, observations: chex.Array, latents: chex.Array) -> chex.Array:
        """[..., O], [..., Z] → action [..., A]; the latents of acting are clipped."""
        x = jnp.concatenate([observations, latents], axis=-1)
        return jnp.tanh(self.decoder(x))

    def __call__(
        self, observations: chex.Array, actions: chex.Array, noise: chex.Array
    ) -> tuple[chex.Array, chex.Array, chex.Array]:
        """Reconstruction [..., A], mean and deviation [..., Z], for noise [..., Z]."""
        mean, std = self.encode(observations, actions)
        return self.decode(observations, mean + std * noise), mean, std
