"""Segments of trajectories with returns-to-go, sampled on device from flat arrays.

What sequence models train on: windows of K consecutive steps of one episode. A window
that runs off its episode's end is padded at the right; attention is causal, so that
padding there can be seen by no step that counts.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset, horizon_timeouts
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
    last_timestep: chex.Array  # [] the greatest of `timesteps`
    statistics: Statistics


@dataclasses.dataclass(frozen=True)
class SegmentView(View):
    """Windows of `config.context_length` steps, `config.batch_size` in a batch.

    The config's other fields that it reads are those of `methods.sequence`.

    Attributes:
      discounted: whether returns-to-go are discounted by `config.discount`.
    """

    by_rows: ClassVar[bool] = True
    discounted: bool = False

    def arrays(self, dataset: Dataset, config: Any, upstream: Upstream) -> Trajectories:
        """Complete episodes with returns-to-go.

        A last episode that is neither terminated nor cut by a time-out is dropped,
        unless it is the only one or `episode_length` is given. The epsilon of the
        deviations is 1e-6, as published.

        Raises:
          UserError: an episode longer than the table of time embeddings.
        """
        del upstream
        ends = _ends(dataset, config.episode_length)
        rows = int(ends[-1])
        starts = np.concatenate([[0], ends[:-1]])
        lengths = ends - starts
        if lengths.max() > config.max_timesteps:
            raise UserError(
                f"The longest episode of {dataset.card.id} has {lengths.max()} steps, "
                "but the table of time embeddings has "
                f"max_timesteps={config.max_timesteps} entries: set max_timesteps to "
                f"{lengths.max()} or more."
            )
        rewards = dataset.rewards[:rows].astype(np.float64)
        rewards = config.reward_scale * rewards + config.reward_shift
        discount = config.discount if self.discounted else 1.0
        returns = convert.returns_to_go(rewards, starts, ends, discount)
        largest = float(np.abs(returns).max()) or 1.0
        timesteps = np.arange(rows) - np.repeat(starts, lengths)
        remaining = np.repeat(lengths, lengths) - timesteps
        # Too few data teach the embeddings of time steps that few episodes reach.
        common = max(1, round((1 - config.rare_timesteps) * len(lengths)))
        last = np.sort(lengths)[common - 1] - 1
        timesteps = np.minimum(timesteps, last)
        return Trajectories(
            observations=dataset.observations[:rows],
            actions=dataset.actions[:rows],
            returns=returns.astype(np.float32),
            timesteps=timesteps.astype(np.int32),
            remaining=remaining.astype(np.int32),
            starts=starts.astype(np.int32),
            lengths=lengths.astype(np.int32),
            return_scale=np.float32(config.return_scale or largest),
            last_timestep=np.int32(timesteps.max()),
            statistics=convert.statistics(
                dataset, action_box=action_box(dataset.spec), epsilon=1e-6
            ),
        )

    def sample(self, arrays: Trajectories, key: Key, config: Any) -> Segments:
        """Windows of trajectories.

        The `weighting` "length" starts them at uniform rows, so that trajectories
        count by their length and windows may run off the end (Decision Transformer);
        "uniform" draws trajectories uniformly and keeps windows inside where they fit
        (Reinformer).
        """
        shape, length = (config.batch_size,), config.context_length
        if config.weighting == "length":
            first = jax.random.randint(key, shape, 0, arrays.observations.shape[0])
        else:
            which, where = jax.random.split(key)
            episode = jax.random.randint(which, shape, 0, arrays.starts.shape[0])
            last_start = jnp.maximum(arrays.lengths[episode] - length, 0)
            offset = jax.random.randint(where, shape, 0, last_start + 1)
            first = arrays.starts[episode] + offset
        steps = jnp.arange(length)
        mask = steps < arrays.remaining[first][:, None]
        rows = jnp.where(mask, first[:, None] + steps, first[:, None])
        return Segments(
            arrays.observations[rows],
            arrays.actions[rows],
            arrays.returns[rows],
            arrays.timesteps[rows],
            mask.astype(jnp.float32),
        )


def _ends(dataset: Dataset, episode_length: int) -> np.ndarray:
    """One past the last row of each complete episode, [E]."""
    ends = np.asarray(dataset.episode_ends)
    if episode_length:
        return recut(dataset, episode_length)
    complete = dataset.terminals[-1] or dataset.timeouts[-1]
    return ends if complete or len(ends) == 1 else ends[:-1]


def recut(dataset: Dataset, length: int) -> np.ndarray:
    """Ends of episodes of `length` steps, cut from uninterrupted recordings, [E].

    A stream goes on across a time-out whose next observation is that of the next row,
    or where the data hold none; it ends at terminals. Its last piece may be shorter.
    For data like maze2d's, where a time-out only says that the navigation's goal was
    reached, and returns-to-go of recorded episodes would end there.

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
    return np.flatnonzero(broken | horizon_timeouts(broken, length)) + 1
