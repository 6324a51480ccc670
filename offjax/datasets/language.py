"""Recorded play with language: spans of rows, each described by a sentence.

On the host, a `LanguageDataset` is a `Dataset` with `Annotations`. For training,
`from_dataset` makes a `Play` of it: flat arrays that stay on the device, from which
`play_windows` draws windows anywhere and `annotated_windows` described ones.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import Key, Pytree, Statistics

FLOOR = 0.01
"""Least standard deviation that an observation is divided by."""
FILE = "annotations.npz"
"""Where they stand beside a Minari dataset's HDF5."""
_SNAPSHOT = "snapshots/"


@dataclasses.dataclass(frozen=True, eq=False)
class Annotations:
    """Described spans of a recording.

    Attributes:
      starts: first row of each span, [M] int.
      ends: one past its last row, [M] int.
      instructions: index into `names`, [M] int.
      texts: index into `sentences`, [M] int.
      names: identifiers of the instructions ("open_drawer", …).
      sentences: every wording that occurs.
      snapshots: the simulator's state at the start of each span, as arrays [M, ...]
        by name (`envs.scene.Snapshot`); empty where it was not recorded.
    """

    starts: np.ndarray
    ends: np.ndarray
    instructions: np.ndarray
    texts: np.ndarray
    names: tuple[str, ...]
    sentences: tuple[str, ...]
    snapshots: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, index: int) -> str:
        """The sentence of span `index`."""
        return self.sentences[self.texts[index]]

    def select(self, keep: np.ndarray) -> Annotations:
        """The spans of `keep`, a mask or indices; the tables stay whole."""
        columns = (self.starts, self.ends, self.instructions, self.texts)
        starts, ends, instructions, texts = (column[keep] for column in columns)
        return Annotations(
            starts,
            ends,
            instructions,
            texts,
            self.names,
            self.sentences,
            {name: states[keep] for name, states in self.snapshots.items()},
        )

    def save(self, path: Path) -> None:
        """Writes one .npz, which holds no pickles."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, states in fields.pop("snapshots").items():
            fields[_SNAPSHOT + name] = states
        np.savez(path, **fields)

    @classmethod
    def load(cls, path: Path) -> Annotations:
        """Reads what `save` wrote.

        Raises:
          UserError: the file is damaged or is something else.
        """
        try:
            with np.load(path) as file:
                parts = dict(file)
            names, sentences = (
                tuple(parts.pop(key).tolist()) for key in ("names", "sentences")
            )
            starts, ends = parts.pop("starts"), parts.pop("ends")
            instructions, texts = parts.pop("instructions"), parts.pop("texts")
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UserError(
                f"The annotations in {path} cannot be read ({error}). Remove the "
                "dataset's folder and collect or download it again."
            ) from error
        snapshots = {key.removeprefix(_SNAPSHOT): parts[key] for key in parts}
        return cls(starts, ends, instructions, texts, names, sentences, snapshots)


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageDataset(Dataset):
    """A recording with annotations; all that takes a `Dataset` takes it too.

    Attributes:
      annotations: its described spans.
    """

    annotations: Annotations | None = None


def annotate(dataset: Dataset, annotations: Annotations) -> LanguageDataset:
    """`dataset` with `annotations`.

    Raises:
      UserError: a span that is empty, leaves the recording or its episode, or names an
        instruction or sentence that the tables do not hold.
    """
    starts, ends = annotations.starts, annotations.ends
    name = dataset.card.id
    wrong = (starts < 0) | (ends <= starts) | (ends > len(dataset))
    if wrong.any():
        raise _wrong_span(name, annotations, wrong, f"rows 0 to {len(dataset)}")
    stop = dataset.episode_ends[np.searchsorted(dataset.episode_ends, starts, "right")]
    if (ends > stop).any():
        raise _wrong_span(name, annotations, ends > stop, "the episode it begins in")
    for index, table, what in (
        (annotations.instructions, annotations.names, "instruction"),
        (annotations.texts, annotations.sentences, "sentence"),
    ):
        if len(index) and not (index.min() >= 0 and index.max() < len(table)):
            raise UserError(
                f"The annotations of dataset {name!r} use {what} {int(index.max())}, "
                f"but their table holds {len(table)}: the annotations belong to "
                "other data, or are damaged."
            )
    fields = {f.name: getattr(dataset, f.name) for f in dataclasses.fields(Dataset)}
    return LanguageDataset(**fields, annotations=annotations)


def require(dataset: Dataset) -> Annotations:
    """The annotations of `dataset`.

    Raises:
      UserError: it has none.
    """
    annotations = getattr(dataset, "annotations", None)
    if annotations is None or len(annotations) == 0:
        raise UserError(
            f"Dataset {dataset.card.id!r} has no language annotations, which this "
            "method learns from. Use one that has, such as offjax/scene/play-v0."
        )
    return annotations


class Play(NamedTuple):
    """A recording as arrays for training."""

    observations: chex.Array  # [N, O] f32 raw
    actions: chex.Array  # [N, A] f32 environment's
    episode_starts: chex.Array  # [N] i32 first row of the episode of each row
    episode_ends: chex.Array  # [N] i32 one past its last row
    starts: chex.Array  # [M] i32 first row of each annotated span
    ends: chex.Array  # [M] i32 one past its last row
    instructions: chex.Array  # [M] i32
    texts: chex.Array  # [M] i32 row of `encoding`
    span_ends: chex.Array  # [M] i32 cumulative lengths of the spans
    encoding: Pytree  # leaves [S, ...]: what an encoder made of the sentences
    statistics: Statistics


class Windows(NamedTuple):
    """Rows of drawn windows, with which to index a `Play`."""

    rows: chex.Array  # [B, L] i32
    mask: chex.Array  # [B, L] bool, false where the last row is repeated
    annotations: chex.Array  # [B] i32, which span; 0 in windows without language


def from_dataset(dataset: Dataset, encoding: Pytree = ()) -> Play:
    """A recording prepared for the device.

    Args:
      dataset: with annotations.
      encoding: arrays [S, ...] for the S sentences of its annotations, such as
        token embeddings; `Play.texts` indexes them.

    Raises:
      UserError: the dataset has no annotations, or the encoding another length.
    """
    annotations = require(dataset)
    sentences = len(annotations.sentences)
    for leaf in jax.tree.leaves(encoding):
        if len(leaf) != sentences:
            raise UserError(
                f"The encoding of the sentences of {dataset.card.id!r} has {len(leaf)} "
                f"rows, but there are {sentences} sentences: encode "
                "`annotations.sentences` in their order."
            )
    lengths = dataset.episode_lengths
    spans = annotations.ends - annotations.starts
    return Play(
        observations=dataset.observations,
        actions=dataset.actions,
        episode_starts=np.repeat(dataset.episode_starts, lengths).astype(np.int32),
        episode_ends=np.repeat(dataset.episode_ends, lengths).astype(np.int32),
        starts=annotations.starts.astype(np.int32),
        ends=annotations.ends.astype(np.int32),
        instructions=annotations.instructions.astype(np.int32),
        texts=annotations.texts.astype(np.int32),
        span_ends=np.cumsum(spans).astype(np.int32),
        encoding=jax.tree.map(np.asarray, encoding),
        statistics=statistics(dataset),
    )


def statistics(dataset: Dataset) -> Statistics:
    """Mean and deviation of the observations, the deviation at least `FLOOR`.

    Without a floor, an entry that hardly moves (a locked drawer) would be blown up.
    The actions' box is that of the spec, else [-1, 1].
    """
    observations = dataset.observations
    one = np.ones(dataset.actions.shape[1], np.float32)
    spec = dataset.spec
    return Statistics(
        observation_mean=observations.mean(axis=0, dtype=np.float64).astype("f4"),
        observation_std=np.maximum(
            observations.std(axis=0, dtype=np.float64), FLOOR
        ).astype("f4"),
        action_low=-one if spec is None else np.asarray(spec.action_low, "f4"),
        action_high=one if spec is None else np.asarray(spec.action_high, "f4"),
    )


def play_windows(data: Play, key: Key, batch_size: int, length: int) -> Windows:
    """Windows of `length` rows that start anywhere and stay in their episode.

    Windows that would run off the end of an episode are moved back into it; in an
    episode shorter than `length` the last row is repeated, with `mask` false. Their
    annotation is 0 and means nothing.
    """
    row = jax.random.randint(key, (batch_size,), 0, data.observations.shape[0])
    begin, end = data.episode_starts[row], data.episode_ends[row]
    first = jnp.clip(row, begin, jnp.maximum(end - length, begin))
    rows = first[:, None] + jnp.arange(length)
    return Windows(
        jnp.minimum(rows, end[:, None] - 1),
        rows < end[:, None],
        jnp.zeros(batch_size, jnp.int32),
    )


def annotated_windows(
    data: Play,
    key: Key,
    batch_size: int,
    length: int,
    stride: int = 1,
    first: Literal["step", "span", "start"] = "step",
) -> Windows:
    """Windows of annotated spans: rows first, first + stride, …, `length` of them.

    Rows beyond the span repeat its last row, with `mask` false.

    Args:
      data: what `from_dataset` prepared.
      key: random key.
      batch_size: B.
      length: L, rows of a window.
      stride: between the rows of a window.
      first: "step", any row of any span with equal probability (long spans count
        more); "span", a span with equal probability and any row of it; "start", a
        span with equal probability from its beginning.
    """
    span_key, row_key = jax.random.split(key)
    count = data.starts.shape[0]
    if first == "step":
        step = jax.random.randint(span_key, (batch_size,), 0, data.span_ends[-1])
        span = jnp.searchsorted(data.span_ends, step, side="right")
        row = data.ends[span] - (data.span_ends[span] - step)
    elif first == "span":
        span = jax.random.randint(span_key, (batch_size,), 0, count)
        row = jax.random.randint(
            row_key, (batch_size,), data.starts[span], data.ends[span]
        )
    elif first == "start":
        span = jax.random.randint(span_key, (batch_size,), 0, count)
        row = data.starts[span]
    else:
        raise UserError(f"first={first!r}; choose 'step', 'span' or 'start'.")
    rows = row[:, None] + stride * jnp.arange(length)
    end = data.ends[span][:, None]
    return Windows(jnp.minimum(rows, end - 1), rows < end, span.astype(jnp.int32))


def _wrong_span(
    name: str, annotations: Annotations, wrong: np.ndarray, place: str
) -> UserError:
    first = int(np.argmax(wrong))
    return UserError(
        f"Annotation {first} of dataset {name!r}, {annotations.text(first)!r}, spans "
        f"rows {annotations.starts[first]} to {annotations.ends[first]}, which is "
        f"empty or leaves {place}. Correct the annotations, or drop those that do not "
        "fit with `Annotations.select`."
    )
