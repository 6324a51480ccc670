"""Diffusion over short plans in a latent space, conditioned on text.

Language Control Diffusion (Zhang et al., 2022, arXiv:2210.15629) after Diffuser (Janner
et al., 2022, arXiv:2205.09991). A plan has H rows [move_k, z_k]: latent states z a
stride of c steps apart, and what is done at each. To LCD a move is the next latent,
z_{k+1}, for a low-level policy to reach; to Diffuser it is the c actions in between. A
temporal U-Net f reads the noisy plan, the step t and the tokens of an instruction, and
learns

    minimize  E Σ W |f(x_t, t, text) − y|^p / W_first,    y = x_0 or ε,

W being 1 but for the first row's move, which has W_first: it alone is acted upon. The
present latent z_0 is written over x_t in training and sampling, and has no loss. There
is no guidance, and nothing is clipped. Acting reads an average of the parameters.

The network's many small parameters are kept as one vector: compiling an optimizer for
each of them would take several times as long as compiling the network.

Published code and thesis differ; `offjax.methods.lcd` has both settings.
"""

from __future__ import annotations

import functools
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.datasets.text import Text, TextEncoder
from offjax.errors import UserError
from offjax.methods import diffusion
from offjax.methods.plan_sampling import Config as Sampling
from offjax.methods.planning import Planner
from offjax.methods.plans import PlanBatch, PlanData, Probe
from offjax.networks.temporal_unet import TemporalUNet, check_sizes
from offjax.networks.trained import Trained, descend, trained
from offjax.types import Key, Model, Pytree, Upstream, config

LOSSES = ("l1", "l2")


@config
class Config:
    """Hyperparameters; the defaults are those of the published code.

    Attributes:
      lr: Adam's step size.
      first_weight: W_first.
      ema_decay: of the averaged parameters.
      ema_every: updates between two steps of the average.
      ema_start: updates before which the average is a copy.
      loss: "l1" or "l2".
      prediction: of the network, the "clean" plan or the "noise".
      diffusion_steps: N, of the cosine schedule.
      horizon: H, rows of a plan.
      stride: c, steps between the rows.
      frame_offset: windows of the data are moved by up to this many steps.
      tail: of each described span, only this many last steps are used; 0: all.
      full_stride: only windows that have at least one stride before the span's end.
      held_out: instructions that are kept from the planner, as a test of what follows
        from the others.
      rollouts: dataset of a policy's own rollouts, to cut plans from in place of the
        recording (`experiments.lcd.rollouts`); "" for none.
      standardize: whether plans are standardized, column by column.
      attend_padding: whether padding of the text takes part in the attention.
      width: channels of the U-Net's first level.
      multipliers: channels of its levels, in units of `width`.
      kernel: taps of its convolutions.
      groups: of its group norms.
      num_heads: of its attention.
      head_dim: of its attention.
      batch_size: plans in a batch.
      text_encoder: see `offjax.datasets.text`.
      text_weights: folder of a pretrained text encoder.
    """

    lr: float = 2e-4
    first_weight: float = 100.0
    ema_decay: float = 0.995
    ema_every: int = 10
    ema_start: int = 2000
    loss: str = "l2"
    prediction: str = "clean"
    diffusion_steps: int = 20
    horizon: int = 4
    stride: int = 16
    frame_offset: int = 0
    tail: int = 0
    full_stride: bool = False
    held_out: tuple[str, ...] = ()
    rollouts: str = ""
    standardize: bool = False
    attend_padding: bool = False
    width: int = 64
    multipliers: tuple[int, ...] = (1, 4, 8)
    kernel: int = 5
    groups: int = 8
    num_heads: int = 4
    head_dim: int = 32
    batch_size: int = 512
    text_encoder: str = "hash"
    text_weights: str = ""

    @property
    def text(self) -> TextEncoder:
        """What embeds instructions."""
        keep = self.attend_padding
        return TextEncoder(self.text_encoder, self.text_weights, keep)

    def validate(self) -> None:
        """Refuses settings that make no sense.

        Raises:
          UserError: an unknown loss or prediction, sizes that do not fit together, or
            a plan without rows, steps or stride.
        """
        for name, options in (("loss", LOSSES), ("prediction", diffusion.PREDICTIONS)):
            if getattr(self, name) not in options:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}; choose one of "
                    f"{', '.join(options)}."
                )
        for name in ("horizon", "stride", "diffusion_steps", "ema_every", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} is {getattr(self, name)}: at least 1 is needed."
                )
        check_sizes(self.width, self.multipliers, self.kernel, self.groups)


class State(flax.struct.PyTreeNode):
    """The network, its averaged parameters, which act, and what plans are made of."""

    key: Key
    step: chex.Array
    planner: Trained  # parameters [P], see `flatten`
    ema: chex.Array  # [P]
    mean: chex.Array  # [M + Z]
    std: chex.Array  # [M + Z]
    probe: Probe


Sizes = tuple[int, tuple[int, ...], int, int, int, int]


def _sizes(config: Config) -> Sizes:
    c = config
    return c.width, c.multipliers, c.kernel, c.groups, c.num_heads, c.head_dim


def flatten(params: Pytree) -> chex.Array:
    """The network's parameters as one vector [P]."""
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(params)])


def unflatten(
    vector: chex.Array, config: Config, width: int, text_width: int
) -> Pytree:
    """The parameters that `flatten` made [P] of.

    Args:
      vector: [P].
      config: of the planner.
      width: columns of a plan.
      text_width: entries of a token.
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


def init(key: Key, data: PlanData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    width, tokens = data.mean.shape[-1], data.text.tokens.shape[1:]
    network = TemporalUNet(*_sizes(config))
    plans, times = jnp.zeros((1, 1, width)), jnp.zeros(1, jnp.int32)
    params = flatten(network.init(key, plans, times, jnp.zeros((1, *tokens))))
    return State(
        key=key,
        step=jnp.int32(0),
        planner=trained(params, optax.adam(config.lr)),
        ema=params,
        mean=jnp.asarray(data.mean),
        std=jnp.asarray(data.std),
        probe=jax.tree.map(jnp.asarray, data.probe),
    )


def denoise(
    params: Pytree,
    plans: chex.Array,
    times: chex.Array,
    tokens: chex.Array,
    mask: chex.Array,
    config: Config,
) -> chex.Array:
    """What the network predicts of noisy plans [B, H, M + Z] at times [B].

    `params` are those of the network, see `unflatten`.
    """
    seen = None if config.attend_padding else mask
    network: Any = TemporalUNet(*_sizes(config))
    return network.apply(params, plans, times, tokens, seen)


def planner_loss(
    params: chex.Array, state: State, batch: PlanBatch, key: Key, config: Config
) -> tuple[chex.Array, chex.Array]:
    """`denoising_loss` of plans in the units of the data; `key` draws noise, times."""
    noise_key, time_key = jax.random.split(key)
    plans = (batch.plans - state.mean) / state.std
    noise = jax.random.normal(noise_key, plans.shape)
    times = jax.random.randint(time_key, plans.shape[:1], 0, config.diffusion_steps)
    batch = batch._replace(plans=plans)
    latent_dim = state.probe.latents.shape[-1]
    return denoising_loss(params, batch, noise, times, latent_dim, config)


def denoising_loss(
    params: chex.Array,
    batch: PlanBatch,
    noise: chex.Array,
    times: chex.Array,
    latent_dim: int,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Weighted error of the prediction, and the error of the first moves alone.

    Args:
      params: of the network, one vector [P].
      batch: standardized plans.
      noise: ε, of the plans' shape.
      times: t, [B].
      latent_dim: Z, columns of the present latent.
      config: hyperparameters.
    """
    betas = diffusion.cosine_betas(config.diffusion_steps)
    moves = batch.plans.shape[-1] - latent_dim
    noisy = diffusion.add_noise(batch.plans, noise, times, betas)
    noisy = noisy.at[:, 0, moves:].set(batch.plans[:, 0, moves:])
    width, text_width = noisy.shape[-1], batch.tokens.shape[-1]
    tree = unflatten(params, config, width, text_width)
    predicted = denoise(tree, noisy, times, batch.tokens, batch.mask, config)
    target = batch.plans if config.prediction == "clean" else noise
    errors = jnp.abs(predicted - target)
    errors = errors if config.loss == "l1" else errors**2
    errors = errors.at[:, 0, moves:].set(0.0)
    first = jnp.mean(errors[:, 0, :moves])
    weighted = errors.at[:, 0, :moves].multiply(config.first_weight)
    return jnp.mean(weighted) / config.first_weight, first


def update(
    state: State, batch: PlanBatch, config: Config, upstream: Upstream
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on a batch of plans, and perhaps one of the average."""
    key = jax.random.fold_in(state.key, state.step)
    adam = optax.adam(config.lr)
    planner, loss, first = descend(
        planner_loss, state.planner, adam, state, batch, key, config
    )
    ema = averaged(state.ema, planner.params, state.step, config)
    state = state.replace(planner=planner, ema=ema, step=state.step + 1)
    return state, {"planner/loss": loss, "planner/first_error": first}


def averaged(ema: Pytree, params: Pytree, step: chex.Array, config: Config) -> Pytree:
    """The average after update number `step`, counted from 0: published schedule."""
    keep = jnp.where(step < config.ema_start, 0.0, config.ema_decay)
    keep = jnp.where(step % config.ema_every == 0, keep, 1.0)
    return optax.incremental_update(params, ema, 1 - keep)


def plan(
    model: Model, latent: chex.Array, text: Text, key: Key, sampling: Sampling
) -> chex.Array:
    """A plan [rows, M + Z] from the present latent [Z] under one instruction.

    Args:
      model: trained.
      latent: present latent state.
      text: one embedded sentence, without the axis N.
      key: of the noise.
      sampling: how to sample.
    """
    state, config = model.state, model.config
    width = state.mean.shape[-1]
    params = unflatten(state.ema, config, width, text.tokens.shape[-1])
    texts = jnp.asarray(text.tokens)[None], jnp.asarray(text.mask)[None]

    def predict(x: chex.Array, time: chex.Array) -> chex.Array:
        return denoise(params, x[None], time[None], *texts, config)[0]

    return sample_rows(predict, model, latent, key, sampling)


def sample_rows(
    predict: diffusion.Predict,
    model: Model,
    latent: chex.Array,
    key: Key,
    sampling: Sampling,
) -> chex.Array:
    """A plan [rows, M + Z] that begins at the present latent [Z].

    Args:
      predict: the network, of standardized plans.
      model: trained; read for its units and schedule.
      latent: present latent state.
      key: of the noise.
      sampling: how to sample.
    """
    state, config = model.state, model.config
    width = state.mean.shape[-1]
    moves = width - latent.shape[-1]
    present = (latent - state.mean[moves:]) / state.std[moves:]
    noise_key, step_key = jax.random.split(key)
    noise = jax.random.normal(noise_key, (sampling.rows or config.horizon, width))
    rows = diffusion.sample(
        predict,
        noise,
        step_key,
        sampler_steps(config, sampling),
        config.prediction,
        lambda x: x.at[0, moves:].set(present),
    )
    return rows * state.std + state.mean


def sampler_steps(config: Config, sampling: Sampling) -> diffusion.Steps:
    """The table of steps that the settings ask for.

    Raises:
      UserError: more steps than there are.
    """
    betas = diffusion.cosine_betas(config.diffusion_steps)
    if sampling.sampler == "ddpm":
        return diffusion.ddpm_steps(betas)
    return diffusion.ddim_steps(betas, sampling.sampling_steps, sampling.eta)


METHOD = Planner("diffusion_planner", 1, init, update, plan=plan)
