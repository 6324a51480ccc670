"""Diffusion over short plans in a latent space, conditioned on text.

Language Control Diffusion (Zhang et al., 2022, arXiv:2210.15629) after Diffuser (Janner
et al., 2022, arXiv:2205.09991). A plan has H rows [move_k, z_k]: latent states z a
stride of c steps apart, and what is done at each. To LCD a move is the next latent,
z_{k+1}, for a low-level policy to reach; to Diffuser it is the c actions in between. A
temporal U-Net f reads the noisy plan, the step t and the tokens of an instruction, and
learns

    minimize  E Σ W |f(x_t, t, text) − y|^p / W_first,    y = x_0, ε or v,

W being 1 but for the first row's move, which has W_first: it alone is acted upon. The
present latent z_0 is written over x_t in training and sampling, and has no loss. There
is no guidance. Acting reads an average of the parameters.

Published code and thesis differ; `offjax.methods.lcd` has both settings.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.datasets.text import Text, TextEncoder
from offjax.errors import UserError, require_least, require_option
from offjax.methods import diffusion
from offjax.methods.plan_sampling import Config as Sampling
from offjax.methods.planning import Planner
from offjax.methods.plans import (
    PlanBatch,
    PlanConfig,
    PlanData,
    PlannerState,
    start_planner,
)
from offjax.networks.temporal_unet import TemporalUNet, check_sizes
from offjax.networks.trained import descend, trained
from offjax.types import Array, Key, Model, Pytree, Upstream, added, config

LOSSES = ("l1", "l2")


@config
class Config(PlanConfig):
    """Hyperparameters; the defaults are those of the published code.

    Attributes:
      first_weight: W_first.
      ema_decay: of the averaged parameters.
      ema_every: updates between two steps of the average.
      ema_start: updates before which the average is a copy.
      loss: "l1" or "l2".
      prediction: of the network, the "clean" plan, the "noise" or the "velocity".
      diffusion_steps: N, of the cosine schedule.
      max_beta: largest β of the schedule. With less the last step keeps more signal.
      attend_padding: whether padding of the text takes part in the attention.
      width: channels of the U-Net's first level.
      multipliers: channels of its levels, in units of `width`.
      kernel: taps of its convolutions.
      groups: of its group norms.
      num_heads: of its attention.
      head_dim: of its attention.
    """

    lr: float = 2e-4
    first_weight: float = 100.0
    ema_decay: float = 0.995
    ema_every: int = 10
    ema_start: int = 2000
    loss: str = "l2"
    prediction: str = "clean"
    diffusion_steps: int = 20
    attend_padding: bool = False
    width: int = 64
    multipliers: tuple[int, ...] = (1, 4, 8)
    kernel: int = 5
    groups: int = 8
    num_heads: int = 4
    head_dim: int = 32
    batch_size: int = 512
    max_beta: float = added(default=0.999, static=True)

    @property
    def betas(self) -> np.ndarray:
        """The schedule, [N] float64."""
        return diffusion.cosine_betas(self.diffusion_steps, largest=self.max_beta)

    @property
    def text(self) -> TextEncoder:
        """What embeds instructions."""
        keep_padding = self.attend_padding
        return TextEncoder(self.text_encoder, self.text_weights, keep_padding)

    def validate(self) -> None:
        """Raises `UserError` for unknown options, and sizes that do not fit."""
        PlanConfig.validate(self)
        require_option("loss", self.loss, LOSSES)
        require_option("prediction", self.prediction, diffusion.PREDICTIONS)
        require_least(1, diffusion_steps=self.diffusion_steps, ema_every=self.ema_every)
        if not 0 < self.max_beta < 1:
            raise UserError(
                f"max_beta is {self.max_beta}; it must lie between 0 and 1, both left "
                "out: at 1 no signal is left."
            )
        check_sizes(self.width, self.multipliers, self.kernel, self.groups)


Sizes = tuple[int, tuple[int, ...], int, int, int, int]


def _sizes(config: Config) -> Sizes:
    c = config
    return c.width, c.multipliers, c.kernel, c.groups, c.num_heads, c.head_dim


def flatten(params: Pytree) -> Array:
    """The network's many small parameters as one vector [P].

    Compiling an optimizer for each would take longer than compiling the network.
    """
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(params)])


def unflatten(vector: Array, config: Config, width: int, text_width: int) -> Pytree:
    """The parameters that `flatten` made [P] of.

    `width` is the number of a plan's columns, `text_width` that of a token's entries.
    """
    shapes = _shapes(_sizes(config), width, text_width)
    leaves, tree = jax.tree.flatten(shapes)
    parts = jnp.split(vector, np.cumsum([x.size for x in leaves])[:-1])
    reshaped = [p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(tree, reshaped)


@functools.lru_cache(maxsize=16)
def _shapes(sizes: Sizes, width: int, text_width: int) -> Pytree:
    def init() -> Pytree:
        plans, tokens = jnp.zeros((1, 1, width)), jnp.zeros((1, 1, text_width))
        times = jnp.zeros(1, jnp.int32)
        return TemporalUNet(*sizes).init(jax.random.PRNGKey(0), plans, times, tokens)

    return jax.eval_shape(init)


def init(key: Key, data: PlanData, config: Config, upstream: Upstream) -> PlannerState:
    """Fresh state; its parameters are one vector [P], see `flatten`."""
    width, tokens = data.mean.shape[-1], data.text.tokens.shape[1:]
    network = TemporalUNet(*_sizes(config))
    plans, times = jnp.zeros((1, 1, width)), jnp.zeros(1, jnp.int32)
    params = flatten(network.init(key, plans, times, jnp.zeros((1, *tokens))))
    return start_planner(key, data, trained(params, optax.adam(config.lr)))


def denoise(
    params: Pytree,
    plans: Array,
    times: Array,
    tokens: Array,
    mask: Array,
    config: Config,
) -> Array:
    """What the network predicts of noisy plans [B, H, M + Z] at times [B]."""
    seen = None if config.attend_padding else mask
    network: Any = TemporalUNet(*_sizes(config))
    return network.apply(params, plans, times, tokens, seen)


def planner_loss(
    params: Array, state: PlannerState, batch: PlanBatch, key: Key, config: Config
) -> tuple[Array, Array]:
    """`denoising_loss` of plans in the units of the data; `key` draws noise, times."""
    noise_key, time_key = jax.random.split(key)
    plans = (batch.plans - state.mean) / state.std
    noise = jax.random.normal(noise_key, plans.shape)
    times = jax.random.randint(time_key, plans.shape[:1], 0, config.diffusion_steps)
    batch = batch._replace(plans=plans)
    latent_dim = state.probe.latents.shape[-1]
    return denoising_loss(params, batch, noise, times, latent_dim, config)


def denoising_loss(
    params: Array,
    batch: PlanBatch,
    noise: Array,
    times: Array,
    latent_dim: int,
    config: Config,
) -> tuple[Array, Array]:
    """Weighted error of the prediction, and the error of the first moves alone.

    Of standardized plans with noise ε of their shape at times [B]; `latent_dim` is Z.
    """
    betas = config.betas
    moves = batch.plans.shape[-1] - latent_dim
    noisy = diffusion.add_noise(batch.plans, noise, times, betas)
    noisy = noisy.at[:, 0, moves:].set(batch.plans[:, 0, moves:])
    width, text_width = noisy.shape[-1], batch.tokens.shape[-1]
    tree = unflatten(params, config, width, text_width)
    predicted = denoise(tree, noisy, times, batch.tokens, batch.mask, config)
    target = diffusion.target(batch.plans, noise, times, betas, config.prediction)
    errors = jnp.abs(predicted - target)
    errors = errors if config.loss == "l1" else errors**2
    errors = errors.at[:, 0, moves:].set(0.0)
    first = jnp.mean(errors[:, 0, :moves])
    weighted = errors.at[:, 0, :moves].multiply(config.first_weight)
    return jnp.mean(weighted) / config.first_weight, first


def update(
    state: PlannerState, batch: PlanBatch, config: Config, upstream: Upstream
) -> tuple[PlannerState, dict[str, Array]]:
    """One Adam step on a batch of plans, and perhaps one of the average."""
    key = jax.random.fold_in(state.key, state.step)
    adam = optax.adam(config.lr)
    planner, loss, first = descend(
        planner_loss, state.planner, adam, state, batch, key, config
    )
    ema = averaged(state.ema, planner.params, state.step, config)
    state = state.replace(planner=planner, ema=ema, step=state.step + 1)
    return state, {"planner/loss": loss, "planner/first_error": first}


def averaged(ema: Pytree, params: Pytree, step: Array, config: Config) -> Pytree:
    """The average after update number `step`, counted from 0: published schedule."""
    keep = jnp.where(step < config.ema_start, 0.0, config.ema_decay)
    keep = jnp.where(step % config.ema_every == 0, keep, 1.0)
    return optax.incremental_update(params, ema, 1 - keep)


def plan(
    model: Model, latent: Array, text: Text, key: Key, sampling: Sampling
) -> Array:
    """A plan [rows, M + Z] from the present latent [Z] under one instruction."""
    state, config = model.state, model.config
    width = state.mean.shape[-1]
    params = unflatten(state.ema, config, width, text.tokens.shape[-1])
    texts = jnp.asarray(text.tokens)[None], jnp.asarray(text.mask)[None]

    def predict(x: Array, time: Array) -> Array:
        return denoise(params, x[None], time[None], *texts, config)[0]

    return sample_rows(predict, model, latent, key, sampling)


def sample_rows(
    predict: diffusion.Predict,
    model: Model,
    latent: Array,
    key: Key,
    sampling: Sampling,
) -> Array:
    """A plan [rows, M + Z] that begins at the present latent [Z].

    `predict` works on standardized plans; `model` has their units and the schedule.
    """
    state, config = model.state, model.config
    width = state.mean.shape[-1]
    moves = width - latent.shape[-1]
    present = (latent - state.mean[moves:]) / state.std[moves:]
    noise_key, step_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (sampling.rows or config.horizon, width))

    def pin(x: Array) -> Array:
        return x.at[0, moves:].set(present)

    steps, kind = sampler_steps(config, sampling), config.prediction
    rows = diffusion.sample(predict, noise, step_key, steps, kind, pin, sampling.clip)
    return rows * state.std + state.mean


def sampler_steps(config: Config, sampling: Sampling) -> diffusion.Steps:
    """The steps that the settings ask for; `UserError` for more than N."""
    betas = config.betas
    if sampling.sampler == "ddpm":
        return diffusion.ddpm_steps(betas)
    return diffusion.ddim_steps(betas, sampling.sampling_steps, sampling.eta)


METHOD = Planner("diffusion_planner", 1, init, update, plan=plan, cameras=True)
