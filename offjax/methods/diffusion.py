"""Denoising diffusion: noise schedule, targets and samplers, as pure functions.

Ho et al., 2020 (https://arxiv.org/abs/2006.11239), Nichol and Dhariwal, 2021 (the
cosine schedule, https://arxiv.org/abs/2102.09672), Song et al., 2021 (DDIM,
https://arxiv.org/abs/2010.02502). With ᾱ_t = Π (1 − β),

    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε

and a network that predicts x_0 ("clean"), ε ("noise") or v ("velocity", Salimans and
Ho, 2022, https://arxiv.org/abs/2202.00512):

    v = √ᾱ_t ε − √(1 − ᾱ_t) x_0,    x̂_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v̂

An error of ε̂ is one of x̂_0 times √((1 − ᾱ_t) / ᾱ_t), which is large where hardly any
signal is left; an error of v̂ is one of x̂_0 times √(1 − ᾱ_t). Every sampler here is a
table of coefficients: with x̂_0 the prediction, a step from time t to t' < t is

    x_{t'} = a x̂_0 + b x_t + σ ε'

DDPM, all steps:     σ² = β_t (1 − ᾱ_{t'}) / (1 − ᾱ_t)
DDIM, any steps, η:  σ² = η² (1 − ᾱ_{t'}) / (1 − ᾱ_t) · (1 − ᾱ_t / ᾱ_{t'}),
                     b = √(1 − ᾱ_{t'} − σ²) / √(1 − ᾱ_t),  a = √ᾱ_{t'} − b √ᾱ_t

and ᾱ = 1 at the last t'. DDIM with all steps and η = 1 is DDPM; η = 0 adds no noise.
x̂_0 may be clipped to ±`clip`. Tables are made on the host in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offjax.errors import UserError, require_least
from offjax.types import Array, Key

PREDICTIONS = ("clean", "noise", "velocity")
Predict = Callable[[Array, Array], Array]
"""(x_t [...], t []) → the network's prediction, of x_t's shape."""
Pin = Callable[[Array], Array]
"""Overwrites what is known of x, such as the present state."""


class Steps(NamedTuple):
    """The steps of a sampler in their order, each field [S]; see the module."""

    times: Array  # t, an input of the network
    clean: Array  # a
    noisy: Array  # b
    std: Array  # σ
    alpha_bars: Array  # ᾱ_t


def cosine_betas(
    num_steps: int, offset: float = 0.008, largest: float = 0.999
) -> np.ndarray:
    """β of Nichol and Dhariwal's cosine schedule, [N] float64, at most `largest`.

    `offset` keeps the first β away from 0. `UserError` without a step.
    """
    require_least(1, diffusion_steps=num_steps)
    grid = (np.arange(num_steps + 1) / num_steps + offset) / (1 + offset)
    signal = np.cos(grid * np.pi / 2) ** 2
    return np.clip(1 - signal[1:] / signal[:-1], 0.0, largest)


def alpha_bars(betas: np.ndarray) -> np.ndarray:
    """ᾱ, the share of the signal's variance that is left after each step, [N]."""
    return np.cumprod(1.0 - betas)


def ddpm_steps(betas: np.ndarray) -> Steps:
    """The ancestral sampler: all N steps, the posterior's mean and variance."""
    bars = alpha_bars(betas)
    before = np.concatenate([[1.0], bars[:-1]])
    clean = np.sqrt(before) * betas / (1 - bars)
    noisy = np.sqrt(1 - betas) * (1 - before) / (1 - bars)
    std = np.sqrt(betas * (1 - before) / (1 - bars))
    steps = Steps(np.arange(len(betas)), clean, noisy, std, bars)
    return Steps(*(column[::-1] for column in steps))


def ddim_steps(betas: np.ndarray, num_steps: int, eta: float = 0.0) -> Steps:
    """DDIM over S = `num_steps` times spread evenly over the N of training.

    η = 0 is deterministic, 1 has the variance of DDPM. `UserError` unless 1 ≤ S ≤ N.
    """
    total = len(betas)
    if not 1 <= num_steps <= total:
        raise UserError(
            f"sampling_steps is {num_steps}, but the planner is trained with "
            f"diffusion_steps={total}: choose 1 … {total}."
        )
    # Whole numbers are kept whole: rounding of i · N / S may fall below them.
    grid = np.arange(num_steps, -1, -1) * total // num_steps - 1
    padded = np.concatenate([[1.0], alpha_bars(betas)])
    now, then = padded[grid[:-1] + 1], padded[grid[1:] + 1]
    variance = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    noisy = np.sqrt(np.maximum(1 - then - variance, 0.0) / (1 - now))
    clean = np.sqrt(then) - noisy * np.sqrt(now)
    return Steps(grid[:-1], clean, noisy, np.sqrt(variance), now)


def add_noise(clean: Array, noise: Array, times: Array, betas: np.ndarray) -> Array:
    """x_t [B, ...] of x_0 [B, ...] and ε [B, ...] at times [B]."""
    bars = _at(times, betas, clean)
    return jnp.sqrt(bars) * clean + jnp.sqrt(1 - bars) * noise


def _at(times: Array, betas: np.ndarray, like: Array) -> Array:
    """ᾱ [B, 1, ...] at times [B], of as many axes as `like` [B, ...]."""
    bars = jnp.asarray(alpha_bars(betas), like.dtype)[times]
    return bars.reshape(bars.shape + (1,) * (like.ndim - bars.ndim))


def target(
    clean: Array, noise: Array, times: Array, betas: np.ndarray, kind: str
) -> Array:
    """What a network of `kind` should predict of x_t [B, ...], in its shape."""
    if kind == "velocity":
        bars = _at(times, betas, clean)
        return jnp.sqrt(bars) * noise - jnp.sqrt(1 - bars) * clean
    return clean if kind == "clean" else noise


def to_clean(prediction: Array, noisy: Array, alpha_bar: Array, kind: str) -> Array:
    """x̂_0 that a prediction of `kind`, one of `PREDICTIONS`, stands for."""
    if kind == "clean":
        return prediction
    signal, rest = jnp.sqrt(alpha_bar), jnp.sqrt(1 - alpha_bar)
    if kind == "velocity":
        return signal * noisy - rest * prediction
    return (noisy - rest * prediction) / signal


def advance(
    x: Array, prediction: Array, now: Steps, noise: Array, kind: str, clip: float = 0.0
) -> Array:
    """x_{t'} of x_t [...], a prediction of `kind` for it, and standard noise.

    `clip` bounds |x̂_0|; 0: nothing does.
    """
    clean = to_clean(prediction, x, now.alpha_bars, kind)
    if clip:
        clean = jnp.clip(clean, -clip, clip)
    return now.clean * clean + now.noisy * x + now.std * noise


def sample(
    predict: Predict,
    noise: Array,
    key: Key,
    steps: Steps,
    kind: str = "clean",
    pin: Pin = lambda x: x,
    clip: float = 0.0,
) -> Array:
    """Denoises `noise` [...] in one scan over the steps.

    `kind` is what the network predicts, one of `PREDICTIONS`; `clip` is as of
    `advance`; `pin` is applied before every step and at the end. `key` is read where a
    step adds noise (σ > 0).
    """
    columns = Steps(*(jnp.asarray(c, noise.dtype) for c in steps))
    columns = columns._replace(times=jnp.asarray(np.asarray(steps.times), jnp.int32))
    stochastic = bool(np.any(np.asarray(steps.std) > 0))

    def step(x: Array, inputs: tuple[Steps, Key]) -> tuple[Array, None]:
        now, step_key = inputs
        noise = jnp.zeros_like(x)
        if stochastic:
            noise = jax.random.normal(step_key, x.shape, x.dtype)
        return pin(advance(x, predict(x, now.times), now, noise, kind, clip)), None

    keys = jax.random.split(key, len(steps.times))
    return jax.lax.scan(step, pin(noise), (columns, keys))[0]
