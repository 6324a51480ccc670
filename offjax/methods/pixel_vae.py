"""β-TC-VAE of frames: the latent space of a flat planner that sees.

    minimize  E ‖x − g(z)‖² / 2σ² + I(z; n) + β TC(z) + Σ_j KL(q(z_j) ‖ p(z_j)),
    TC(z) = KL(q(z) ‖ Π_j q(z_j)),   z ~ q(z | x) = N(μ(x), diag s(x)²),   p = N(0, 1)

Chen et al., Isolating Sources of Disentanglement in VAEs, 2018 (arXiv:1802.04942): the
divergence from the prior, split in three, its total correlation weighted by β. Its
densities are estimated by minibatch-weighted sampling,

    log q(z) ≈ log 1/(N M) Σ_m q(z | x_m),   and likewise of each entry z_j,

of M frames of N; encoder and decoder are convolutional.
The Diffuser-1D of Language Control Diffusion's tables plans in such latents. In this
package it also stands for the row Diffuser-2D, whose image autoencoder was trained on
other data and whose weights cannot be had: it is trained here, on the play itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.play import Observations, ObservationView
from offjax.distributions import LOG_2PI
from offjax.methods.common import TrainState, pick, start, zeros
from offjax.methods.pixels import PixelConfig, encoder_sizes, see, shifted_rows
from offjax.methods.plans import Encoder
from offjax.networks.mlp import MLP
from offjax.networks.perception import PixelDecoder, PixelEncoder
from offjax.networks.trained import Trained, descend, trained
from offjax.types import Array, EnvSpec, Key, Model, Pytree, Stage, Upstream, config


@config
class Config(PixelConfig):
    """Hyperparameters.

    Attributes:
      beta: weight of the total correlation.
      noise: σ, deviation of a pixel in [-1, 1] that the reconstruction presumes.
      latent_dim: length of z.
      hidden_dims: widths between the cameras' features and z, and back.
    """

    lr: float = 1e-3
    beta: float = 6.0
    noise: float = 1.0
    latent_dim: int = 32
    hidden_dims: tuple[int, ...] = (256,)
    batch_size: int = 64


class Network(nn.Module):
    """Encoder and decoder."""

    config: Config

    def setup(self) -> None:
        """Both networks."""
        c = self.config
        self.camera = PixelEncoder(c.cameras, c.image_features, c.convolutions)
        self.encoder = MLP(c.hidden_dims, 2 * c.latent_dim, nn.gelu, layer_norm=True)
        self.decoder = PixelDecoder(c.cameras, c.hidden_dims[::-1])

    def encode(self, frames: Array) -> tuple[Array, Array]:
        """Pixels [..., O] in [-1, 1] → mean and log deviation [..., Z]."""
        features = self.encoder(self.camera(frames))
        mean, log_std = jnp.split(features, 2, axis=-1)
        return mean, jnp.clip(log_std, -6.0, 2.0)

    def __call__(
        self, frames: Array, noise: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Reconstruction [..., O], z, mean and log deviation, for noise [..., Z]."""
        mean, log_std = self.encode(frames)
        z = mean + jnp.exp(log_std) * noise
        return self.decoder(z), z, mean, log_std


class State(TrainState):
    """Encoder and decoder, and how many frames there are."""

    vae: Trained
    frames: Array  # [] N


class Terms(NamedTuple):
    """The three parts of the divergence from the prior."""

    information: Array  # [] I(z; n)
    correlation: Array  # [] TC(z)
    dimensions: Array  # [] Σ_j KL(q(z_j) ‖ p(z_j))


def terms(z: Array, mean: Array, log_std: Array, count: Array) -> Terms:
    """Estimates of a batch [M, Z] of `count` frames; they sum to log q(z|x) − log p(z).

    The sum is exact for the batch, whatever the estimate of q(z).
    """
    own = jnp.sum(_log_density(z, mean, log_std), axis=-1)
    each = _log_density(z[:, None], mean[None], log_std[None])  # [M, M, Z]
    weight = jnp.log(count * len(z))
    joint = jax.nn.logsumexp(jnp.sum(each, axis=-1), axis=1) - weight
    product = jnp.sum(jax.nn.logsumexp(each, axis=1) - weight, axis=-1)
    prior = jnp.sum(_log_density(z, jnp.zeros_like(z), jnp.zeros_like(z)), axis=-1)
    return Terms(
        jnp.mean(own - joint), jnp.mean(joint - product), jnp.mean(product - prior)
    )


def _log_density(z: Array, mean: Array, log_std: Array) -> Array:
    """Of each entry of z under its Gaussian."""
    return -0.5 * (((z - mean) / jnp.exp(log_std)) ** 2 + 2 * log_std + LOG_2PI)


def init(key: Key, data: Observations, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    frame, _ = zeros(data)
    network: Any = Network(config)
    params = network.init(key, frame, jnp.zeros(config.latent_dim))
    vae = trained(params, optax.adam(config.lr))
    frames = jnp.float32(data.observations.shape[0])
    return State(**start(key, data), vae=vae, frames=frames)


def vae_loss(
    params: Pytree, state: State, batch: Array, key: Key, config: Config
) -> tuple[Array, dict[str, Array]]:
    """The loss of raw frames [B, O], and its parts; `key` draws z and the shifts."""
    shift_key, noise_key = jax.random.split(key)
    frames = see(state, shifted_rows(batch, shift_key, config), config)
    noise = jax.random.normal(noise_key, (len(frames), config.latent_dim))
    network: Any = Network(config)
    decoded, z, mean, log_std = network.apply(params, frames, noise)
    error = jnp.mean(jnp.sum((decoded - frames) ** 2, axis=-1))
    parts = terms(z, mean, log_std, state.frames)
    loss = 0.5 * error / config.noise**2 + config.beta * parts.correlation
    loss += parts.information + parts.dimensions
    metrics = {f"vae/{name}": value for name, value in parts._asdict().items()}
    return loss, metrics | {"vae/error": error, "vae/loss": loss}


def update(
    state: State, batch: Array, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step on raw frames [B, O]."""
    key = jax.random.fold_in(state.key, state.step)
    adam = optax.adam(config.lr)
    vae, _, metrics = descend(vae_loss, state.vae, adam, state, batch, key, config)
    return state.replace(vae=vae, step=state.step + 1), metrics


def encode_goal(model: Model, observations: Array) -> Array:
    """Latents [..., Z], the encoder's means, of raw frames [..., O]."""
    network: Any = Network(model.config)
    frames = see(model.state, observations, model.config)
    return network.apply(model.state.vae.params, frames, method="encode")[0]


METHOD = Encoder("pixel_vae", 1, init, update, encode_goal=encode_goal, cameras=True)


def stage(spec: EnvSpec, preset: str) -> Stage:
    """Stage `vae`."""
    steps = pick(preset, paper=200_000, small=20_000, demo=1_000)
    config = Config(**encoder_sizes(spec, preset))
    return Stage("vae", METHOD, config, ObservationView(), steps)
