"""Variational autoencoder of observations: the latent space of a flat planner.

    minimize  E ‖x − g(z)‖² + β KL(N(μ(x), σ(x)²) ‖ N(0, 1)),   z ~ N(μ(x), σ(x)²)

with x the standardized observation, both terms summed over their entries (Higgins et
al., β-VAE, 2017). The Diffuser-1D of Language Control Diffusion's tables plans in the
latents of such a model, there of images and with the total correlation penalized.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.play import Observations, ObservationView
from offjax.methods.common import TrainState, clipped, pick, start, zeros
from offjax.methods.plans import Encoder
from offjax.networks.mlp import MLP
from offjax.networks.trained import Trained, descend, trained
from offjax.types import Array, Key, Model, Pytree, Stage, Upstream, config


@config
class Config:
    """Hyperparameters.

    Attributes:
      beta: weight of the divergence.
      latent_dim: length of z.
    """

    lr: float = 1e-3
    beta: float = 0.01
    latent_dim: int = 32
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256


class Network(nn.Module):
    """Encoder and decoder."""

    config: Config
    observation_dim: int

    def setup(self) -> None:
        """Both networks."""
        c = self.config
        self.encoder = MLP(c.hidden_dims, 2 * c.latent_dim, nn.gelu, layer_norm=True)
        self.decoder = MLP(
            c.hidden_dims, self.observation_dim, nn.gelu, layer_norm=True
        )

    def encode(self, observations: Array) -> tuple[Array, Array]:
        """Normalized [..., O] → mean and log deviation [..., Z]."""
        mean, log_std = jnp.split(self.encoder(observations), 2, axis=-1)
        return mean, jnp.clip(log_std, -6.0, 2.0)

    def __call__(self, observations: Array, noise: Array) -> tuple[Array, Array, Array]:
        """Reconstruction [..., O], mean and log deviation, for noise [..., Z]."""
        mean, log_std = self.encode(observations)
        return self.decoder(mean + jnp.exp(log_std) * noise), mean, log_std


class State(TrainState):
    """Encoder and decoder."""

    vae: Trained


def init(key: Key, data: Observations, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, _ = zeros(data)
    network: Any = Network(config, observation.shape[-1])
    params = network.init(key, observation, jnp.zeros(config.latent_dim))
    return State(**start(key, data), vae=trained(params, optax.adam(config.lr)))


def vae_loss(
    params: Pytree, state: State, batch: Array, key: Key, config: Config
) -> tuple[Array, dict[str, Array]]:
    """The loss on raw observations [B, O], with its two parts; `key` draws z."""
    noise = jax.random.normal(key, (*batch.shape[:-1], config.latent_dim))
    observations = clipped(state, batch)
    network: Any = Network(config, observations.shape[-1])
    decoded, mean, log_std = network.apply(params, observations, noise)
    error = jnp.mean(jnp.sum((decoded - observations) ** 2, axis=-1))
    divergence = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
    divergence = jnp.mean(jnp.sum(divergence, axis=-1))
    metrics = {"vae/error": error, "vae/divergence": divergence}
    return error + config.beta * divergence, metrics


def update(
    state: State, batch: Array, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step on raw observations [B, O]."""
    key = jax.random.fold_in(state.key, state.step)
    adam = optax.adam(config.lr)
    vae, _, metrics = descend(vae_loss, state.vae, adam, state, batch, key, config)
    return state.replace(vae=vae, step=state.step + 1), metrics


def encode_goal(model: Model, observations: Array) -> Array:
    """Latents [..., Z], the encoder's means, of raw observations [..., O]."""
    network: Any = Network(model.config, observations.shape[-1])
    observations = clipped(model.state, observations)
    return network.apply(model.state.vae.params, observations, method="encode")[0]


METHOD = Encoder("observation_vae", 1, init, update, encode_goal=encode_goal)


def stage(preset: str) -> Stage:
    """Stage `vae`."""
    steps = pick(preset, paper=200_000, small=20_000, demo=1_000)
    return Stage("vae", METHOD, Config(), ObservationView(), steps)
