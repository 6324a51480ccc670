"""The networks of goal-conditioned cloning: goal encoders, policy, and a decoder.

Where observations are pixels, one convolutional encoder stands before all that reads
them: goals are frames like others.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from offjax.networks.mlp import MLP
from offjax.networks.objects import ObjectMLP
from offjax.networks.perception import PixelDecoder, PixelEncoder
from offjax.types import Array


class GoalPolicy(nn.Module):
    """Both goal encoders, the policy, and what gives states back.

    `config` is an `offjax.methods.gcbc.Config`.
    """

    config: Any
    action_dim: int
    observation_dim: int

    def setup(self) -> None:
        """The submodules; those that are never called get no parameters."""
        c = self.config
        self.state_goal = MLP(c.encoder_dims, c.latent_dim, nn.gelu, layer_norm=True)
        self.state_norm = nn.LayerNorm()
        self.text_goal = MLP(c.encoder_dims, c.latent_dim, nn.gelu, layer_norm=True)
        self.text_norm = nn.LayerNorm()
        width = c.chunk * self.action_dim
        policy: Any = MLP(c.hidden_dims, width, nn.gelu, layer_norm=True)
        if c.objects:
            policy = ObjectMLP(c.objects, c.hidden_dims, width)
        self.policy = policy
        dims, out = c.encoder_dims[::-1], self.observation_dim
        decoder: Any = MLP(dims, out, nn.gelu, layer_norm=True)
        if c.cameras:
            self.camera = PixelEncoder(c.cameras, c.image_features, c.convolutions)
            decoder = PixelDecoder(c.cameras, dims)
        self.decoder = decoder

    def see(self, observations: Array) -> Array:
        """What all else reads of normalized observations [..., O]."""
        return self.camera(observations) if self.config.cameras else observations

    def encode_state(self, goals: Array) -> Array:
        """Normalized states [..., O] → latents [..., Z]."""
        return self.state_norm(self.state_goal(self.see(goals)))

    def encode_text(self, sentences: Array) -> Array:
        """Embedded instructions [..., E] → latents [..., Z]."""
        return self.text_norm(self.text_goal(sentences))

    def decode(self, latents: Array) -> Array:
        """Latents of states [..., Z] → normalized states [..., O]."""
        return self.decoder(latents)

    def act(self, observations: Array, latents: Array) -> Array:
        """Normalized [..., O] and [..., Z] → actions in the unit box [..., K, A]."""
        inputs: tuple[Array, ...] = (self.see(observations), latents)
        if not self.config.objects:
            inputs = (jnp.concatenate(inputs, axis=-1),)
        out = self.policy(*inputs)
        return out.reshape(*out.shape[:-1], self.config.chunk, self.action_dim)

    def __call__(self, observation: Array, sentence: Array | None) -> Array | None:
        """Calls all that `config.goals` needs, so that `init` makes its parameters."""
        actions = None
        if self.config.goals != "language":
            latent = self.encode_state(observation)
            actions = self.act(observation, latent)
            if self.config.reconstruction:
                self.decode(latent)
        if self.config.goals != "states":
            actions = self.act(observation, self.encode_text(sentence))
        return actions
