"""TD-MPC2's world model: LayerNorm and Mish, simplicial latents, values in bins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from offjax.distributions import LOG_2PI
from offjax.networks.mlp import ensemble
from offjax.types import Array, Key, Pytree

LAYER_NORM_EPSILON = 1e-5
GROUP = 8  # entries of a simplex of the latent
LOG_STD_MIN, LOG_STD_MAX = -10.0, 2.0


class Size(NamedTuple):
    """Widths of a model, and the number of its Q functions."""

    encoder_dim: int
    latent_dim: int
    mlp_dim: int
    num_q: int


SIZES = {
    "demo": Size(32, 32, 32, 2),
    "small": Size(64, 64, 64, 2),
    "1M": Size(256, 128, 384, 2),
    "5M": Size(256, 512, 512, 5),
}
"""Name → size; 1M and 5M are published, the others are for a few CPU cores."""


def simnorm(x: Array, group: int) -> Array:
    """Softmax within each `group` consecutive entries of the last axis: [..., D]."""
    return jax.nn.softmax(x.reshape(*x.shape[:-1], -1, group)).reshape(x.shape)


def mish(x: Array) -> Array:
    """x tanh(softplus x), with one exponential where the definition has three."""
    n = jnp.exp(jnp.minimum(x, 20.0))  # the rest of the factor is 1 from there on
    n = n * (n + 2)
    return x * n / (n + 2)


class NormedMLP(nn.Module):
    """Linear → LayerNorm → Mish, and a linear layer, or one with a simplicial output.

    Attributes:
      group: entries of one simplex of the output, which is then Linear → LayerNorm →
        `simnorm`; 0 for a linear output.
      dropout: share of the first layer's units that training leaves out.
      zero_output: whether the output's weights begin at 0.
    """

    hidden_dims: Sequence[int]
    output_dim: int
    group: int = 0
    dropout: float = 0.0
    zero_output: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[..., in] → [..., output_dim]; dropout in training needs rngs."""
        normal, zeros = nn.initializers.normal(0.02), nn.initializers.zeros_init()
        for i, width in enumerate(self.hidden_dims):
            x = nn.Dense(width, kernel_init=normal)(x)
            if i == 0 and self.dropout > 0:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            x = mish(nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x))
        init = zeros if self.zero_output else normal
        x = nn.Dense(self.output_dim, kernel_init=init)(x)
        if self.group:
            x = simnorm(nn.LayerNorm(epsilon=LAYER_NORM_EPSILON)(x), self.group)
        return x


class NormedEnsemble(nn.Module):
    """`size` independent `NormedMLP`s, whose outputs are zero at first."""

    hidden_dims: Sequence[int]
    output_dim: int
    size: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """[..., in] → [size, ..., output_dim]."""
        members = ensemble(NormedMLP, self.size)(
            self.hidden_dims, self.output_dim, dropout=self.dropout, zero_output=True
        )
        return members(x, train)


def symlog(x: Array) -> Array:
    """sign(x) log(1 + |x|)."""
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: Array) -> Array:
    """Inverse of `symlog`."""
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


class Bins(NamedTuple):
    """Numbers as distributions over `num` bins of their symlog, in [−limit, limit]."""

    num: int
    limit: float

    @property
    def centers(self) -> np.ndarray:
        """Of the bins, in symlog; [num]."""
        return np.linspace(-self.limit, self.limit, self.num)

    def two_hot(self, x: Array) -> Array:
        """Weights [..., num] of the two bins around symlog x; beyond them, the last.

        A triangle of the width of two bins around each center gives the same numbers.
        """
        centers = self.centers
        y = jnp.clip(symlog(x), -self.limit, self.limit)[..., None]
        return jnp.maximum(0.0, 1.0 - jnp.abs(y - centers) / (centers[1] - centers[0]))

    def expectation(self, logits: Array) -> Array:
        """symexp of the expected bin: [..., num] → [...]."""
        return symexp(jax.nn.softmax(logits) @ self.centers.astype(logits.dtype))

    def cross_entropy(self, logits: Array, x: Array) -> Array:
        """Of logits [..., num] towards values [...]."""
        return -jnp.sum(self.two_hot(x) * jax.nn.log_softmax(logits), axis=-1)


def join(latents: Array, actions: Array) -> Array:
    """Inputs of dynamics, reward and critics."""
    return jnp.concatenate([latents, actions], axis=-1)


class WorldModel(NamedTuple):
    """The parts of a model, as functions of a dict of their parameters by name.

    Parts: encoder, dynamics, reward, q, termination; and the policy prior, whose
    parameters are apart. Observations are normalized, actions in [-1, 1], rewards and
    values represented by `bins`. `dropout` is that of the critics.
    """

    size: Size
    bins: Bins
    dropout: float

    def network(self, part: str, action_dim: int = 1) -> Any:
        """The flax module of one part; `action_dim` is read for the policy's."""
        size, num = self.size, self.bins.num
        widths = (size.mlp_dim, size.mlp_dim)
        if part == "encoder":
            return NormedMLP((size.encoder_dim,), size.latent_dim, GROUP)
        if part == "dynamics":
            return NormedMLP(widths, size.latent_dim, GROUP)
        if part == "q":
            return NormedEnsemble(widths, num, size.num_q, self.dropout)
        if part == "reward":
            return NormedMLP(widths, num, zero_output=True)
        return NormedMLP(widths, 2 * action_dim if part == "policy" else 1)

    def apply(self, part: str, params: Pytree, x: Array) -> Array:
        """One part of the model on its inputs."""
        return self.network(part).apply(params[part], x)

    def rollout(self, params: Pytree, first: Array, actions: Array) -> Array:
        """Latents z_0 … z_H [H + 1, B, Z] from z_0 [B, Z] and actions [H, B, A]."""

        def step(latents: Array, now: Array) -> tuple[Array, Array]:
            latents = self.apply("dynamics", params, join(latents, now))
            return latents, latents

        _, following = jax.lax.scan(step, first, actions)
        return jnp.concatenate([first[None], following])

    def q_logits(
        self, q_params: Pytree, latents: Array, actions: Array, key: Key | None = None
    ) -> Array:
        """All critics' logits [num_q, ..., bins]; with a key, dropout acts."""
        dropout = key is not None and self.dropout > 0
        rngs = {"dropout": key} if dropout else {}
        return self.network("q").apply(
            q_params, join(latents, actions), dropout, rngs=rngs
        )

    def policy_moments(
        self, policy: Pytree, latents: Array, action_dim: int
    ) -> tuple[Array, Array]:
        """Mean and log deviation before tanh, [..., A] each."""
        outputs = self.network("policy", action_dim).apply(policy, latents)
        mean, raw = jnp.split(outputs, 2, axis=-1)
        span = 0.5 * (LOG_STD_MAX - LOG_STD_MIN)
        return mean, LOG_STD_MIN + span * (jnp.tanh(raw) + 1)

    def policy_sample(
        self, policy: Pytree, latents: Array, noise: Array
    ) -> tuple[Array, Array]:
        """Actions [..., A] in [-1, 1] for standard normal noise; −log N [...] of u."""
        mean, log_std = self.policy_moments(policy, latents, noise.shape[-1])
        entropy = jnp.sum(0.5 * noise**2 + log_std + 0.5 * LOG_2PI, axis=-1)
        return jnp.tanh(mean + jnp.exp(log_std) * noise), entropy
