"""What learners of single transitions read of a dataset: views of independent rows."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import numpy as np

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Pytree,
    Statistics,
    Transitions,
    Upstream,
    View,
    added,
)


class TransitionData(NamedTuple):
    """Data of transition learners; leading axis of `rows` the row."""

    rows: Transitions
    statistics: Statistics


class PixelTransitionData(NamedTuple):
    """The same of pixels, each of which is there once."""

    rows: Transitions  # observations and next_observations are rows of `frames`
    statistics: Statistics
    frames: Array  # [N, O] uint8


@dataclasses.dataclass(frozen=True)
class TransitionView(View):
    """Transitions as a paper wants them.

    Rewards count as reward_scale · r + reward_shift. With `unit_returns` they are
    first divided by the range of the episodes' returns, times 1000 (IQL on
    locomotion); `complete_returns` leaves the last episode out of the range if it was
    cut (CORL). `next_actions` keeps only rows that end the MDP or have a next action
    (SARSA).
    """

    by_rows: ClassVar[bool] = True
    normalize: bool = True  # standardize observations
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    unit_returns: bool = False
    next_actions: bool = False
    complete_returns: bool = added(default=False)

    def arrays(self, dataset: Dataset, config: Any, upstream: Upstream) -> Pytree:
        """All transitions, with the statistics of observations and actions.

        `TransitionData`, or `PixelTransitionData` of rows of bytes that hold no
        `next_observations` of their own.

        Raises:
          UserError: no row is left.
        """
        del config, upstream
        box = action_box(dataset.spec)
        statistics = convert.statistics(dataset, self.normalize, action_box=box)
        frames = dataset.observations
        once = frames.dtype == np.uint8 and dataset.next_observations is None
        rows = convert.to_transitions(dataset, numbers=once)
        if box != "env":
            bounds = statistics.action_low, statistics.action_high
            rows = rows._replace(
                actions=np.clip(rows.actions, *bounds),
                next_actions=np.clip(rows.next_actions, *bounds),
            )
        rows = rows._replace(rewards=self.scaled(rows.rewards, dataset))
        if self.next_actions:
            rows = _with_next_actions(rows, dataset.card.id)
        if once:
            return PixelTransitionData(rows, statistics, frames)
        return TransitionData(rows, statistics)

    def scaled(self, rewards: np.ndarray, dataset: Dataset) -> np.ndarray:
        """Rewards of a dataset as they count, in their shape, f32."""
        if self.unit_returns:
            spread = dataset.return_spread
            if self.complete_returns:
                spread = np.ptp(_complete_returns(dataset))
            rewards = rewards * (1000.0 / spread if spread > 0 else 1.0)
        return np.asarray(self.reward_scale * rewards + self.reward_shift, np.float32)

    def sample(
        self, arrays: TransitionData | PixelTransitionData, key: Key, config: Any
    ) -> Transitions:
        """The rows that `draw` names."""
        index = self.draw(arrays.rows.rewards.shape[0], key, config)
        batch = jax.tree.map(lambda leaf: leaf[index], arrays.rows)
        if not isinstance(arrays, PixelTransitionData):
            return batch
        return batch._replace(
            observations=arrays.frames[batch.observations],
            next_observations=arrays.frames[batch.next_observations],
        )

    def draw(self, count: int, key: Key, config: Any) -> Array:
        """Numbers of a batch's rows, of `count`: uniform, with replacement."""
        return jax.random.randint(key, (config.batch_size,), 0, count)


def uniform(data: Pytree, key: Key, batch_size: int) -> Pytree:
    """`batch_size` rows of leaves [N, ...], uniformly with replacement.

    A permutation of all rows would cost more than the update that it feeds.
    """
    rows = jax.tree.leaves(data)[0].shape[0]
    index = jax.random.randint(key, (batch_size,), 0, rows)
    return jax.tree.map(lambda leaf: leaf[index], data)


def _complete_returns(dataset: Dataset) -> np.ndarray:
    """Returns [E] of the episodes, without a last one that the recording cut.

    Raises:
      UserError: it is the only one, or the length of a whole episode is not known.
    """
    returns = dataset.episode_returns
    if dataset.terminals[-1]:
        return returns
    if dataset.spec is None:
        raise UserError(
            f"Dataset {dataset.card.id!r} has no environment, so that it is not known "
            "whether its last episode was cut: leave complete_returns out."
        )
    if dataset.episode_lengths[-1] >= dataset.spec.horizon:
        return returns
    if len(returns) == 1:
        raise UserError(
            f"Dataset {dataset.card.id!r} has one episode, which was cut: "
            "complete_returns leaves none. Leave it out."
        )
    return returns[:-1]


def _with_next_actions(rows: Transitions, dataset: str) -> Transitions:
    keep = np.asarray(rows.has_next_action) | (np.asarray(rows.terminals) > 0)
    if not keep.any():
        raise UserError(
            f"Dataset {dataset!r} has no row with a next action, which SARSA needs: "
            "record episodes of two steps or more."
        )
    if keep.all():
        return rows
    return Transitions(*(np.asarray(x)[keep] for x in rows))


def action_box(spec: EnvSpec | None) -> Literal["env", "bulk"]:
    """Box that step-wise methods map to [-1, 1]: the data's where the env's is vast.

    A budget's shares are about 1/T of the environment's [0, 1]: noise of a usual
    size would drown them, so every step-wise method uses the range of the data, less
    the rare shares that are many times the usual ones.
    """
    return "bulk" if spec is not None and spec.domain == "budget" else "env"
