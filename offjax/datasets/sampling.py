"""Batches drawn on device from data that stay there; pure functions of a key."""

from __future__ import annotations

from typing import Any, Literal

import chex
import jax
import jax.numpy as jnp


def uniform(data: Any, key: chex.PRNGKey, batch_size: int) -> Any:
    """Rows drawn uniformly with replacement.

    Random integers and one gather a leaf: a permutation of all rows for each batch
    would cost more than the update it feeds.

    Args:
      data: pytree of arrays [N, ...].
      key: fixes the draw.
      batch_size: B.

    Returns:
      The same pytree with leaves [B, ...].
    """
    rows = jax.tree.leaves(data)[0].shape[0]
    index = jax.random.randint(key, (batch_size,), 0, rows)
    return jax.tree.map(lambda leaf: leaf[index], data)


def segments(
    data: Any,
    starts: chex.Array,
    ends: chex.Array,
    key: chex.PRNGKey,
    batch_size: int,
    length: int,
    over: Literal["rows", "episodes"] = "rows",
) -> tuple[Any, chex.Array]:
    """Windows of consecutive steps that stay within their episode.

    A window starts at a uniformly drawn row ("rows": long episodes weigh more), or at
    a uniform row of a uniformly drawn episode ("episodes"). Steps beyond the end of
    the episode repeat its last row and are masked.

    Args:
      data: pytree of flat arrays [N, ...].
      starts: first row of each episode, ascending, [E] integers.
      ends: one past the last row of each episode, [E].
      key: fixes the draw.
      batch_size: B.
      length: L, steps of a window.
      over: what is drawn uniformly.

    Returns:
      The pytree with leaves [B, L, ...], and the mask [B, L] of recorded steps.
    """
    episode_key, row_key = jax.random.split(key)
    if over == "rows":
        first = jax.random.randint(row_key, (batch_size,), 0, ends[-1])
        episode = jnp.searchsorted(ends, first, side="right")
    else:
        episode = jax.random.randint(episode_key, (batch_size,), 0, len(starts))
        first = jax.random.randint(
            row_key, (batch_size,), starts[episode], ends[episode]
        )
    end = ends[episode][:, None]
    index = first[:, None] + jnp.arange(length)
    mask = index < end
    index = jnp.minimum(index, end - 1)
    return jax.tree.map(lambda leaf: leaf[index], data), mask
