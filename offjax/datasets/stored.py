"""Datasets in memory-mapped files, for data larger than memory.

`<root>/<name>/` holds

    rows.npy         [N, W] f32, the transition that begins at each row
    terminals.npy    [N] bool
    timeouts.npy     [N] bool
    stored.json      card, environment, and the size and SHA-256 of each file

A row has its columns side by side (`columns`), so that a batch is one look-up for each
of its rows. Reading a dataset maps its files and reads none of them: its arrays are
views of `rows`, and training that holds the data in memory takes them as it takes any.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from offjax.datasets import checks, language, legacy, minari_io, minari_spec, ogbench
from offjax.datasets.dataset import Card, DataDir, Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec, Transitions

MANIFEST = "stored.json"
FILES = ("rows.npy", "terminals.npy", "timeouts.npy")
SCHEMA = 1
PIECE = 500_000
"""Rows of a synthetic dataset that are made at once."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StoredDataset(Dataset):
    """A dataset whose arrays lie in memory-mapped files.

    Attributes:
      rows: [N, W] as `pack` makes them.
      folder: where the files lie.
      hashes: file → SHA-256.
    """

    rows: np.ndarray
    folder: Path
    hashes: dict[str, str]

    @property
    def return_spread(self) -> np.float64:  # type: ignore[override]
        """Largest less smallest return of an episode, of the card."""
        return np.float64(self.card.return_max) - np.float64(self.card.return_min)

    def verify(self) -> None:
        """Raises UserError if a file is not what was written; reads all of them."""
        for file, expected in self.hashes.items():
            path = self.folder / file
            with checks.damaged(f"{path}, of {self.card.id!r},", _again(self.folder)):
                found = _sha256(path)
            if found != expected:
                raise UserError(
                    f"{path} has changed since dataset {self.card.id!r} was stored: "
                    f"its SHA-256 is {found[:12]}…, not {expected[:12]}…. "
                    f"{_again(self.folder)}"
                )


def columns(observation: int, action: int) -> Transitions:
    """Where a packed row has each field, by the widths of observation and action.

    The next observation comes last: it is left out where it is the next row's.
    """
    rewards = observation + action
    flags = rewards + 1 + action
    return Transitions(
        observations=slice(0, observation),
        actions=slice(observation, rewards),
        rewards=rewards,
        next_actions=slice(rewards + 1, flags),
        terminals=flags,
        has_next_action=flags + 1,
        next_observations=slice(flags + 2, flags + 2 + observation),
    )


def pack(dataset: Dataset) -> np.ndarray:
    """The rows of a dataset as `columns` says, [N, W] f32.

    A row that ends an episode repeats its own action as the next one.
    """
    last = np.zeros(len(dataset), bool)
    last[dataset.episode_ends - 1] = True
    actions = dataset.actions
    following = np.concatenate([actions[1:], actions[-1:]])
    following[last] = actions[last]
    fields = [
        dataset.observations, actions, dataset.rewards[:, None], following,
        dataset.terminals[:, None], ~last[:, None],
    ]  # fmt: skip
    if dataset.next_observations is not None:
        fields.append(dataset.next_observations)
    return np.concatenate(fields, axis=1, dtype=np.float32)


def write(
    name: str, pieces: Iterable[Dataset], data_dir: DataDir = None
) -> StoredDataset:
    """Stores a dataset that comes in pieces, one of which is in memory at a time.

    Args:
      name: id of the new dataset, such as mine/robot-v0.
      pieces: whole episodes each, of one environment and one shape; the last row of a
        piece ends an episode. One piece keeps its identity.
      data_dir: root of the datasets.

    Raises:
      UserError: the id is taken or malformed, pieces differ, or the disk cannot be
        written. Nothing is left behind.
    """
    _require_free(name, data_dir)
    target = minari_io.root(data_dir) / name
    temporary = minari_io.scratch(name, data_dir, uuid.uuid4().hex)
    try:
        temporary.mkdir(parents=True)
        content = _write_files(name, temporary, pieces)
        (temporary / MANIFEST).write_text(json.dumps(content, indent=1))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.rename(target)
    except OSError as error:
        raise UserError(minari_io.unwritable(name, target, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return read(name, data_dir)


def exists(name: str, data_dir: DataDir = None) -> bool:
    """Whether a stored dataset lies under the root."""
    return (minari_io.root(data_dir) / name / MANIFEST).is_file()


def local_ids(data_dir: DataDir = None) -> list[str]:
    """Ids of the stored datasets under the root, sorted."""
    base = minari_io.root(data_dir)
    names = (p.parent.relative_to(base).as_posix() for p in base.glob(f"**/{MANIFEST}"))
    return sorted(name for name in names if "/." not in f"/{name}")


def read(name: str, data_dir: DataDir = None) -> StoredDataset:
    """Maps a stored dataset's files; none is read (`StoredDataset.verify` does that).

    Raises:
      UserError: a file is missing, truncated or damaged.
    """
    folder = minari_io.root(data_dir) / name
    with checks.damaged(f"{folder}, the stored dataset {name!r},", _again(folder)):
        content = json.loads((folder / MANIFEST).read_text())
        if content["schema"] != SCHEMA:
            raise ValueError(f"its schema is {content['schema']}, not {SCHEMA}")
        for file in FILES:
            _require_size(folder / file, content["files"][file]["bytes"])
        rows, terminals, timeouts = (np.load(folder / f, mmap_mode="r") for f in FILES)
        card = Card(**content["card"] | {"notes": tuple(content["card"]["notes"])})
        where = columns(content["observation"], content["action"])
        width = where.next_observations.stop
        whole = rows.shape[1] == width
        if rows.shape[1] not in (width, where.next_observations.start) or not (
            len(rows) == len(terminals) == len(timeouts) == card.rows
        ):
            raise ValueError(f"{rows.shape} rows do not fit the card")
        spec = minari_spec.decode({"offjax": {"spec": content["spec"]}}, name, {})
    return StoredDataset(
        observations=rows[:, where.observations],
        actions=rows[:, where.actions],
        rewards=rows[:, where.rewards],
        terminals=terminals,
        timeouts=timeouts,
        next_observations=rows[:, where.next_observations] if whole else None,
        card=card,
        spec=spec,
        rows=rows,
        folder=folder,
        hashes={file: content["files"][file]["sha256"] for file in FILES},
    )


def synthetic(spec: EnvSpec, rows: int, seed: int = 0) -> Iterator[Dataset]:
    """Pieces of noise in an environment's shapes, as long as wanted.

    Observations and rewards are standard normal, actions uniform in their box, episodes
    `spec.horizon` steps long, the last one shorter.
    """
    low, high = (np.asarray(x, np.float32) for x in (spec.action_low, spec.action_high))
    piece = max(1, PIECE // spec.horizon) * spec.horizon
    for number, first in enumerate(range(0, rows, piece)):
        count = min(piece, rows - first)
        rng = np.random.default_rng((seed, number))
        states = rng.standard_normal((count + 1, spec.observation_dim), np.float32)
        timeouts = np.arange(1, count + 1) % spec.horizon == 0
        timeouts[-1] = True
        yield Dataset.from_arrays(
            states[:-1],
            low + (high - low) * rng.random((count, spec.action_dim), np.float32),
            rng.standard_normal(count, np.float32),
            np.zeros(count, bool),
            timeouts,
            states[1:],
            spec=spec,
            source=f"synthetic rows, seed {seed}",
        )


# -- files ------------------------------------------------------------------


class _Array:
    """An .npy file that grows by rows; its header is written when all are there."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._rows = 0

    def append(self, rows: np.ndarray) -> None:
        """Adds rows; the first ones tell shape and type."""
        if self._rows == 0:
            self._like = rows[:0]
            self._header(0)
        rows.tofile(self._file)
        self._rows += len(rows)

    def close(self) -> None:
        self._file.seek(0)
        if self._rows:
            self._header(self._rows)
        self._file.close()

    def _header(self, rows: int) -> None:
        # NumPy leaves room for as many digits as a number of rows can have.
        fields = np.lib.format.header_data_from_array_1_0(self._like)
        fields["shape"] = (rows, *self._like.shape[1:])
        np.lib.format.write_array_header_1_0(self._file, fields)


def _write_files(name: str, folder: Path, pieces: Iterable[Dataset]) -> dict[str, Any]:
    """Writes the arrays; the content of the manifest."""
    files = [_Array(folder / file) for file in FILES]
    cards: list[Card] = []
    first: Dataset | None = None
    try:
        for piece in pieces:
            first = first or piece
            _require_alike(first, piece)
            timeouts = piece.timeouts.copy()
            timeouts[-1] |= not piece.terminals[-1]
            arrays = (pack(piece), piece.terminals, timeouts)
            for file, array in zip(files, arrays, strict=True):
                file.append(array)
            added = int(timeouts[-1] and not piece.timeouts[-1])
            cards.append(
                dataclasses.replace(piece.card, timeouts=piece.card.timeouts + added)
            )
    finally:
        for file in files:
            file.close()
    if first is None:
        raise UserError(
            f"Dataset {name!r} has no pieces, so there is nothing to store."
        )
    found = {
        file: {
            "bytes": (folder / file).stat().st_size,
            "sha256": _sha256(folder / file),
        }
        for file in FILES
    }
    text = json.dumps({file: entry["sha256"] for file, entry in found.items()})
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return {
        "schema": SCHEMA,
        "card": dataclasses.asdict(_joined(name, checksum, cards)),
        "spec": None if first.spec is None else dataclasses.asdict(first.spec),
        "observation": first.observations.shape[1],
        "action": first.actions.shape[1],
        "files": found,
    }


def _joined(name: str, checksum: str, cards: list[Card]) -> Card:
    """The card of all pieces together."""
    episodes = sum(card.episodes for card in cards)
    total = sum(card.return_mean * card.episodes for card in cards)
    return dataclasses.replace(
        cards[0],
        id=name,
        identity=cards[0].identity if len(cards) == 1 else checksum,
        checksum=checksum,
        rows=sum(card.rows for card in cards),
        episodes=episodes,
        terminals=sum(card.terminals for card in cards),
        timeouts=sum(card.timeouts for card in cards),
        return_min=min(card.return_min for card in cards),
        return_mean=total / episodes,
        return_max=max(card.return_max for card in cards),
        reward_min=min(card.reward_min for card in cards),
        reward_max=max(card.reward_max for card in cards),
        length_min=min(card.length_min for card in cards),
        length_max=max(card.length_max for card in cards),
    )


def _require_free(name: str, data_dir: DataDir) -> None:
    minari_io.require_id(name)
    published = name in legacy.table() or ogbench.parse(name) is not None
    if published or name.startswith("offjax/"):
        raise UserError(
            f"{name!r} names a dataset of offjax, D4RL or OGBench: store yours under "
            "another id, such as mine/robot-v0."
        )
    target = minari_io.root(data_dir) / name
    if target.exists():
        raise UserError(
            f"{target} is there already: choose another id, or remove that folder."
        )


def _require_alike(first: Dataset, piece: Dataset) -> None:
    if isinstance(piece, language.LanguageDataset):
        raise UserError(
            f"Dataset {piece.card.id!r} has instructions, which are not stored with "
            "its rows; methods that read them train in memory."
        )
    for what, one, other in (
        ("observations", first.observations.shape[1], piece.observations.shape[1]),
        ("actions", first.actions.shape[1], piece.actions.shape[1]),
        ("environment", first.spec, piece.spec),
        (
            "next observations",
            first.next_observations is not None,
            piece.next_observations is not None,
        ),
    ):
        if one != other:
            raise UserError(
                f"The pieces of a dataset differ in their {what}: {one} and {other}. "
                "Store them as datasets of their own."
            )


def _require_size(path: Path, expected: int) -> None:
    size = path.stat().st_size
    if size != expected:
        raise ValueError(f"{path.name} has {size:,} bytes, and had {expected:,}")


def _again(folder: Path) -> str:
    return f"Remove {folder} and store the dataset again."


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
