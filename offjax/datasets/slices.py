"""Slices of H steps within one episode, for models that are rolled out."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.datasets.views import action_box
from offjax.errors import UserError
from offjax.types import Key, Statistics, Upstream, View


class Slices(NamedTuple):
    """Slices of H steps within one episode."""

    observations: chex.Array  # [B, H + 1, O] raw
    actions: chex.Array  # [B, H, A] environment's
    rewards: chex.Array  # [B, H]
    terminals: chex.Array  # [B, H] 1 where the MDP ended


class SliceData(NamedTuple):
    """Rows of the dataset, and where slices of H steps may begin."""

    observations: chex.Array  # [N, O]
    next_observations: chex.Array  # [N, O]
    actions: chex.Array  # [N, A]
    rewards: chex.Array  # [N]
    terminals: chex.Array  # [N]
    starts: chex.Array  # [M] rows
    statistics: Statistics


@dataclasses.dataclass(frozen=True)
class SliceView(View):
    """Slices of `config.horizon` steps, `config.batch_size` of them in a batch.

    Attributes:
      reward_scale: rewards count as reward_scale · r.
    """

    by_rows: ClassVar[bool] = True
    reward_scale: float = 1.0

    def arrays(self, dataset: Dataset, config: Any, upstream: Upstream) -> SliceData:
        """All rows, and the starts of slices that stay within their episode.

        Where the data hold no next observations, a row's is that of the next row; the
        last row of an episode then has none, and is omitted unless it ended the MDP,
        whose value needs no next observation (its own stands there).

        Raises:
          UserError: no episode is as long as a slice.
        """
        del upstream
        following, last = _next_observations(dataset)
        remaining = np.repeat(last, dataset.episode_lengths) - np.arange(len(dataset))
        starts = np.flatnonzero(remaining >= config.horizon)
        if not starts.size:
            raise UserError(
                f"Dataset {dataset.card.id!r} has no episode of {config.horizon} "
                "steps, which the model is trained on: choose a smaller horizon."
            )
        box = action_box(dataset.spec)
        statistics = convert.statistics(dataset, action_box=box)
        actions = dataset.actions
        if box != "env":
            actions = np.clip(actions, statistics.action_low, statistics.action_high)
        return SliceData(
            dataset.observations,
            following,
            actions,
            np.asarray(self.reward_scale * dataset.rewards, np.float32),
            dataset.terminals.astype(np.float32),
            starts.astype(np.int32),
            statistics,
        )

    def sample(self, arrays: SliceData, key: Key, config: Any) -> Slices:
        """Slices whose starts are uniform."""
        which = jax.random.randint(key, (config.batch_size,), 0, arrays.starts.shape[0])
        rows = arrays.starts[which][:, None] + jnp.arange(config.horizon)
        here = arrays.observations[rows]
        last = arrays.next_observations[rows[:, -1:]]
        return Slices(
            jnp.concatenate([here, last], axis=1),
            arrays.actions[rows],
            arrays.rewards[rows],
            arrays.terminals[rows],
        )


def _next_observations(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Next observations [N, O], and one past each episode's last usable row [E]."""
    ends = dataset.episode_ends
    if dataset.next_observations is not None:
        return dataset.next_observations, ends
    following = np.concatenate([dataset.observations[1:], dataset.observations[:1]])
    following[ends - 1] = dataset.observations[ends - 1]
    return following, ends - ~dataset.terminals[ends - 1]
