"""ASPlanner's losses as the paper prints them: an equation, two listings.

Equation and listing differ, and neither fixes the level of the actions: μ + c has the
same p. See `offjax.methods.asp`, whose modes these are, for the notation.

* ``equation``: y = (a − m)/Σ(a − m), p linear in the expected action, y-weighted
  Gaussian log-likelihood as L_KL, absolute discounting γᵗ.
* ``listing``: the appendix' code: y_t = a_t/(Σ(a − m) + 1e-5), p = softmax over time
  of the means, w = the standardized return-to-go of each time step, and a KL between
  the batch's average policy and its action statistics; acts with clip(μ).
* ``mle``: the likelihood that the cross-entropy replaces, its steps in their order (the
  printed code reverses the log-likelihoods in time, but not the returns).

Equation and listing normalize over a segment of W windows: means, deviations and
weights come as [B, W, k, …], and steps beyond the episode count for nothing.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from offjax.datasets.normalize import ActionBox
from offjax.datasets.windows import Windows
from offjax.types import Array

EPSILON = 1e-5  # the listing adds it to what it divides by


def over_time(batch: Windows, values: Array) -> Array:
    """[B, W, k, A] → [B, L, A] with steps beyond the episode at 0."""
    shape = (values.shape[0], -1, values.shape[-1])
    return (values * batch.mask[..., None]).reshape(shape)


def moments(outputs: Array, config: Any) -> tuple[Array, Array]:
    """[..., 2kA] → means and standard deviations, each [..., k, A]."""
    shaped = outputs.reshape(*outputs.shape[:-1], config.k, -1)
    mean, raw_std = jnp.split(shaped, 2, axis=-1)
    learned = jax.nn.softplus(raw_std) if config.learn_std else jnp.zeros_like(raw_std)
    return mean, config.std_min + learned


def batch_standard(batch: Windows) -> Array:
    """Returns-to-go [B, W, k], standardized over the batch at each time step."""
    count = batch.mask.sum(0)
    mean = (batch.returns * batch.mask).sum(0) / jnp.maximum(count, 1.0)
    squares = ((batch.returns - mean) ** 2 * batch.mask).sum(0)
    std = jnp.sqrt(squares / jnp.maximum(count - 1.0, 1.0))
    return (batch.returns - mean) / (std + EPSILON)


def log_normal(x: Array, mean: Array, std: Array) -> Array:
    """Log density of each coordinate, same shape as `x`."""
    z = (x - mean) / std
    return -0.5 * z**2 - jnp.log(std) - 0.5 * jnp.log(2 * jnp.pi)


def mle_loss(
    mean: Array, std: Array, weights: Array, batch: Windows, box: ActionBox, config: Any
) -> Array:
    """−mean of w(G) · log N(a_t; μ_t, σ_t), actions mapped to [-1, 1]."""
    log_pi = over_time(batch, log_normal(box.to_unit(batch.actions), mean, std))
    if not config.step_weights:
        weights = jnp.broadcast_to(weights[..., :1], weights.shape)
    weights = over_time(batch, weights[..., None])
    return -jnp.sum(log_pi * weights) / (batch.mask.sum() * log_pi.shape[-1])


def equation_loss(
    mean: Array, std: Array, weights: Array, batch: Windows, box: ActionBox, config: Any
) -> Array:
    """The printed equation: −Σ y G log p + λ Σ y (log y − log π(a)).

    `mean` [B, W, k, A] is before the sigmoid, `weights` [B, W, k] not yet discounted;
    `config` is an `offjax.methods.asp.Config`.
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
    mean: Array, std: Array, weights: Array, batch: Windows, config: Any
) -> Array:
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


def _marginal_kl(mean: Array, std: Array, actions: Array, valid: Array) -> Array:
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


def decode(mean: Array, deviation: Any, box: ActionBox, mode: str) -> Array:
    """Environment actions [k, A] of the means that a mode's loss has trained.

    `deviation` [k, A] or 0 is added in the space of the mode's Gaussian.
    """
    if mode == "listing":
        return mean + deviation
    if mode == "mle":
        return box.from_unit(mean + deviation)
    return box.from_unit(2.0 * (jax.nn.sigmoid(mean) + deviation) - 1.0)
