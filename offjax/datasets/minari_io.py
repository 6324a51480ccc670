"""Local Minari datasets: written for what this project collects, any of them read.

A dataset is written to a hidden folder beside its place and renamed into it when
complete: a reader sees all of it or nothing, and of two processes that collect the
same dataset one wins. Beside the HDF5 lies a cache of the flat rows, valid as long
as the data files keep their sizes and times.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from h5py import h5d, h5f, h5s, h5t

from offjax.datasets import checks, minari_spec
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError

_CACHE = "offjax_rows.npz"
_MAIN = "main_data.hdf5"
_FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")
_GOAL_LAYOUT = ("achieved_goal", "desired_goal", "observation")
_ROWS = ("observations", "actions", "rewards", "terminals", "timeouts")


def root(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Folder of the datasets: `data_dir`, $MINARI_DATASETS_PATH or Minari's own."""
    chosen = data_dir or os.environ.get("MINARI_DATASETS_PATH")
    return Path(chosen or "~/.minari/datasets").expanduser()


def exists(name: str, data_dir: str | os.PathLike[str] | None = None) -> bool:
    """Whether the complete dataset lies under the root."""
    return (root(data_dir) / name / "data" / "metadata.json").is_file()


def local_ids(data_dir: str | os.PathLike[str] | None = None) -> list[str]:
    """Ids of the datasets under the root, sorted."""
    base = root(data_dir)
    found = (path.parent.parent for path in base.glob("**/data/metadata.json"))
    relative = (path.relative_to(base) for path in found)
    return sorted(
        path.as_posix()
        for path in relative
        if not any(part.startswith(".") for part in path.parts)
    )


def metadata(
    name: str, data_dir: str | os.PathLike[str] | None = None
) -> dict[str, Any]:
    """The dataset's metadata.json; the "offjax" entry is this project's own."""
    path = root(data_dir) / name / "data" / "metadata.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"The metadata of dataset {name!r} cannot be read from {path} ({error}). "
            f"Remove the folder {path.parent.parent} and collect or download it again."
        ) from error


def write(
    dataset: Dataset,
    specification: Mapping[str, Any],
    data_dir: str | os.PathLike[str] | None = None,
    replace: bool = False,
) -> None:
    """Writes `dataset` as the local Minari dataset `dataset.card.id`.

    Args:
      dataset: with `next_observations` and a spec.
      specification: what the dataset was made from; stored with its identity.
      data_dir: root of the datasets.
      replace: put it in the place of an existing one; otherwise the existing one,
        which another process may just have finished, is left as it is.

    Raises:
      UserError: the disk is full or cannot be written, or the next observations do
        not continue within an episode. Nothing is left behind.
    """
    name = dataset.card.id
    base = root(data_dir)
    temporary = base / f".{name.replace('/', '-')}-{uuid.uuid4().hex}"
    target = base / name
    try:
        temporary.mkdir(parents=True)
        _write_data(dataset, specification, temporary / "data")
        _save_cache(temporary, dataset)
        _make_namespaces(base, name)
        _move(temporary, target, replace)
    except (OSError, RuntimeError) as error:  # h5py reports a failed flush as either
        raise UserError(
            f"Dataset {name!r} cannot be written to {target} ({error}). Free some "
            "space or make the folder writable, or choose another with --data_dir or "
            "$MINARI_DATASETS_PATH. Nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Reads a local Minari dataset, Box or goal-conditioned Dict observations.

    Dict observations {observation, achieved_goal, desired_goal} (PointMaze, AntMaze)
    become one vector in the order achieved_goal, desired_goal, observation: that of
    `gymnasium.spaces.flatten`.

    Raises:
      UserError: the files are damaged, or the observations or actions are of a kind
        that does not flatten to one vector.
    """
    folder = root(data_dir) / name
    data = metadata(name, data_dir)
    arrays = _load_cache(folder)
    if arrays is None:
        try:
            arrays = _read_rows(folder / "data", data, name)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise UserError(
                f"The data of dataset {name!r} in {folder / 'data'} are damaged or "
                f"incomplete ({error}). Remove {folder} and collect or download it "
                "again."
            ) from error
        with suppress(OSError):  # a read-only place is read without a cache
            _save_cache(folder, arrays)
    spec = minari_spec.decode(data, name, arrays)
    own = data.get("offjax", {})
    origin = data["description"] if own else "Minari dataset"
    notes: tuple[str, ...] = ()
    if spec is not None:
        arrays["actions"], notes = checks.clip_recorded(arrays["actions"], spec)
    return Dataset.from_arrays(
        **arrays,
        spec=spec,
        id=name,
        source=f"{origin}, in {folder}",
        identity=own.get("identity"),
        notes=notes,
    )


def _write_data(dataset: Dataset, specification: Mapping[str, Any], path: Path) -> None:
    from minari.dataset.minari_storage import MinariStorage

    spec = dataset.spec
    assert spec is not None and dataset.next_observations is not None
    storage = MinariStorage.new(
        path,
        observation_space=gymnasium.spaces.Box(
            -np.inf, np.inf, (spec.observation_dim,), np.float32
        ),
        action_space=gymnasium.spaces.Box(
            np.asarray(spec.action_low, np.float32),
            np.asarray(spec.action_high, np.float32),
        ),
    )
    _write_episodes(dataset, path / _MAIN)
    own = {
        "identity": dataset.card.identity,
        "specification": dict(specification),
        "spec": dataclasses.asdict(spec),
    }
    storage.update_metadata(
        {
            "dataset_id": dataset.card.id,
            "total_episodes": dataset.card.episodes,
            "total_steps": dataset.card.rows,
            "dataset_size": storage.get_size(),
            "description": dataset.card.source,
            "author": {"offjax"},
            "minari_version": importlib.metadata.version("minari"),
            "offjax": own,
            **minari_spec.encode(spec),
        }
    )


def _write_episodes(dataset: Dataset, path: Path) -> None:
    """Episodes in Minari's HDF5 layout.

    Minari's own writer makes each array resizable; fixed arrays through h5py's
    low-level calls take a quarter of its time and a third of its space.
    """
    assert dataset.next_observations is not None
    observations, following = dataset.observations, dataset.next_observations
    broken = (observations[1:] != following[:-1]).any(axis=1)
    broken[dataset.episode_ends[:-1] - 1] = False
    if broken.any():
        raise UserError(
            f"Dataset {dataset.card.id!r} cannot be stored: the next observation of "
            f"row {int(np.argmax(broken))} is not the observation of the row after "
            "it, although they are of one episode. Mark such rows in `timeouts`."
        )
    real, boolean = (h5t.py_create(np.dtype(t), logical=True) for t in ("f4", "?"))
    # A recording may stop inside an episode, which Minari calls a truncation.
    truncations = dataset.timeouts.copy()
    truncations[-1] |= not dataset.terminals[-1]
    with h5py.File(path, "w", track_order=True) as file:
        bounds = zip(dataset.episode_starts, dataset.episode_ends, strict=True)
        for number, (start, end) in enumerate(bounds):
            rows = slice(start, end)
            group = file.create_group(f"episode_{number}")
            group.attrs["id"] = number
            group.attrs["total_steps"] = int(end - start)
            whole = np.concatenate([observations[rows], following[end - 1 : end]])
            for key, array, kind in (
                (b"observations", whole, real),
                (b"actions", dataset.actions[rows], real),
                (b"rewards", dataset.rewards[rows], real),
                (b"terminations", dataset.terminals[rows], boolean),
                (b"truncations", truncations[rows], boolean),
            ):
                space = h5s.create_simple(array.shape)
                h5d.create(group.id, key, kind, space).write(
                    h5s.ALL, h5s.ALL, np.ascontiguousarray(array)
                )


def _make_namespaces(base: Path, name: str) -> None:
    """The files by which Minari knows the folders above a dataset."""
    for parent in list(Path(name).parents)[:-1]:
        file = base / parent / "namespace_metadata.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), file.open("x") as stream:
            stream.write("{}")


def _move(temporary: Path, target: Path, replace: bool) -> None:
    if replace and target.exists():
        old = temporary.with_name(temporary.name + "-old")
        with suppress(FileNotFoundError):
            target.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    try:
        temporary.rename(target)
    except OSError:
        if not (target / "data" / "metadata.json").is_file():
            raise


def _read_rows(path: Path, data: dict[str, Any], name: str) -> dict[str, Any]:
    """Flat rows of the dataset in `path`, as `Dataset.from_arrays` takes them."""
    from minari.serialization import deserialize_space

    layout = _layout(deserialize_space(data["observation_space"]), name)
    actions = deserialize_space(data["action_space"])
    if not (isinstance(actions, gymnasium.spaces.Box) and len(actions.shape) == 1):
        raise UserError(
            f"Dataset {name!r} has actions {actions}; only vectors of real numbers "
            "(a one-dimensional Box) can be read."
        )
    columns: dict[str, list[np.ndarray]] = {key: [] for key in _FIELDS}
    for episode in _episodes(path, data, layout):
        for key, value in zip(_FIELDS, episode, strict=True):
            columns[key].append(value)
    whole = np.concatenate(columns.pop("observations"))
    lengths = np.array([len(rewards) for rewards in columns["rewards"]])
    if len(whole) != lengths.sum() + len(lengths) or (lengths == 0).any():
        raise ValueError("an episode must have one observation more than actions")
    last = np.cumsum(lengths + 1) - 1
    flat = {key: np.concatenate(parts) for key, parts in columns.items()}
    return {
        "observations": np.delete(whole, last, axis=0),
        "actions": flat["actions"].astype(np.float32),
        "rewards": flat["rewards"].astype(np.float32),
        "terminals": flat["terminations"].astype(bool),
        "timeouts": _cut_at(lengths, flat["terminations"], flat["truncations"]),
        "next_observations": np.delete(whole, last - lengths, axis=0),
    }


def _cut_at(
    lengths: np.ndarray, terminations: np.ndarray, truncations: np.ndarray
) -> np.ndarray:
    """Time-outs: the last step of an episode that did not terminate, [N] bool."""
    timeouts = truncations.astype(bool)
    last = np.cumsum(lengths) - 1
    timeouts[last] |= ~terminations[last].astype(bool)
    return timeouts


def _layout(space: gymnasium.Space, name: str) -> tuple[str, ...]:
    """HDF5 paths whose arrays, side by side, are the observation vector."""
    Box, Dict = gymnasium.spaces.Box, gymnasium.spaces.Dict
    if isinstance(space, Box) and len(space.shape) == 1:
        return ("observations",)
    if (
        isinstance(space, Dict)
        and tuple(sorted(space.spaces)) == _GOAL_LAYOUT
        and all(isinstance(s, Box) and len(s.shape) == 1 for s in space.values())
    ):
        return tuple(f"observations/{key}" for key in _GOAL_LAYOUT)
    raise UserError(
        f"Dataset {name!r} has observations {space}, whose layout is unknown. Vectors "
        f"(a one-dimensional Box) and Dicts of the vectors {', '.join(_GOAL_LAYOUT)} "
        "can be read; flatten others yourself and pass them to Dataset.from_arrays."
    )


def _episodes(
    path: Path, data: dict[str, Any], layout: tuple[str, ...]
) -> Iterator[tuple[np.ndarray, ...]]:
    """Arrays of `_FIELDS` for each episode in turn, observations as one matrix."""
    count = data["total_episodes"]
    if data.get("data_format", "hdf5") == "hdf5":
        with _open(path / _MAIN) as file:
            for number in range(count):
                fetch = (
                    _fetch(file, f"episode_{number}/{key}")
                    for key in (*layout, *_FIELDS[1:])
                )
                *parts, actions, rewards, terminations, truncations = fetch
                yield _join(parts), actions, rewards, terminations, truncations
        return
    from minari.dataset.minari_storage import MinariStorage

    try:
        storage = MinariStorage.read(path)
    except ImportError as error:
        raise UserError(
            f"The Minari dataset in {path} is stored as {data['data_format']}, which "
            f"needs another package ({error}). Run `pip install 'minari[arrow]'`."
        ) from error
    for episode in storage.get_episodes(range(count)):
        value = episode["observations"]
        parts = (
            [value[key] for key in _GOAL_LAYOUT] if isinstance(value, dict) else [value]
        )
        yield _join(parts), *(np.asarray(episode[key]) for key in _FIELDS[1:])


def _join(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.asarray(p, np.float32) for p in parts], axis=-1)


@contextmanager
def _open(path: Path) -> Iterator[h5f.FileID]:
    with h5py.File(path, "r") as file:
        yield file.id


def _fetch(file: h5f.FileID, key: str) -> np.ndarray:
    dataset = h5d.open(file, key.encode())
    array = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5s.ALL, h5s.ALL, array)
    return array


def _stamp(folder: Path) -> str:
    """Names, sizes and times of the data files; changes when any of them does."""
    files = sorted(p for p in (folder / "data").iterdir() if p.is_file())
    return json.dumps([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])


def _save_cache(folder: Path, rows: Dataset | dict[str, Any]) -> None:
    if isinstance(rows, Dataset):
        arrays = {key: getattr(rows, key) for key in (*_ROWS, "next_observations")}
        arrays["timeouts"] = _cut_at(
            rows.episode_lengths, rows.terminals, rows.timeouts
        )
    else:
        arrays = rows
    temporary = folder / f".{_CACHE}-{uuid.uuid4().hex}"
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, stamp=np.asarray(_stamp(folder)), **arrays)
        temporary.replace(folder / _CACHE)
    finally:
        temporary.unlink(missing_ok=True)


def _load_cache(folder: Path) -> dict[str, Any] | None:
    try:
        with np.load(folder / _CACHE) as cache:
            if str(cache["stamp"]) != _stamp(folder):
                return None
            return {key: cache[key] for key in (*_ROWS, "next_observations")}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None
