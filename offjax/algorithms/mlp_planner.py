"""The ablation without diffusion: the next latent by regression.

Language Control Diffusion's comparison (Zhang et al., 2022, table 4.4,
https://arxiv.org/abs/2210.15629). The text's tokens are projected and averaged,

    minimise  E ‖z_{t+c} − f(z_t, mean_i P e_i)‖²

over all rows of the planner's windows. Where several futures follow a state, this
learns their mean. The authors' network was not released: 4 layers, 1024 wide.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms.diffusion_planner import Batch, Probe
from offjax.errors import UserError
from offjax.networks.language import Text
from offjax.networks.mlp import MLP
from offjax.types import Context, Key, Pytree, config


@config
class Config:
    """Hyperparameters; those of the data are `offjax.algorithms.diffusion_planner`'s.

    Attributes:
      lr: Adam's step size.
      ema_decay: of the averaged parameters.
      hidden_dims: widths of the hidden layers.
      text_dim: length of the projected text.
    """

    lr: float = 2e-4
    ema_decay: float = 0.995
    hidden_dims: tuple[int, ...] = (1024, 1024, 1024)
    text_dim: int = 32
    horizon: int = 4
    stride: int = 16
    frame_offset: int = 0
    tail: int = 0
    full_stride: bool = False
    held_out: tuple[str, ...] = ()
    rollouts: str = ""
    standardize: bool = False
    batch_size: int = 128
    text_encoder: str = "hash"
    text_weights: str = ""


class State(flax.struct.PyTreeNode):
    """All that changes, and what the latents are."""

    params: Pytree
    ema: Pytree
    opt_state: optax.OptState
    mean: chex.Array  # [2 Z]
    std: chex.Array  # [2 Z]
    probe: Probe
    key: Key
    step: chex.Array


class Network(nn.Module):
    """f with its projection of the text."""

    config: Config
    latent_dim: int

    @nn.compact
    def __call__(
        self, latents: chex.Array, tokens: chex.Array, mask: chex.Array
    ) -> chex.Array:
        """[..., H, Z], tokens [..., T, E], mask [..., T] → next latents [..., H, Z]."""
        projected = nn.Dense(self.config.text_dim, name="text")(tokens)
        seen = mask[..., None].astype(projected.dtype)
        text = jnp.sum(projected * seen, -2) / jnp.maximum(jnp.sum(seen, -2), 1)
        text = jnp.broadcast_to(
            text[..., None, :], (*latents.shape[:-1], text.shape[-1])
        )
        network = MLP(self.config.hidden_dims, self.latent_dim, name="network")
        return network(jnp.concatenate([latents, text], axis=-1))


def validate(config: Config) -> None:
    """Refuses settings that make no sense.

    Raises:
      UserError: a plan without rows or stride.
    """
    for name in ("horizon", "stride"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}: at least 1 is needed.")


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for shapes and statistics.

    Raises:
      UserError: as `validate`.
    """
    del context
    validate(config)
    latent_dim = example.states.shape[-1]
    network: Any = Network(config, latent_dim)
    tokens = example.encoding.tokens.shape[1:]
    texts = jnp.zeros((1, *tokens)), jnp.ones((1, tokens[0]), bool)
    params = network.init(key, jnp.zeros((1, 1, latent_dim)), *texts)
    return State(
        params,
        params,
        optax.adam(config.lr).init(params),
        jnp.asarray(example.mean),
        jnp.asarray(example.std),
        jax.tree.map(jnp.asarray, example.probe),
        key,
        jnp.int32(0),
    )


def loss_fn(params: Pytree, batch: Batch, config: Config) -> chex.Array:
    """Mean squared error over all rows of standardised plans."""
    latent_dim = batch.plans.shape[-1] // 2
    network: Any = Network(config, latent_dim)
    following, present = jnp.split(batch.plans, 2, axis=-1)
    predicted = network.apply(params, present, batch.tokens, batch.mask)
    return jnp.mean((predicted - following) ** 2)


def update(
    state: State, batch: Batch, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on a batch of plans, and one of the average."""
    del context
    plans = (batch.plans - state.mean) / state.std
    loss, grads = jax.value_and_grad(loss_fn)(
        state.params, batch._replace(plans=plans), config
    )
    updates, opt_state = optax.adam(config.lr).update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    # Early averages forget quickly, or they would remember the initial parameters.
    decay = jnp.minimum(config.ema_decay, (1 + state.step) / (10 + state.step))
    ema = optax.incremental_update(params, state.ema, 1 - decay)
    state = state.replace(
        params=params, ema=ema, opt_state=opt_state, step=state.step + 1
    )
    return state, {"planner/loss": loss}


def plan(
    state: State,
    latent: chex.Array,
    text: Text,
    key: Key,
    config: Config,
    sampling: Pytree,
) -> chex.Array:
    """A plan of one row, [1, 2 Z]: the next latent and the present one.

    `key` and `sampling` are not read.
    """
    del key, sampling
    dim = latent.shape[-1]
    network: Any = Network(config, dim)
    present = (latent - state.mean[dim:]) / state.std[dim:]
    following = network.apply(state.ema, present[None], text.tokens, text.mask)
    row = jnp.concatenate([following[0], present])
    return (row * state.std + state.mean)[None]
