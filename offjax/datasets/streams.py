"""Transitions whose rows stay on the host: what streamed training reads of a view.

Training in memory holds all rows on the devices, and looks a batch up there. Streamed
training computes the same row numbers, looks the rows up on the host, and sends the
batches. Both learn from the same numbers.
"""

from __future__ import annotations

import dataclasses
import mmap
from typing import Any, NamedTuple

import numpy as np

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.datasets.stored import StoredDataset, columns, pack
from offjax.datasets.views import TransitionData, TransitionView, action_box
from offjax.errors import UserError
from offjax.types import Array, Key, Stage, Statistics, Transitions, View


class StreamedData(NamedTuple):
    """What `init` reads of streamed data; it has no rows."""

    statistics: Statistics


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """The transitions of a view, their rows on the host.

    Attributes:
      count: rows that the view keeps, of which batches are drawn.
      width: numbers of a row of a batch.
      data: for `Method.init`.
    """

    count: int
    width: int
    data: StreamedData
    _view: TransitionView
    _dataset: Dataset
    _rows: np.ndarray  # [N, W], see `stored.pack`
    _columns: Transitions
    _omitted: np.ndarray  # [D] for each row left out, how many kept ones are before it

    def draw(self, key: Key, config: Any) -> Array:
        """Numbers [B] of a batch's rows, of those that the view keeps."""
        return self._view.draw(self.count, key, config)

    def gather(self, index: np.ndarray, out: np.ndarray) -> None:
        """Fills `out` [B, width] with the kept rows of the numbers `index` [B]."""
        if self._omitted.size:
            index = index + np.searchsorted(self._omitted, index, side="right")
        if self._rows.shape[1] == self.width:
            np.take(self._rows, index, axis=0, out=out, mode="clip")
        else:  # the next observation is the next row's
            where = self._columns
            out[:, : self._rows.shape[1]] = np.take(self._rows, index, axis=0)
            following = np.take(self._rows, index + 1, axis=0)
            out[:, where.next_observations] = following[:, where.observations]
        self._convert(out)

    def unpack(self, batch: Array) -> Transitions:
        """The transitions of rows [B, width], on the host or on a device."""
        fields = Transitions(*(batch[:, where] for where in self._columns))
        return fields._replace(has_next_action=fields.has_next_action > 0)

    def example(self) -> TransitionData:
        """Data of one row, for shapes."""
        out = np.empty((1, self.width), np.float32)
        self.gather(np.zeros(1, np.int32), out)
        return TransitionData(self.unpack(out), self.data.statistics)

    def _convert(self, rows: np.ndarray) -> None:
        """Rewards and actions as the view has them, in place."""
        rewards = rows[:, self._columns.rewards]
        rewards[:] = self._view.scaled(rewards, self._dataset)
        if action_box(self._dataset.spec) != "env":
            statistics = self.data.statistics
            for where in (self._columns.actions, self._columns.next_actions):
                np.clip(
                    rows[:, where], statistics.action_low, statistics.action_high,
                    out=rows[:, where],
                )  # fmt: skip


def possible(view: View) -> bool:
    """Whether a view can be streamed: one that reads transitions as `TransitionView`.

    It may draw other row numbers; its arrays and their look-up are not its own.
    """
    kind = type(view)
    return (
        isinstance(view, TransitionView)
        and kind.arrays is TransitionView.arrays
        and kind.sample is TransitionView.sample
    )


def require(method: str, stages: tuple[Stage, ...]) -> None:
    """Raises UserError where a stage reads a view that cannot be streamed."""
    for stage in stages:
        if not possible(stage.view):
            raise UserError(
                f"--stream: stage {stage.name} of {method} reads "
                f"{type(stage.view).__name__}, which cannot be streamed. Methods whose "
                "stages all read single transitions (TransitionView, and GroupView of "
                "td3_bc) can be: bc, td3_bc, rebrac, iql, cql, awac, bcq, fql, cfpi "
                "and others. Train this one without --stream."
            )


def stream(view: View, dataset: Dataset) -> Stream:
    """The stream of a view that can be streamed, with statistics of all rows.

    Raises:
      UserError: no row is left.
    """
    assert isinstance(view, TransitionView) and possible(view)
    rows = dataset.rows if isinstance(dataset, StoredDataset) else pack(dataset)
    _advise(rows, mmap.MADV_SEQUENTIAL)
    statistics = convert.statistics(
        dataset, view.normalize, action_box=action_box(dataset.spec)
    )
    _advise(rows, mmap.MADV_RANDOM)  # else a look-up reads its neighbors, too
    omitted = _omitted(view, dataset)
    if len(omitted) == len(dataset):
        raise UserError(
            f"Dataset {dataset.card.id!r} holds no row that {type(view).__name__} "
            "keeps: record longer episodes, or pass `next_observations`."
        )
    where = columns(dataset.observations.shape[1], dataset.actions.shape[1])
    return Stream(
        count=len(dataset) - len(omitted),
        width=where.next_observations.stop,
        data=StreamedData(statistics),
        _view=view,
        _dataset=dataset,
        _rows=rows,
        _columns=where,
        _omitted=omitted - np.arange(len(omitted)),
    )


def _advise(rows: np.ndarray, advice: int) -> None:
    """Tells how mapped rows will be read."""
    if isinstance(rows.base, mmap.mmap):
        rows.base.madvise(advice)


def outline(dataset: Dataset) -> StreamedData:
    """Zeros in the shapes of a stream's data."""
    observation = np.zeros(dataset.observations.shape[1], np.float32)
    action = np.zeros(dataset.actions.shape[1], np.float32)
    return StreamedData(Statistics(observation, observation, action, action))


def _omitted(view: TransitionView, dataset: Dataset) -> np.ndarray:
    """Rows that the view leaves out, ascending; see `convert.to_transitions`."""
    if dataset.next_observations is None:
        rows = np.flatnonzero(dataset.timeouts)
        return np.union1d(rows, len(dataset) - 1)
    if not view.next_actions:
        return np.zeros(0, np.int64)
    last = dataset.episode_ends - 1
    return last[~dataset.terminals[last]]
