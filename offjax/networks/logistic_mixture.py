"""Mixtures of discretised logistics: what imitation from play says about actions.

Every entry of an action in [-1, 1] has K logistic components of its own. The interval
is divided into n classes; an action has the probability of its bin,

    P(a) = Σ_k π_k [σ((a − μ_k + b)/s_k) − σ((a − μ_k − b)/s_k)],   b = 1/(n − 1),

the outermost bins reaching to ± infinity (Salimans et al., PixelCNN++, 2017,
https://arxiv.org/abs/1701.05517; for actions Lynch et al., Learning Latent Plans from
Play, 2019, https://arxiv.org/abs/1903.01973).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from offjax.types import Array, Key

LOG_SCALE_MIN = -7.0
EDGE = 0.999
"""Actions beyond ± this belong to the outermost bins."""


class LogisticMixture(NamedTuple):
    """Parameters of K components for each of A entries."""

    logits: Array  # [..., A, K] unnormalized log weights
    means: Array  # [..., A, K]
    log_scales: Array  # [..., A, K], at least LOG_SCALE_MIN


def log_prob(mixture: LogisticMixture, actions: Array, num_classes: int) -> Array:
    """Log probability of the bins of actions in [-1, 1], summed: [..., A] → [...].

    Where a bin is so narrow for its component that the difference of the two sigmoids
    vanishes, the density at its center times its width stands in.
    """
    centered = actions[..., None] - mixture.means
    inverse = jnp.exp(-mixture.log_scales)
    half_bin = 1.0 / (num_classes - 1)
    upper, middle, lower = (
        inverse * (centered + offset) for offset in (half_bin, 0.0, -half_bin)
    )
    mass = jax.nn.sigmoid(upper) - jax.nn.sigmoid(lower)
    # The density is exp(middle) / (scale (1 + exp middle)²), the bin 2 half_bins wide.
    density = middle - mixture.log_scales - 2 * jax.nn.softplus(middle)
    narrow = density + jnp.log(2 * half_bin)
    inner = jnp.where(mass > 1e-5, jnp.log(jnp.maximum(mass, 1e-12)), narrow)
    edges = actions[..., None]
    parts = jnp.where(
        edges < -EDGE,
        jax.nn.log_sigmoid(upper),
        jnp.where(edges > EDGE, jax.nn.log_sigmoid(-lower), inner),
    )
    weights = jax.nn.log_softmax(mixture.logits)
    return jnp.sum(jax.nn.logsumexp(parts + weights, axis=-1), axis=-1)


def sample(mixture: LogisticMixture, key: Key) -> Array:
    """One action [..., A], not clipped to the box."""
    which, where = jax.random.split(key)
    component = jax.random.categorical(which, mixture.logits)[..., None]
    means, log_scales = (
        jnp.take_along_axis(x, component, axis=-1)[..., 0]
        for x in (mixture.means, mixture.log_scales)
    )
    u = jax.random.uniform(where, means.shape, minval=1e-5, maxval=1 - 1e-5)
    return means + jnp.exp(log_scales) * (jnp.log(u) - jnp.log1p(-u))


def mode(mixture: LogisticMixture) -> Array:
    """The mean of the heaviest component of each entry, [..., A]."""
    component = jnp.argmax(mixture.logits, axis=-1)[..., None]
    return jnp.take_along_axis(mixture.means, component, axis=-1)[..., 0]
