"""Cloning with a variational autoencoder, the behavior model of BCQ.

    minimize E ‖a − D(s, z)‖²/A + ½ E KL(N(μ, σ²) ‖ N(0, 1)),  z ~ N(μ, σ²) = E(s, a)

with the divergence averaged over the latent dimensions, as in BCQ (Fujimoto et al.,
2019, arXiv:1812.02900). Acting decodes latents of N(0, 1) clipped to ±½.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.views import TransitionData
from offjax.distributions import Distribution, unit_atoms
from offjax.methods.bc import cfpi_view
from offjax.methods.common import (
    Network,
    TrainState,
    memoryless,
    narrow,
    pick,
    start,
    zeros,
)
from offjax.networks.trained import Trained, descend, trained
from offjax.networks.vae import ActionVAE
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Pytree,
    Recipe,
    Stage,
    Transitions,
    Upstream,
    config,
)

LATENT_CLIP = 0.5


@config
class Config:
    """Hyperparameters; BCQ's.

    Attributes:
      latent_factor: size of the latent per action dimension.
      kl_weight: factor on the divergence.
    """

    actor_lr: float = 1e-3
    hidden_dims: tuple[int, ...] = (750, 750)
    batch_size: int = 100
    latent_factor: int = 2
    kl_weight: float = 0.5


class State(TrainState):
    """The autoencoder."""

    vae: Trained


def network(config: Config, action_dim: int) -> Network:
    """The autoencoder that a config describes."""
    return ActionVAE(config.hidden_dims, config.latent_factor * action_dim, action_dim)


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    observation, action = zeros(data)
    vae = network(config, action.shape[-1])
    params = vae.init(key, observation, action, jnp.zeros(vae.latent_dim))
    return State(**start(key, data), vae=trained(params, optax.adam(config.actor_lr)))


def vae_loss(
    params: Pytree, state: TrainState, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Reconstruction plus divergence; info is the former. Latents [B, Z] from `key`."""
    observations = state.normalizer(batch.observations)
    actions = state.action_box.to_unit(batch.actions)
    vae = network(config, actions.shape[-1])
    noise = jax.random.normal(key, (actions.shape[0], vae.latent_dim))
    decoded, mean, std = vae.apply(params, observations, actions, noise)
    reconstruction = jnp.mean((decoded - actions) ** 2)
    divergence = -0.5 * jnp.mean(1 + 2 * jnp.log(std) - mean**2 - std**2)
    return reconstruction + config.kl_weight * divergence, reconstruction


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step."""
    key = jax.random.fold_in(state.key, state.step)
    adam = optax.adam(config.actor_lr)
    vae, loss, reconstruction = descend(
        vae_loss, state.vae, adam, state, batch, key, config
    )
    metrics = {"bc_vae/loss": loss, "bc_vae/reconstruction": reconstruction}
    return state.replace(vae=vae, step=state.step + 1), metrics


def decode(
    params: Pytree,
    observations: Array,
    key: Key,
    config: Config,
    num: int,
    action_dim: int,
) -> Array:
    """`num` actions [..., num, A] in [-1, 1] at normalized observations [..., O]."""
    vae = network(config, action_dim)
    shape = (*observations.shape[:-1], num, observations.shape[-1])
    latents = jax.random.normal(key, (*shape[:-1], vae.latent_dim))
    latents = jnp.clip(latents, -LATENT_CLIP, LATENT_CLIP)
    repeated = jnp.broadcast_to(observations[..., None, :], shape)
    return vae.apply(params, repeated, latents, method=ActionVAE.decode)


def candidates(model: Model, observation: Array, key: Key, num: int) -> Distribution:
    """`num` decoded actions at one raw observation [O], as atoms of equal weight."""
    state, box = model.state, model.state.action_box
    observation = state.normalizer(observation)
    action_dim = box.low.shape[-1]
    actions = decode(state.vae.params, observation, key, model.config, num, action_dim)
    return unit_atoms(actions, box.shift, box.scale)


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """One decoded action at one raw observation [O]."""
    return candidates(model, observation, key, 1)


METHOD = Method("bc_vae", 1, init, update, act)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `bc_vae`."""
    steps = pick(preset, paper=500_000, small=100_000, demo=10_000)
    return Stage("bc_vae", METHOD, Config(**narrow(preset)), cfpi_view(spec), steps)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behavior model of idet_vae alone, acting with one decoded action."""
    return Recipe("bc_vae", (stage(spec, preset),), memoryless("bc_vae"))
