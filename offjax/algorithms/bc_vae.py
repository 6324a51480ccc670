"""Cloning with a variational autoencoder, the behaviour model of BCQ.

    minimise E ‖a − D(s, z)‖²/A + ½ E KL(N(μ, σ²) ‖ N(0, 1)),  z ~ N(μ, σ²) = E(s, a)

with the divergence averaged over the latent dimensions, as in BCQ (Fujimoto et al.,
2019, arXiv:1812.02900). Acting decodes latents of N(0, 1) clipped to ±½.
"""

from __future__ import annotations

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms.common import Network, Trained, descend, trained
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import Distribution
from offjax.networks.vae import ActionVAE
from offjax.types import Context, Key, Pytree, Transitions, config

LATENT_CLIP = 0.5


@config
class Config:
    """Hyperparameters; BCQ's.

    Attributes:
      latent_factor: size of the latent per action dimension.
      kl_weight: factor on the divergence.
    """

    lr: float = 1e-3
    hidden_dims: tuple[int, ...] = (750, 750)
    batch_size: int = 100
    latent_factor: int = 2
    kl_weight: float = 0.5


class State(flax.struct.PyTreeNode):
    """The autoencoder, and the transforms of the data."""

    vae: Trained
    normalizer: Normalizer
    action_box: ActionBox
    key: Key
    step: chex.Array


def network(config: Config, action_dim: int) -> Network:
    """The autoencoder that a config describes."""
    return ActionVAE(config.hidden_dims, config.latent_factor * action_dim, action_dim)


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for its statistics."""
    del context
    statistics = example.statistics
    observation = jnp.zeros_like(statistics.observation_mean)
    action = jnp.zeros_like(statistics.action_low)
    vae = network(config, action.shape[-1])
    params = vae.init(key, observation, action, jnp.zeros(vae.latent_dim))
    return State(
        trained(params, optax.adam(config.lr)),
        Normalizer.from_statistics(statistics),
        ActionBox(statistics.action_low, statistics.action_high),
        key,
        jnp.int32(0),
    )


def loss_fn(
    params: Pytree,
    observations: chex.Array,
    actions: chex.Array,
    noise: chex.Array,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Reconstruction plus divergence for noise [B, Z]; aux is the reconstruction."""
    vae = network(config, actions.shape[-1])
    decoded, mean, std = vae.apply(params, observations, actions, noise)
    reconstruction = jnp.mean((decoded - actions) ** 2)
    divergence = -0.5 * jnp.mean(1 + 2 * jnp.log(std) - mean**2 - std**2)
    return reconstruction + config.kl_weight * divergence, reconstruction


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on a batch of transitions."""
    del context
    actions = state.action_box.to_unit(batch.actions)
    latent_dim = config.latent_factor * actions.shape[-1]
    key = jax.random.fold_in(state.key, state.step)
    vae, loss, reconstruction = descend(
        loss_fn,
        state.vae,
        optax.adam(config.lr),
        state.normalizer(batch.observations),
        actions,
        jax.random.normal(key, (actions.shape[0], latent_dim)),
        config,
    )
    state = state.replace(vae=vae, step=state.step + 1)
    return state, {"bc_vae/loss": loss, "bc_vae/reconstruction": reconstruction}


def decode(
    params: Pytree,
    observations: chex.Array,
    key: Key,
    config: Config,
    num: int,
    action_dim: int,
) -> chex.Array:
    """`num` actions in [-1, 1] for each observation: [..., O] → [..., num, A]."""
    vae = network(config, action_dim)
    shape = (*observations.shape[:-1], num, observations.shape[-1])
    latents = jax.random.normal(key, (*shape[:-1], vae.latent_dim))
    latents = jnp.clip(latents, -LATENT_CLIP, LATENT_CLIP)
    repeated = jnp.broadcast_to(observations[..., None, :], shape)
    return vae.apply(params, repeated, latents, method=ActionVAE.decode)


def distribution(
    state: State, observation: chex.Array, config: Config, key: Key, num: int = 1
) -> Distribution:
    """`num` decoded actions at one raw observation [O], as atoms of equal weight."""
    box = state.action_box
    actions = decode(
        state.vae.params,
        state.normalizer(observation),
        key,
        config,
        num,
        box.low.shape[-1],
    )
    return Distribution(
        jnp.zeros(num),
        actions,
        jnp.zeros_like(actions),
        box.shift,
        box.scale,
        kind="point",
    )
