"""Recorded play with language: spans of rows, each described by a sentence.

A `LanguageDataset` is a `Dataset` with `Annotations`. `offjax.datasets.play` and
`offjax.methods.plans` are what methods read of one.
"""

from __future__ import annotations

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.errors import UserError

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
