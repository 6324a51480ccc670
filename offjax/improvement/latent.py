"""Where operators work: the latent action, the critic of it, the way back.

Tanh-squashed policies are improved before tanh. For the others the latent is the action
in units of its box: proposals are clipped to it, and beyond it the critic has the value
and the gradient of the nearest action inside, so that a proposal is ranked by what will
be executed.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from offjax.distributions import Distribution
from offjax.errors import require_least, require_option
from offjax.types import Array, Key

QFn = Callable[[Array], Array]
"""action [A] → value []."""


def critic(distribution: Distribution, q: QFn) -> QFn:
    """The critic as a function of the latent action [A]."""

    def q_latent(latent: Array) -> Array:
        if _clips(distribution):
            inside = jnp.clip(latent, -1.0, 1.0)
            latent = latent + jax.lax.stop_gradient(inside - latent)
        return q(distribution.to_action(latent))

    return q_latent


def to_box(distribution: Distribution, latent: Array) -> Array:
    """Environment action of a latent one, within the box where that is known."""
    if _clips(distribution):
        latent = jnp.clip(latent, -1.0, 1.0)
    return distribution.to_action(latent)


def _clips(distribution: Distribution) -> bool:
    # A point carries no box of its own; the environment clips what it executes.
    return not distribution.squashed and distribution.kind != "point"


def in_space(distribution: Distribution, space: str) -> Distribution:
    """The distribution to expand around: as it is, or its means squashed."""
    require_option("space", space, ("latent", "action"))
    if space == "action" and distribution.squashed:
        means = jnp.tanh(distribution.means)
        return distribution.replace(means=means, squashed=False)
    return distribution


def candidates(distribution: Distribution, key: Key, n: int) -> Array:
    """Samples [n, A] in latent space; of a point its atoms [N, A]."""
    require_least(1, candidates=n)
    if distribution.kind == "point":
        return distribution.means

    def sample(i: Array) -> Array:
        which, noise = jax.random.split(jax.random.fold_in(key, i))
        component = jax.random.categorical(which, distribution.logits)
        eps = jax.random.normal(noise, distribution.means.shape[1:])
        return distribution.means[component] + distribution.stds[component] * eps

    latents = jax.vmap(sample)(jnp.arange(n))
    return latents if distribution.squashed else jnp.clip(latents, -1.0, 1.0)
