"""ASPlanner's losses as the paper prints them: its equation, and its listing.

They differ from each other, and neither fixes the level of the actions: p is unchanged
by μ + c. See `offjax.methods.asp`, whose modes these are, for the notation.

* ``equation``: y = (a − m)/Σ(a − m), p linear in the expected action, y-weighted
  Gaussian log-likelihood as L_KL, absolute discounting γᵗ.
* ``listing``: the appendix' code: y_t = a_t/(Σ(a − m) + 1e-5), p = softmax over time
  of the means, w = the standardized return-to-go of each time step, and a KL between
  the batch's average policy and its action statistics; acts with clip(μ).

Both normalize over a segment of W windows: means, deviations and weights come as
[B, W, k, …], and steps beyond the episode count for nothing.
"""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp

from offjax.datasets.normalize import ActionBox
from offjax.datasets.windows import Windows

EPSILON = 1e-5  # the listing adds it to what it divides by


def over_time(batch: Windows, values: chex.Array) -> chex.Array:
    """[B, W, k, A] → [B, L, A] with steps beyond the episode at 0."""
    shape = (values.shape[0], -1, values.shape[-1])
    return (values * batch.mask[..., None]).reshape(shape)


def batch_standard(batch: Windows) -> chex.Array:
    """Returns-to-go [B, W, k], standardized over the batch at each time step."""
    count = batch.mask.sum(0)
    mean = (batch.returns * batch.mask).sum(0) / jnp.maximum(count, 1.0)
    squares = ((batch.returns - mean) ** 2 * batch.mask).sum(0)
    std = jnp.sqrt(squares / jnp.maximum(count - 1.0, 1.0))
    return (batch.returns - mean) / (std + EPSILON)


def log_normal(x: chex.Array, mean: chex.Array, std: chex.Array) -> chex.Array:
    """Log density of each coordinate, same shape as `x`."""
    z = (x - mean) / std
    return -0.5 * z**2 - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)


def equation_loss(
    mean: chex.Array,
    std: chex.Array,
    weights: chex.Array,
    batch: Windows,
    box: ActionBox,
    config: Any,
) -> chex.Array:
    """The printed equation: −Σ y G log p + λ Σ y (log y − log π(a)).

    Args:
      mean: [B, W, k, A] before the sigmoid.
      std: [B, W, k, A].
      weights: [B, W, k] w(G), not yet discounted.
      batch: the segments.
      box: of the actions.
      config: `offjax.methods.asp.Config`.
    """
    share = over_time(batch, jax.nn.sigmoid(mean))
    actions = 0.5 * (box.to_unit(batch.actions) + 1.0)
    shifted = over_time(batch, actions)
    low = jnp.min(jnp.where(batch.mask[..., None] > 0, actions, jnp.inf), axis=(1, 2))[
        :, None
    ]
    shifted = jnp.maximum(shifted - low, 0.0) * over_time(batch, jnp.ones_like(mean))
    y = shifted / jnp.maximum(shifted.sum(1, keepdims=True), EPSILON)
    log_p = jnp.log(share / share.sum(1, keepdims=True) + 1e-12)
    steps = batch.times[..., None] + jnp.arange(config.k)
    weights = over_time(batch, (weights * config.discount**steps)[..., None])
    cross_entropy = -(y * weights * log_p).sum(1).mean()
    log_pi = log_normal(actions, jax.nn.sigmoid(mean), std)
    log_y = jnp.log(jnp.maximum(y, 1e-12))
    kl = (y * (log_y - over_time(batch, log_pi))).sum(1).mean()
    return cross_entropy + config.kl_weight * kl


def listing_loss(
    mean: chex.Array,
    std: chex.Array,
    weights: chex.Array,
    batch: Windows,
    config: Any,
) -> chex.Array:
    """The appendix' second listing, term by term; arguments as of `equation_loss`."""
    valid = over_time(batch, jnp.ones_like(mean))
    actions = over_time(batch, batch.actions)
    mass = over_time(batch, batch.actions - config.action_min)
    y = actions / (mass.sum(1, keepdims=True) + EPSILON)
    flat_mean = mean.reshape(valid.shape)
    log_p = jax.nn.log_softmax(jnp.where(valid > 0, flat_mean, -jnp.inf), axis=1)
    log_p = jnp.where(valid > 0, log_p, 0.0)
    weights = over_time(batch, weights[..., None])
    cross_entropy = -jnp.sum(y * log_p * weights) / valid.sum()
    kl = _marginal_kl(flat_mean, std.reshape(valid.shape), actions, valid)
    return cross_entropy + config.kl_weight * kl


def _marginal_kl(
    mean: chex.Array, std: chex.Array, actions: chex.Array, valid: chex.Array
) -> chex.Array:
    """KL(N(mean_b μ, mean_b σ) ‖ N(mean_b a, std_b a)) per time step, averaged."""
    count = jnp.maximum(valid.sum(0), 1.0)
    mu, sigma = (mean * valid).sum(0) / count, (std * valid).sum(0) / count
    a_mean = (actions * valid).sum(0) / count
    squares = ((actions - a_mean) ** 2 * valid).sum(0)
    a_std = jnp.sqrt(squares / jnp.maximum(count - 1.0, 1.0)) + EPSILON
    seen = valid.sum(0) > 0
    sigma = jnp.where(seen, sigma, 1.0)
    kl = jnp.log(a_std / sigma) + (sigma**2 + (mu - a_mean) ** 2) / (2 * a_std**2) - 0.5
    return jnp.where(seen, kl, 0.0).sum() / jnp.maximum(seen.sum(), 1)


def decode(mean: chex.Array, deviation: Any, box: ActionBox, mode: str) -> chex.Array:
    """Environment actions [k, A] of the means that a mode's loss has trained.

    Args:
      mean: [k, A], as the network gives it.
      deviation: [k, A] or 0, what is added in the space of the mode's Gaussian.
      box: of the actions.
      mode: "listing" or "equation".
    """
    if mode == "listing":
        return mean + deviation
    return box.from_unit(2.0 * (jax.nn.sigmoid(mean) + deviation) - 1.0)
