"""Losses of imitation from play, apart from any model."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import optax

from offjax.networks import logistic_mixture
from offjax.networks.hulc import Heads
from offjax.types import Array


def action_loss(
    heads: Heads, actions: Array, num_classes: int, gripper_weight: chex.Numeric
) -> Array:
    """−log π of actions [..., A] in the unit box, in `num_classes` bins each: [...].

    Where `heads` treat the gripper apart, the last entry is -1 or 1.
    """
    continuous = actions if heads.gripper is None else actions[..., :-1]
    loss = -logistic_mixture.log_prob(heads.mixture, continuous, num_classes)
    if heads.gripper is None:
        return loss
    opened = (actions[..., -1] > 0).astype(jnp.int32)
    return loss + gripper_weight * optax.softmax_cross_entropy_with_integer_labels(
        heads.gripper, opened
    )


def contrastive_loss(windows: Array, texts: Array, scale: Array, rows: Array) -> Array:
    """Symmetric cross-entropy of which text belongs to which window.

    Args:
      windows: [B, Z] unit vectors.
      texts: [B, Z] unit vectors, that of window i in row i.
      scale: log of the factor on the cosines.
      rows: [B] bool, pairs that take part; without any the loss is 0.
    """
    # A large number, not infinity, whose product with a zero gradient would be NaN.
    logits = jnp.exp(scale) * windows @ texts.T
    logits = jnp.where(rows[:, None] & rows[None], logits, -1e9)
    own = jnp.diagonal(logits)
    both = 2 * own - jax.nn.logsumexp(logits, 0) - jax.nn.logsumexp(logits, 1)
    return -0.5 * jnp.sum(both * rows) / jnp.maximum(jnp.sum(rows), 1)
