"""Recorded play with language: spans of rows, each described by a sentence.

A `LanguageDataset` is a `Dataset` with `Annotations`. `offjax.datasets.play` and
`offjax.methods.plans` are what methods read of one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from offjax.datasets import checks
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError

FILE = "annotations.npz"
"""Where they stand beside a Minari dataset's HDF5."""
_SNAPSHOT = "snapshots/"


@dataclasses.dataclass(frozen=True, eq=False)
class Annotations:
    """Described spans of a recording.

    `snapshots` hold the simulator's state at the start of each span, as arrays
    [M, ...] by name (`envs.scene.Snapshot`), where it was recorded.
    """

    starts: np.ndarray  # [M] int, first row of each span
    ends: np.ndarray  # [M] int, one past its last row
    instructions: np.ndarray  # [M] int, index into `names`
    texts: np.ndarray  # [M] int, index into `sentences`
    names: tuple[str, ...]  # identifiers of the instructions ("open_drawer", …)
    sentences: tuple[str, ...]  # every wording that occurs
    snapshots: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.starts)

    def text(self, index: int) -> str:
        """The sentence of span `index`."""
        return self.sentences[self.texts[index]]

    def select(self, keep: np.ndarray) -> Annotations:
        """The spans of `keep`, a mask or indices; the tables stay whole."""
        return dataclasses.replace(
            self,
            starts=self.starts[keep],
            ends=self.ends[keep],
            instructions=self.instructions[keep],
            texts=self.texts[keep],
            snapshots={name: x[keep] for name, x in self.snapshots.items()},
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
        with checks.damaged(
            f"{path}, the annotations of a dataset,",
            "Remove the dataset's folder and collect or download it again.",
        ):
            with np.load(path) as file:
                parts = dict(file)
            starts, ends = parts.pop("starts"), parts.pop("ends")
            instructions, texts = parts.pop("instructions"), parts.pop("texts")
            names = tuple(parts.pop("names").tolist())
            sentences = tuple(parts.pop("sentences").tolist())
        snapshots = {key.removeprefix(_SNAPSHOT): parts[key] for key in parts}
        return cls(starts, ends, instructions, texts, names, sentences, snapshots)


@dataclasses.dataclass(frozen=True, eq=False)
class LanguageDataset(Dataset):
    """A recording with annotations; all that takes a `Dataset` takes it too."""

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
