"""Segments of trajectories with returns-to-go, sampled on device from flat arrays.

What sequence models train on: windows of K consecutive steps of one episode. A window
that runs off its episode's end is padded at the right; attention is causal, so that
padding there can be seen by no step that counts.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.datasets.views import action_box
from offjax.errors import UserError
from offjax.types import Key, Statistics, Upstream, View

WEIGHTINGS = ("length", "uniform")


class Segments(NamedTuple):
    """Windows of trajectories; padded steps have `mask` 0 and values of no meaning."""

    observations: chex.Array  # [B, K, O] raw
    actions: chex.Array  # [B, K, A] environment's
    returns: chex.Array  # [B, K] returns-to-go
    timesteps: chex.Array  # [B, K] int, steps since the episode began
    mask: chex.Array  # [B, K] 1 on recorded steps


class Trajectories(NamedTuple):
    """Complete episodes, their rows one after another."""

    observations: chex.Array  # [N, O]
    actions: chex.Array  # [N, A]
    returns: chex.Array  # [N] returns-to-go
    timesteps: chex.Array  # [N] steps since the episode began
    remaining: chex.Array  # [N] steps to the episode's end, this one included
    starts: chex.Array  # [E] first row of each episode
    lengths: chex.Array  # [E]
    return_scale: chex.Array  # [] what returns are divided by
    statistics: Statistics


@dataclasses.dataclass(frozen=True)
class SegmentView(View):
    """Windows of `config.context_length` steps, `config.batch_size` in a batch.

    What `from_dataset` and `sample` need beside that are fields of the config, too.

    Attributes:
      discounted: whether returns-to-go are discounted by `config.discount`.
    """

    discounted: bool = False

    def arrays(self, dataset: Dataset, config: Any, upstream: Upstream) -> Trajectories:
        """Episodes with returns-to-go; the deviations' epsilon is 1e-6, as published.

        Raises:
          UserError: an episode longer than the table of time embeddings.
        """
        del upstream
        statistics = convert.statistics(
            dataset, action_box=action_box(dataset.spec), epsilon=1e-6
        )
        return from_dataset(
            dataset,
            statistics,
            config.max_timesteps,
            config.return_scale,
            config.reward_scale,
            config.reward_shift,
            config.episode_length,
            config.discount if self.discounted else 1.0,
            config.rare_timesteps,
        )

    def sample(self, arrays: Trajectories, key: Key, config: Any) -> Segments:
        """See `sample`."""
        return sample(
            arrays, key, config.batch_size, config.context_length, config.weighting
        )


def from_dataset(
    dataset: Dataset,
    statistics: Statistics,
    max_timesteps: int,
    return_scale: float = 0.0,
    reward_scale: float = 1.0,
    reward_shift: float = 0.0,
    episode_length: int = 0,
    discount: float = 1.0,
    rare_timesteps: float = 0.0,
) -> Trajectories:
    """The complete episodes of a dataset, with returns-to-go.

    A last episode that is neither terminated nor cut by a time-out is dropped, unless
    it is the only one or `episode_length` is given.

    Args:
      dataset: recorded episodes.
      statistics: transforms of observations and actions.
      max_timesteps: entries of the model's table of time embeddings.
      return_scale: what returns are divided by; 0: the largest absolute return-to-go.
      reward_scale: rewards count as reward_scale · r + reward_shift.
      reward_shift: see `reward_scale`.
      episode_length: 0 for episodes as recorded; else see `recut`.
      discount: of the returns-to-go.
      rare_timesteps: time steps that at most this share of the episodes reach count as
        the last one that more reach, since too few data teach their embeddings.

    Raises:
      UserError: an episode longer than the table of time embeddings.
    """
    ends = np.asarray(dataset.episode_ends)
    complete = bool(dataset.terminals[-1] or dataset.timeouts[-1])
    if episode_length:
        ends = recut(dataset, episode_length)
    elif not complete and len(ends) > 1:
        ends = ends[:-1]
    rows = int(ends[-1])
    starts = np.concatenate([[0], ends[:-1]])
    lengths = ends - starts
    if lengths.max() > max_timesteps:
        raise UserError(
            f"The longest episode of {dataset.card.id} has {lengths.max()} steps, but "
            f"the table of time embeddings has max_timesteps={max_timesteps} entries: "
            f"set max_timesteps to {lengths.max()} or more."
        )
    rewards = reward_scale * dataset.rewards[:rows].astype(np.float64) + reward_shift
    returns = convert.returns_to_go(rewards, starts, ends, discount)
    largest = float(np.abs(returns).max()) or 1.0
    timesteps = np.arange(rows) - np.repeat(starts, lengths)
    shorter = np.sort(lengths)[: max(1, round((1 - rare_timesteps) * len(lengths)))]
    return Trajectories(
        observations=dataset.observations[:rows].astype(np.float32),
        actions=dataset.actions[:rows].astype(np.float32),
        returns=returns.astype(np.float32),
        timesteps=np.minimum(timesteps, shorter[-1] - 1).astype(np.int32),
        remaining=(np.repeat(lengths, lengths) - timesteps).astype(np.int32),
        starts=starts.astype(np.int32),
        lengths=lengths.astype(np.int32),
        return_scale=np.float32(return_scale or largest),
        statistics=statistics,
    )


def recut(dataset: Dataset, length: int) -> np.ndarray:
    """Episodes of `length` steps, cut from what was recorded without interruption.

    A stream goes on across a time-out whose next observation is that of the next row,
    or where the data hold none; it ends at terminals. Its last piece may be shorter.
    For data like maze2d's, where a time-out only says that the navigation's goal was
    reached: returns-to-go of recorded episodes end there, however long the ball stays
    in the reward.

    Returns:
      One past the last row of each episode, [E].

    Raises:
      UserError: a length below 1.
    """
    if length < 1:
        raise UserError(
            f"episode_length is {length}; it must be 0 (episodes as recorded) or the "
            "number of steps at which to cut anew."
        )
    broken = dataset.terminals.copy()
    if dataset.next_observations is not None:
        kept = dataset.next_observations[:-1] == dataset.observations[1:]
        broken[:-1] |= dataset.timeouts[:-1] & ~kept.all(axis=1)
    broken[-1] = True
    rows = np.arange(len(broken))
    starts = np.where(np.concatenate([[True], broken[:-1]]), rows, 0)
    steps = rows - np.maximum.accumulate(starts)
    return np.flatnonzero(broken | (steps % length == length - 1)) + 1


def sample(
    data: Trajectories, key: Key, batch_size: int, length: int, weighting: str
) -> Segments:
    """`batch_size` windows of `length` steps.

    Args:
      data: what `from_dataset` prepared.
      key: random key.
      batch_size: B.
      length: K, steps of a window.
      weighting: "length" starts windows at uniform rows, so that trajectories count by
        their length and windows may run off the end (Decision Transformer); "uniform"
        draws trajectories uniformly and keeps windows inside where they fit
        (Reinformer).

    Raises:
      UserError: an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise UserError(
            f"weighting is {weighting!r}; choose one of {', '.join(WEIGHTINGS)}."
        )
    if weighting == "length":
        shape = (batch_size,)
        first = jax.random.randint(key, shape, 0, data.observations.shape[0])
    else:
        which, where = jax.random.split(key)
        episode = jax.random.randint(which, (batch_size,), 0, data.starts.shape[0])
        last_start = jnp.maximum(data.lengths[episode] - length, 0)
        offset = jax.random.randint(where, (batch_size,), 0, last_start + 1)
        first = data.starts[episode] + offset
    steps = jnp.arange(length)
    mask = steps < data.remaining[first][:, None]
    rows = jnp.where(mask, first[:, None] + steps, first[:, None])
    return Segments(
        data.observations[rows],
        data.actions[rows],
        data.returns[rows],
        data.timesteps[rows],
        mask.astype(jnp.float32),
    )
