"""Temporal U-Net with cross-attention on text: the denoiser of latent plans.

Janner et al., Planning with Diffusion, 2022 (https://arxiv.org/abs/2205.09991), with
Language Control Diffusion's changes (Zhang et al., 2022,
https://arxiv.org/abs/2210.15629): text enters every level by cross-attention, and time
is never resampled, so that a plan may be of any length, even of one row.

    level    two residual blocks, then cross-attention; its output is kept
    middle   residual block, cross-attention, residual block
    back up  [x, kept output] → two residual blocks, then cross-attention
    head     one convolutional block, one linear map

With its defaults, plans of 64 columns and text of width 4096 it has the 20,956,416
parameters of the published model.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from offjax.errors import UserError
from offjax.networks.initializers import symmetric_uniform, torch_uniform
from offjax.networks.tdmpc2 import mish
from offjax.networks.transformer import Linear
from offjax.types import Array

EPSILON = 1e-5


def sinusoid(positions: Array, width: int) -> Array:
    """Sines and cosines [..., width] of positions [...], wavelengths up to 2π·10⁴."""
    half = width // 2
    frequencies = np.exp(-np.arange(half) * np.log(10_000.0) / max(half - 1, 1))
    angles = jnp.asarray(positions)[..., None] * frequencies.astype(np.float32)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class Convolution(nn.Module):
    """Convolution over time that keeps its length, zeros around it.

    It is one matrix product of the shifted inputs, which CPUs do several times faster
    than a convolution; shifts that lie outside a short plan altogether are left out.
    """

    width: int
    kernel: int = 5

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, in] → [B, H, width]."""
        length, channels = x.shape[-2:]
        init = symmetric_uniform((self.kernel * channels) ** -0.5)
        kernel = self.param("kernel", init, (self.kernel, channels, self.width))
        bias = self.param("bias", init, (self.width,))
        half = self.kernel // 2
        reach = min(half, length - 1)
        padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
        shifted = [padded[:, i : i + length] for i in range(2 * reach + 1)]
        taps = kernel[half - reach : half + reach + 1].reshape(-1, self.width)
        return jnp.concatenate(shifted, axis=-1) @ taps + bias


class ConvolutionBlock(nn.Module):
    """Convolution, group norm over channels and time, Mish."""

    width: int
    kernel: int = 5
    groups: int = 8

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, in] → [B, H, width]."""
        x = Convolution(self.width, self.kernel, name="convolution")(x)
        x = nn.GroupNorm(self.groups, epsilon=EPSILON, name="norm")(x)
        return mish(x)


class ResidualBlock(nn.Module):
    """Two convolutional blocks around which the input is led; time enters between."""

    width: int
    kernel: int = 5
    groups: int = 8

    @nn.compact
    def __call__(self, x: Array, time: Array) -> Array:
        """[B, H, in], diffusion time's embedding [B, E] → [B, H, width]."""
        h = ConvolutionBlock(self.width, self.kernel, self.groups, name="first")(x)
        h = h + Linear(self.width, name="time")(mish(time))[:, None]
        h = ConvolutionBlock(self.width, self.kernel, self.groups, name="second")(h)
        if x.shape[-1] != self.width:
            x = Linear(self.width, name="skip")(x)
        return h + x


class CrossAttention(nn.Module):
    """Rows of a plan attend to the tokens of a text; residual, norm before it."""

    num_heads: int = 4
    head_dim: int = 32

    @nn.compact
    def __call__(self, x: Array, tokens: Array, mask: Array | None) -> Array:
        """[B, H, C], tokens [B, T, E], mask [B, T] or None → [B, H, C]."""
        size = self.num_heads * self.head_dim

        def heads(name: str, values: Array) -> Array:
            init = torch_uniform()
            out = nn.Dense(size, use_bias=False, kernel_init=init, name=name)(values)
            return out.reshape(*out.shape[:-1], self.num_heads, self.head_dim)

        query = heads("query", nn.LayerNorm(EPSILON, name="norm")(x))
        keys = None if mask is None else mask[:, None, None, :]
        attended = jax.nn.dot_product_attention(
            query, heads("key", tokens), heads("value", tokens), mask=keys
        )
        attended = attended.reshape(*x.shape[:-1], size)
        return x + Linear(x.shape[-1], name="out")(attended)


class TemporalUNet(nn.Module):
    """Denoiser of plans.

    `width` is the size of the time embedding, and in units of it `multipliers` are the
    channels of the levels.
    """

    width: int = 64
    multipliers: tuple[int, ...] = (1, 4, 8)
    kernel: int = 5
    groups: int = 8
    num_heads: int = 4
    head_dim: int = 32

    @nn.compact
    def __call__(
        self, plans: Array, times: Array, tokens: Array, mask: Array | None = None
    ) -> Array:
        """What the network predicts of noisy plans [B, H, D] at diffusion steps [B].

        `mask` [B, T] says which of the text's tokens [B, T, E] may be attended to;
        None: all, padding too.
        """

        def residual(x: Array, width: int, name: str) -> Array:
            block = ResidualBlock(width, self.kernel, self.groups, name=name)
            return block(x, time)

        def attend(x: Array, name: str) -> Array:
            layer = CrossAttention(self.num_heads, self.head_dim, name=name)
            return layer(x, tokens, mask)

        time = Linear(4 * self.width, name="time1")(sinusoid(times, self.width))
        time = Linear(self.width, name="time2")(mish(time))
        widths = [self.width * m for m in self.multipliers]
        x, kept = plans, []
        for i, width in enumerate(widths):
            x = residual(x, width, f"down{i}_first")
            x = residual(x, width, f"down{i}_second")
            x = attend(x, f"down{i}_attention")
            kept.append(x)
        x = residual(x, widths[-1], "middle_first")
        x = attend(x, "middle_attention")
        x = residual(x, widths[-1], "middle_second")
        # As published, the first level's output is not read again.
        for i in range(len(widths) - 1, 0, -1):
            x = jnp.concatenate([x, kept[i]], axis=-1)
            x = residual(x, widths[i - 1], f"up{i}_first")
            x = residual(x, widths[i - 1], f"up{i}_second")
            x = attend(x, f"up{i}_attention")
        block = ConvolutionBlock(self.width, self.kernel, self.groups, name="head")
        return Linear(plans.shape[-1], name="output")(block(x))


def check_sizes(
    width: int, multipliers: tuple[int, ...], kernel: int, groups: int
) -> None:
    """Raises `UserError` for sizes that do not fit together."""
    if not multipliers or min(multipliers) < 1:
        raise UserError(
            f"The U-Net's multipliers are {multipliers}: name one whole number of at "
            "least 1 for each level, such as 1,4,8."
        )
    if width % groups or width % 2:
        raise UserError(
            f"The U-Net's width {width} must be even and a multiple of groups={groups}."
        )
    if kernel < 1 or kernel % 2 == 0:
        raise UserError(f"The U-Net's kernel {kernel} must be odd and at least 1.")
