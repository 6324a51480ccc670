"""Diffusion over short plans in a latent space, conditioned on text.

Language Control Diffusion (Zhang et al., 2022, https://arxiv.org/abs/2210.15629) after
Diffuser (Janner et al., 2022, https://arxiv.org/abs/2205.09991). A plan has H rows
[move_k, z_k]: latent states z a stride of c steps apart, and what is done at each. To
LCD a move is the next latent, z_{k+1}, for a low-level policy to reach; to Diffuser it
is the c actions in between. A temporal U-Net f reads the noisy plan, the step t and the
tokens of an instruction, and learns

    minimise  E Σ W |f(x_t, t, text) − y|^p / W_first,    y = x_0 or ε,

W being 1 but for the first row's move, which has W_first: it alone is acted upon. The
present latent z_0 is written over x_t in training and sampling, and has no loss. There
is no guidance, and nothing is clipped. Acting reads an average of the parameters.

The network's many small parameters are kept as one vector: compiling an optimiser for
each of them would take several times as long as compiling the network.

Published code and thesis differ; `offjax.recipes.language` has both settings.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.algorithms import diffusion
from offjax.algorithms.plan_sampling import Config as Sampling
from offjax.errors import UserError
from offjax.networks.language import Text
from offjax.networks.temporal_unet import TemporalUNet, check_sizes
from offjax.types import Context, Key, Pytree, config

LOSSES = ("l1", "l2")
TOLERANCE = 0.1
"""Between the latents of one encoder on different devices; of another they differ by
about 1, for latents leave a layer norm."""
REMEDY = (
    "Act with the low-level policy of the planner's own run and seed, or train the "
    "planner again."
)


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
      standardize: whether plans are standardised, column by column.
      attend_padding: whether padding of the text takes part in the attention.
      width: channels of the U-Net's first level.
      multipliers: channels of its levels, in units of `width`.
      kernel: taps of its convolutions.
      groups: of its group norms.
      num_heads: of its attention.
      head_dim: of its attention.
      batch_size: plans in a batch.
      text_encoder: see `offjax.networks.language`.
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


class Batch(NamedTuple):
    """Plans with the instructions that they serve."""

    plans: chex.Array  # [B, H, M + Z], moves first
    tokens: chex.Array  # [B, T, E]
    mask: chex.Array  # [B, T] bool


class Probe(NamedTuple):
    """A few observations and their latents: which latents these are."""

    observations: chex.Array  # [P, O]
    latents: chex.Array  # [P, Z]


class State(flax.struct.PyTreeNode):
    """All that changes, and what the plans are made of."""

    params: chex.Array  # [P], see `flatten`
    ema: chex.Array  # [P]
    opt_state: optax.OptState
    mean: chex.Array  # [M + Z]
    std: chex.Array  # [M + Z]
    probe: Probe
    key: Key
    step: chex.Array


def validate(config: Config) -> None:
    """Refuses settings that make no sense.

    Raises:
      UserError: an unknown loss or prediction, sizes that do not fit together, or a
        plan without rows, steps or stride.
    """
    for name, options in (("loss", LOSSES), ("prediction", diffusion.PREDICTIONS)):
        if getattr(config, name) not in options:
            raise UserError(
                f"{name} is {getattr(config, name)!r}; choose one of "
                f"{', '.join(options)}."
            )
    for name in ("horizon", "stride", "diffusion_steps", "ema_every", "batch_size"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}: at least 1 is needed.")
    check_sizes(config.width, config.multipliers, config.kernel, config.groups)


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


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for shapes and statistics.

    Raises:
      UserError: as `validate`.
    """
    del context
    validate(config)
    width, tokens = example.mean.shape[-1], example.encoding.tokens.shape[1:]
    network = TemporalUNet(*_sizes(config))
    plans, times = jnp.zeros((1, 1, width)), jnp.zeros(1, jnp.int32)
    params = flatten(network.init(key, plans, times, jnp.zeros((1, *tokens))))
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


def loss_fn(
    params: chex.Array,
    batch: Batch,
    noise: chex.Array,
    times: chex.Array,
    latent_dim: int,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Weighted error of the prediction, and the error of the first moves alone.

    Args:
      params: of the network, one vector [P].
      batch: standardised plans.
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
    state: State, batch: Batch, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on a batch of plans, and perhaps one of the average."""
    del context
    noise_key, time_key = jax.random.split(jax.random.fold_in(state.key, state.step))
    plans = (batch.plans - state.mean) / state.std
    noise = jax.random.normal(noise_key, plans.shape)
    times = jax.random.randint(time_key, plans.shape[:1], 0, config.diffusion_steps)
    (loss, first), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state.params,
        batch._replace(plans=plans),
        noise,
        times,
        state.probe.latents.shape[-1],
        config,
    )
    updates, opt_state = optax.adam(config.lr).update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    ema = averaged(state.ema, params, state.step, config)
    state = state.replace(
        params=params, ema=ema, opt_state=opt_state, step=state.step + 1
    )
    return state, {"planner/loss": loss, "planner/first_error": first}


def averaged(ema: Pytree, params: Pytree, step: chex.Array, config: Config) -> Pytree:
    """The average after update number `step`, counted from 0: published schedule."""
    keep = jnp.where(step < config.ema_start, 0.0, config.ema_decay)
    keep = jnp.where(step % config.ema_every == 0, keep, 1.0)
    return optax.incremental_update(params, ema, 1 - keep)


def plan(
    state: State,
    latent: chex.Array,
    text: Text,
    key: Key,
    config: Config,
    sampling: Sampling,
) -> chex.Array:
    """A plan [rows, M + Z] from the present latent [Z] under one instruction.

    Args:
      state: trained.
      latent: present latent state.
      text: one embedded sentence, without the axis N.
      key: of the noise.
      config: the planner's hyperparameters.
      sampling: how to sample.
    """
    moves = state.mean.shape[-1] - latent.shape[-1]
    present = (latent - state.mean[moves:]) / state.std[moves:]
    noise_key, step_key = jax.random.split(key)
    rows = sampling.rows or config.horizon
    width = state.mean.shape[-1]
    noise = jax.random.normal(noise_key, (rows, width))
    params = unflatten(state.ema, config, width, text.tokens.shape[-1])

    def predict(x: chex.Array, time: chex.Array) -> chex.Array:
        texts = jnp.asarray(text.tokens)[None], jnp.asarray(text.mask)[None]
        return denoise(params, x[None], time[None], *texts, config)[0]

    rows_of_plan = diffusion.sample(
        predict,
        noise,
        step_key,
        sampler_steps(config, sampling),
        config.prediction,
        lambda x: x.at[0, moves:].set(present),
    )
    return rows_of_plan * state.std + state.mean


def sampler_steps(config: Config, sampling: Sampling) -> diffusion.Steps:
    """The table of steps that the settings ask for.

    Raises:
      UserError: more steps than there are.
    """
    betas = diffusion.cosine_betas(config.diffusion_steps)
    if sampling.sampler == "ddpm":
        return diffusion.ddpm_steps(betas)
    return diffusion.ddim_steps(betas, sampling.sampling_steps, sampling.eta)


def first_move(rows: chex.Array, latent_dim: int) -> chex.Array:
    """What a plan [rows, M + Z] does first, [M]."""
    return rows[0, : rows.shape[-1] - latent_dim]


def check_shapes(state: Pytree, shape: tuple[int, ...]) -> None:
    """Refuses latents [P, Z] of another length than those planned in.

    Raises:
      UserError: they have.
    """
    expected = state.probe.latents.shape
    if shape != expected:
        raise UserError(
            f"The planner was trained on latents of {expected[-1]} entries, but the "
            f"low-level policy has {shape[-1]}. {REMEDY}"
        )


def check_latents(state: Pytree, latents: chex.Array) -> None:
    """Refuses a low-level policy whose latents are not those planned in.

    Args:
      state: of a planner.
      latents: what the policy makes of `state.probe.observations`, [P, Z].

    Raises:
      UserError: they differ.
    """
    check_shapes(state, latents.shape)
    error = float(np.max(np.abs(np.asarray(state.probe.latents) - np.asarray(latents))))
    if not error < TOLERANCE:
        raise UserError(
            "The planner was trained on the latents of another low-level policy: for "
            f"the same observations they differ by up to {error:.2g}. {REMEDY}"
        )
