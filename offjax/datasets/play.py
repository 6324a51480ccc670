"""What methods read of recorded play: chunks, windows, or single observations.

`ChunkView` draws short chunks of actions with the goal that they served, `WindowView`
longer windows with all their observations; both draw from anywhere in the recording,
where a later state is the goal, and from annotated spans, where an instruction is.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets.convert import HALF
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import require
from offjax.datasets.views import uniform
from offjax.types import Key, Pytree, Statistics, Upstream, View

FLOOR = 0.01
"""Least standard deviation that an observation is divided by."""
CONTRASTED = 8
"""Windows that begin at one of this many last places of their span are contrasted."""


class Play(NamedTuple):
    """A recording as arrays for training."""

    observations: chex.Array  # [N, O] raw, f32 or uint8
    actions: chex.Array  # [N, A] f32 environment's
    episode_starts: chex.Array  # [N] i32 first row of the episode of each row
    episode_ends: chex.Array  # [N] i32 one past its last row
    starts: chex.Array  # [M] i32 first row of each annotated span
    ends: chex.Array  # [M] i32 one past its last row
    texts: chex.Array  # [M] i32 row of `sentences`
    span_ends: chex.Array  # [M] i32 cumulative lengths of the spans
    sentences: chex.Array  # [S, E] f32 embedded sentences
    statistics: Statistics


class Rows(NamedTuple):
    """Rows of drawn windows."""

    rows: chex.Array  # [B, L] i32
    mask: chex.Array  # [B, L] bool, false where the last row is repeated


def play_arrays(dataset: Dataset, sentences: np.ndarray) -> Play:
    """A recording for the device; `sentences` [S, E] are those of its annotations.

    Raises:
      UserError: the dataset has no annotations.
    """
    annotations = require(dataset)
    lengths = dataset.episode_lengths
    spans = annotations.ends - annotations.starts
    return Play(
        observations=dataset.observations,
        actions=dataset.actions,
        episode_starts=np.repeat(dataset.episode_starts, lengths).astype(np.int32),
        episode_ends=np.repeat(dataset.episode_ends, lengths).astype(np.int32),
        starts=annotations.starts.astype(np.int32),
        ends=annotations.ends.astype(np.int32),
        texts=annotations.texts.astype(np.int32),
        span_ends=np.cumsum(spans).astype(np.int32),
        sentences=sentences,
        statistics=statistics(dataset),
    )


def statistics(dataset: Dataset) -> Statistics:
    """Mean and deviation of the observations, the deviation at least `FLOOR`.

    Without a floor, an entry that hardly moves (a locked drawer) would be blown up.
    The actions' box is that of the spec, else [-1, 1]. Pixels have the mean and
    deviation 127.5.
    """
    observations = dataset.observations
    one = np.ones(dataset.actions.shape[1])
    low, high = -one, one
    if dataset.spec is not None:
        low, high = (
            np.array(dataset.spec.action_low),
            np.array(dataset.spec.action_high),
        )
    if observations.dtype == np.uint8:
        mean = std = np.full(observations.shape[1], HALF)
    else:
        mean = observations.mean(axis=0, dtype=np.float64)
        std = np.maximum(observations.std(axis=0, dtype=np.float64), FLOOR)
    return Statistics(*(x.astype(np.float32) for x in (mean, std, low, high)))


def anywhere(data: Play, key: Key, batch_size: int, length: int) -> Rows:
    """Windows of `length` rows that start anywhere and stay in their episode.

    Windows that would run off the end of an episode are moved back into it; in an
    episode shorter than `length` the last row is repeated, with `mask` false.
    """
    row = jax.random.randint(key, (batch_size,), 0, data.observations.shape[0])
    begin, end = data.episode_starts[row], data.episode_ends[row]
    first = jnp.clip(row, begin, jnp.maximum(end - length, begin))
    rows = first[:, None] + jnp.arange(length)
    return Rows(jnp.minimum(rows, end[:, None] - 1), rows < end[:, None])


def annotated(
    data: Play, key: Key, batch_size: int, length: int
) -> tuple[Rows, chex.Array]:
    """Windows of `length` rows from any row of any span, and their spans [B].

    All rows of all spans are equally likely. Rows beyond the span repeat its last
    row, with `mask` false.
    """
    key, _ = jax.random.split(key)
    step = jax.random.randint(key, (batch_size,), 0, data.span_ends[-1])
    span = jnp.searchsorted(data.span_ends, step, side="right")
    first = data.ends[span] - (data.span_ends[span] - step)
    rows = first[:, None] + jnp.arange(length)
    end = data.ends[span][:, None]
    return Rows(jnp.minimum(rows, end - 1), rows < end), span


class PlayView(View):
    """The recording, with its sentences embedded by the config's text encoder."""

    def arrays(self, dataset: Dataset, config: Any, upstream: Upstream) -> Play:
        """The recording.

        Raises:
          UserError: no annotations, or a text encoder that cannot be had.
        """
        del upstream
        sentences = require(dataset).sentences
        return play_arrays(dataset, config.text.embed(sentences).sentence)


# -- chunks -------------------------------------------------------------------


class Chunks(NamedTuple):
    """Recorded chunks of actions with the goal that they served; raw values."""

    observations: chex.Array  # [B, O] at the first step
    actions: chex.Array  # [B, K, A]
    mask: chex.Array  # [B, K] 1 on steps that count
    goals: chex.Array  # [B, O] states, or [B, E] embedded instructions


class ChunkBatch(NamedTuple):
    """Chunks of either kind; None where the config's `goals` has none of it."""

    states: Chunks | None
    language: Chunks | None


@dataclasses.dataclass(frozen=True)
class ChunkView(PlayView):
    """Chunks of play with a later state, and chunks of spans with their sentence.

    Reads `chunk`, `goals`, `goal_offset` and `batch_size` of the config.
    """

    def sample(self, arrays: Play, key: Key, config: Any) -> ChunkBatch:
        """`batch_size` chunks of each kind of goal."""
        play_key, offset_key, language_key = jax.random.split(key, 3)
        size = config.batch_size
        states = language = None
        if config.goals != "language":
            length = max(config.chunk, config.goal_offset + 1)
            play = anywhere(arrays, play_key, size, length)
            offset = jax.random.randint(offset_key, (size,), 1, config.goal_offset + 1)
            goals = jnp.take_along_axis(play.rows, offset[:, None], axis=1)[:, 0]
            states = _chunks(arrays, play, config.chunk, arrays.observations[goals])
        if config.goals != "states":
            rows, span = annotated(arrays, language_key, size, config.chunk)
            sentences = arrays.sentences[arrays.texts[span]]
            language = _chunks(arrays, rows, config.chunk, sentences)
        return ChunkBatch(states, language)


def _chunks(data: Play, windows: Rows, length: int, goals: chex.Array) -> Chunks:
    rows, mask = windows.rows[:, :length], windows.mask[:, :length]
    return Chunks(
        data.observations[rows[:, 0]],
        data.actions[rows],
        mask.astype(jnp.float32),
        goals,
    )


# -- windows ------------------------------------------------------------------


class Windows(NamedTuple):
    """Windows of play, their last step repeated up to T; raw values."""

    observations: Pytree  # [B, T, O], or `Images` with leading axes [B, T]
    actions: chex.Array  # [B, T, A]
    mask: chex.Array  # [B, T] 1 on recorded steps


class WindowBatch(NamedTuple):
    """Windows whose goal is their last observation, and annotated ones."""

    play: Windows
    language: Windows
    sentences: chex.Array  # [B, E] embedded instructions of `language`
    contrasted: chex.Array  # [B] bool, those near the end of their annotated span


@dataclasses.dataclass(frozen=True)
class WindowView(PlayView):
    """Windows of play and of annotated spans, of random length.

    A window of a span begins at any place that leaves it `min_window` steps, all such
    places of all spans being equally likely; a shorter span gives one window, itself.
    Reads `window`, `min_window` and `batch_size` of the config.
    """

    def sample(self, arrays: Play, key: Key, config: Any) -> WindowBatch:
        """`batch_size` windows of each kind of goal."""
        keys = jax.random.split(key, 4)
        size = config.batch_size
        play = anywhere(arrays, keys[0], size, config.window)
        starts, ends = arrays.starts, arrays.ends
        places = jnp.maximum(ends - starts - config.min_window, 0) + 1
        bounds = jnp.cumsum(places)
        place = jax.random.randint(keys[1], (size,), 0, bounds[-1])
        span = jnp.searchsorted(bounds, place, side="right")
        left = bounds[span] - place  # places from this one to the last, both counted
        first = starts[span] + places[span] - left
        rows = first[:, None] + jnp.arange(config.window)
        described = Rows(rows, rows < ends[span][:, None])
        return WindowBatch(
            _windows(arrays, play, keys[2], config),
            _windows(arrays, described, keys[3], config),
            arrays.sentences[arrays.texts[span]],
            left <= CONTRASTED,
        )


def _windows(data: Play, drawn: Rows, key: Key, config: Any) -> Windows:
    """Windows of `min_window` to T of the rows [B, T], the last one repeated."""
    rows = drawn.rows
    lengths = jax.random.randint(
        key, (len(rows), 1), config.min_window, config.window + 1
    )
    mask = drawn.mask & (jnp.arange(config.window) < lengths)
    last = rows[:, :1] + mask.sum(axis=1, keepdims=True) - 1
    rows = jnp.minimum(rows, last)
    return Windows(
        data.observations[rows], data.actions[rows], mask.astype(jnp.float32)
    )


# -- single observations ------------------------------------------------------


class Observations(NamedTuple):
    """Observations alone."""

    observations: chex.Array  # [N, O] raw
    statistics: Statistics


@dataclasses.dataclass(frozen=True)
class ObservationView(View):
    """Single observations, with the statistics that all play has."""

    def arrays(self, dataset: Dataset, config: Any, upstream: Upstream) -> Observations:
        """All observations."""
        del config, upstream
        return Observations(dataset.observations, statistics(dataset))

    def sample(self, arrays: Observations, key: Key, config: Any) -> chex.Array:
        """`batch_size` observations [B, O], uniformly with replacement."""
        return uniform(arrays.observations, key, config.batch_size)
