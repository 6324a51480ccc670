"""The ablation without diffusion: the next latent by regression.

Language Control Diffusion's comparison (Zhang et al., 2022, table 4.4,
arXiv:2210.15629). The text's tokens are projected and averaged,

    minimize  E ‖z_{t+c} − f(z_t, mean_i P e_i)‖²

over all rows of the planner's windows. Where several futures follow a state, this
learns their mean. The authors' network was not released: 4 layers, 1024 wide.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax

from offjax.datasets.text import Text
from offjax.methods.common import average
from offjax.methods.planning import Planner
from offjax.methods.plans import (
    PlanBatch,
    PlanConfig,
    PlanData,
    PlannerState,
    start_planner,
)
from offjax.networks.mlp import MLP
from offjax.networks.trained import descend, trained
from offjax.types import Array, Key, Model, Pytree, Upstream, config


@config
class Config(PlanConfig):
    """Hyperparameters.

    Attributes:
      ema_decay: of the averaged parameters.
      text_dim: length of the projected text.
    """

    lr: float = 2e-4
    ema_decay: float = 0.995
    hidden_dims: tuple[int, ...] = (1024, 1024, 1024)
    text_dim: int = 32


class Network(nn.Module):
    """f with its projection of the text."""

    config: Config
    latent_dim: int

    @nn.compact
    def __call__(self, latents: Array, tokens: Array, mask: Array) -> Array:
        """[..., H, Z], tokens [..., T, E], mask [..., T] → next latents [..., H, Z]."""
        projected = nn.Dense(self.config.text_dim, name="text")(tokens)
        seen = mask[..., None].astype(projected.dtype)
        text = jnp.sum(projected * seen, -2) / jnp.maximum(jnp.sum(seen, -2), 1)
        text = jnp.broadcast_to(
            text[..., None, :], (*latents.shape[:-1], text.shape[-1])
        )
        network = MLP(self.config.hidden_dims, self.latent_dim, name="network")
        return network(jnp.concatenate([latents, text], axis=-1))


def init(key: Key, data: PlanData, config: Config, upstream: Upstream) -> PlannerState:
    """Fresh state."""
    latent_dim = data.states.shape[-1]
    network: Any = Network(config, latent_dim)
    tokens = data.text.tokens.shape[1:]
    texts = jnp.zeros((1, *tokens)), jnp.ones((1, tokens[0]), bool)
    params = network.init(key, jnp.zeros((1, 1, latent_dim)), *texts)
    return start_planner(key, data, trained(params, optax.adam(config.lr)))


def planner_loss(
    params: Pytree, state: PlannerState, batch: PlanBatch, key: Key, config: Config
) -> tuple[Array, None]:
    """Mean squared error over all rows of standardized plans."""
    plans = (batch.plans - state.mean) / state.std
    network: Any = Network(config, plans.shape[-1] // 2)
    following, present = jnp.split(plans, 2, axis=-1)
    predicted = network.apply(params, present, batch.tokens, batch.mask)
    return jnp.mean((predicted - following) ** 2), None


def update(
    state: PlannerState, batch: PlanBatch, config: Config, upstream: Upstream
) -> tuple[PlannerState, dict[str, Array]]:
    """One Adam step on a batch of plans, and one of the average."""
    adam = optax.adam(config.lr)
    planner, loss, _ = descend(
        planner_loss, state.planner, adam, state, batch, state.key, config
    )
    ema = average(planner.params, state.ema, config.ema_decay, state.step)
    state = state.replace(planner=planner, ema=ema, step=state.step + 1)
    return state, {"planner/loss": loss}


def plan(model: Model, latent: Array, text: Text, key: Key, sampling: Any) -> Array:
    """A plan of one row, [1, 2 Z]: the next latent and the present one."""
    state, dim = model.state, latent.shape[-1]
    network: Any = Network(model.config, dim)
    present = (latent - state.mean[dim:]) / state.std[dim:]
    following = network.apply(state.ema, present[None], text.tokens, text.mask)
    row = jnp.concatenate([following[0], present])
    return (row * state.std + state.mean)[None]


METHOD = Planner("mlp_planner", 1, init, update, plan=plan, cameras=True)
