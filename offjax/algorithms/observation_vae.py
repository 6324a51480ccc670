"""Variational autoencoder of observations: the latent space of a flat planner.

    minimise  E ‖x − g(z)‖² + β KL(N(μ(x), σ(x)²) ‖ N(0, 1)),   z ~ N(μ(x), σ(x)²)

with x the standardised observation, both terms summed over their entries (Higgins et
al., β-VAE, 2017). The Diffuser-1D of Language Control Diffusion's tables plans in the
latents of such a model, there of images and with the total correlation penalised.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.networks.mlp import MLP
from offjax.types import Context, Key, Pytree, config

CLIP = 5.0
"""Standardised observations are clipped to ± this."""


@config
class Config:
    """Hyperparameters.

    Attributes:
      lr: Adam's step size.
      beta: weight of the divergence.
      latent_dim: length of z.
    """

    lr: float = 1e-3
    beta: float = 0.01
    latent_dim: int = 32
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256


class State(flax.struct.PyTreeNode):
    """All that changes, and the transforms of the data it was trained on.

    `config` is for stages that read this state without knowing its settings.
    """

    params: Pytree
    opt_state: optax.OptState
    normalizer: Normalizer
    action_box: ActionBox
    config: Config
    key: Key
    step: chex.Array


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

    def encode(self, observations: chex.Array) -> tuple[chex.Array, chex.Array]:
        """Normalised [..., O] → mean and log deviation [..., Z]."""
        mean, log_std = jnp.split(self.encoder(observations), 2, axis=-1)
        return mean, jnp.clip(log_std, -6.0, 2.0)

    def __call__(
        self, observations: chex.Array, noise: chex.Array
    ) -> tuple[chex.Array, chex.Array, chex.Array]:
        """Reconstruction [..., O], mean and log deviation, for noise [..., Z]."""
        mean, log_std = self.encode(observations)
        return self.decoder(mean + jnp.exp(log_std) * noise), mean, log_std


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for shapes and statistics."""
    del context
    statistics = example.statistics
    observation = jnp.zeros_like(statistics.observation_mean)
    network: Any = Network(config, observation.shape[-1])
    params = network.init(key, observation, jnp.zeros(config.latent_dim))
    return State(
        params,
        optax.adam(config.lr).init(params),
        Normalizer.from_statistics(statistics),
        ActionBox(statistics.action_low, statistics.action_high),
        jax.tree.map(jnp.float32, config),
        key,
        jnp.int32(0),
    )


def normalize(state: State, observations: chex.Array) -> chex.Array:
    """What the network reads of raw observations [..., O]."""
    return jnp.clip(state.normalizer(observations), -CLIP, CLIP)


def loss_fn(
    params: Pytree, observations: chex.Array, noise: chex.Array, config: Config
) -> tuple[chex.Array, dict[str, chex.Array]]:
    """The loss on normalised observations [B, O], with its two parts."""
    network: Any = Network(config, observations.shape[-1])
    decoded, mean, log_std = network.apply(params, observations, noise)
    error = jnp.mean(jnp.sum((decoded - observations) ** 2, axis=-1))
    divergence = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1) - log_std
    divergence = jnp.mean(jnp.sum(divergence, axis=-1))
    metrics = {"vae/error": error, "vae/divergence": divergence}
    return error + config.beta * divergence, metrics


def update(
    state: State, batch: chex.Array, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on raw observations [B, O]."""
    del context
    key = jax.random.fold_in(state.key, state.step)
    noise = jax.random.normal(key, (*batch.shape[:-1], config.latent_dim))
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
        state.params, normalize(state, batch), noise, config
    )
    updates, opt_state = optax.adam(config.lr).update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    state = state.replace(params=params, opt_state=opt_state, step=state.step + 1)
    return state, metrics


def encode_goal(state: State, observations: chex.Array, config: Config) -> chex.Array:
    """Latents [..., Z], the encoder's means, of raw observations [..., O]."""
    network: Any = Network(config, observations.shape[-1])
    observations = normalize(state, observations)
    return network.apply(state.params, observations, method="encode")[0]
