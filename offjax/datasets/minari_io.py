"""Local Minari datasets: written for what this project collects, any of them read.

A dataset is written to a hidden folder and renamed into its place when complete: a
reader sees all of it or nothing, and of two writers one wins. Whoever reads it first
leaves a cache of the flat rows, valid as long as the data files keep sizes and times.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from h5py import h5d, h5s, h5t

from offjax import cache, locks
from offjax.datasets import checks, language, minari_pixels, minari_rows, minari_spec
from offjax.datasets.dataset import DataDir, Dataset
from offjax.errors import UserError

_ID = re.compile(r"([\w-]+/)*[\w-][\w.-]*-v\d+")
_CACHE = minari_pixels.REST
_ROWS = (
    "observations",
    "actions",
    "rewards",
    "terminals",
    "timeouts",
    "next_observations",
)


def root(data_dir: DataDir = None) -> Path:
    """Folder of the datasets: `data_dir`, $MINARI_DATASETS_PATH or Minari's own."""
    # Absolute, since Minari takes a relative one anew from where it writes.
    chosen = data_dir or os.environ.get("MINARI_DATASETS_PATH")
    return Path(chosen or "~/.minari/datasets").expanduser().absolute()


def exists(name: str, data_dir: DataDir = None) -> bool:
    """Whether the complete dataset lies under the root."""
    return (root(data_dir) / name / "data" / "metadata.json").is_file()


def local_ids(data_dir: DataDir = None) -> list[str]:
    """Ids of the datasets under the root, sorted."""
    base = root(data_dir)
    paths = base.glob("**/data/metadata.json")
    names = (path.parent.parent.relative_to(base).as_posix() for path in paths)
    return sorted(name for name in names if "/." not in f"/{name}")


def metadata(name: str, data_dir: DataDir = None) -> dict[str, Any]:
    """The dataset's metadata.json; the "offjax" entry is this project's own."""
    path = root(data_dir) / name / "data" / "metadata.json"
    with checks.damaged(
        f"{path}, the metadata of dataset {name!r},",
        f"Remove the folder {path.parent.parent} and collect or download it again.",
    ):
        found = json.loads(path.read_text())
        if not isinstance(found, dict) or not isinstance(found.get("offjax", {}), dict):
            raise ValueError("it holds no JSON object")
        return found


@contextmanager
def writing(name: str, data_dir: DataDir, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a dataset that is being made; others wait for it.

    Raises:
      UserError: the root cannot be written.
    """
    base, lock = root(data_dir), _hidden(name, data_dir, ".lock")
    waiting = f"waiting for another process that makes {name} in {base}"
    with ExitStack() as stack:
        try:
            base.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.exclusive(lock, lambda: say(waiting)))
        except OSError as error:
            raise UserError(unwritable(name, base / name, error)) from error
        yield


def require_id(name: str) -> None:
    """Raises UserError unless a dataset can be stored under this id."""
    if not _ID.fullmatch(name):
        raise UserError(
            f"{name!r} cannot be stored under this id: a Minari id is words separated "
            "by slashes that end in a version, such as mine/robot/walks-v0."
        )


def scratch(name: str, data_dir: DataDir, identity: str) -> Path:
    """Where the parts of a dataset of this identity are kept while it is made."""
    return _hidden(name, data_dir, f"-{identity[:16]}-parts")


def write(
    dataset: Dataset,
    specification: Mapping[str, Any],
    data_dir: DataDir = None,
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
      UserError: the disk is full or cannot be written, the id has no version, or the
        next observations do not continue within an episode. Nothing is left behind.
    """
    name = dataset.card.id
    require_id(name)
    temporary = _hidden(name, data_dir, f"-{uuid.uuid4().hex}")
    target = root(data_dir) / name
    try:
        temporary.mkdir(parents=True)
        _write_data(dataset, specification, temporary / "data")
        if isinstance(dataset, language.LanguageDataset):
            language.require(dataset).save(temporary / "data" / language.FILE)
        _make_namespaces(root(data_dir), name)
        _move(temporary, target, replace)
    except (OSError, RuntimeError) as error:  # h5py reports a failed flush as either
        raise UserError(unwritable(name, target, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read(
    name: str,
    data_dir: DataDir = None,
    infos: Sequence[str] = (),
) -> Dataset:
    """Reads a local Minari dataset, HDF5 or Arrow; a `LanguageDataset` if annotated.

    Observations are vectors, or Dicts {observation, achieved_goal, desired_goal} of
    vectors (PointMaze, AntMaze) or of Dicts of vectors (FrankaKitchen), which become
    one vector in the order of `gymnasium.spaces.flatten`. Images [H, W, 3] of bytes,
    one or a Dict of them, become rows of bytes (`minari_pixels`).

    Args:
      name: its id.
      data_dir: root of the datasets.
      infos: arrays under `infos/` to read as well, at each row's observation.

    Raises:
      UserError: the files are damaged, the observations or actions are of a kind
        that does not flatten to one vector, or there are no such infos.
    """
    folder = root(data_dir) / name
    data = metadata(name, data_dir)
    what = f"{folder / 'data'}, the data of dataset {name!r},"
    with checks.damaged(what, f"Remove {folder} and collect or download it again."):
        cameras = minari_pixels.cameras(data, name)
        arrays = minari_pixels.read(folder, data, cameras) if cameras else None
        arrays = arrays or _cached_rows(folder)
        if arrays is None:
            arrays = minari_rows.read(folder / "data", data, name)
            stamp = np.asarray(cache.stamp(folder / "data"))
            with suppress(OSError):  # a read-only place is read without a cache
                cache.save(folder / _CACHE, {"stamp": stamp, **arrays})
        extra = minari_rows.infos(folder / "data", data, name, infos)
        spec = minari_spec.decode(data, name, arrays, cameras)
        own = data.get("offjax", {})
        origin = data["description"] if own else "Minari dataset"
        notes: tuple[str, ...] = ()
        if spec is not None:
            checks.matches_spec(arrays["observations"], arrays["actions"], spec)
            arrays["actions"], notes = checks.clip_recorded(arrays["actions"], spec)
        notes += minari_spec.simulator_notes(own)
    dataset = Dataset.from_arrays(
        **arrays,
        spec=spec,
        id=name,
        source=f"{origin}, in {folder}",
        identity=own.get("identity"),
        notes=notes,
        infos=extra,
    )
    annotations = folder / "data" / language.FILE
    if annotations.is_file():
        return language.annotate(dataset, language.Annotations.load(annotations))
    return dataset


def _hidden(name: str, data_dir: DataDir, suffix: str) -> Path:
    return root(data_dir) / f".{name.replace('/', '-')}{suffix}"


def unwritable(name: str, target: Path, error: Exception) -> str:
    """What to tell where a dataset could not be written to its folder."""
    return (
        f"Dataset {name!r} cannot be written to {target} ({error}). Free some space "
        "or make the folder writable, or choose another with --data_dir or "
        "$MINARI_DATASETS_PATH. Nothing was left behind."
    )


def _write_data(dataset: Dataset, specification: Mapping[str, Any], path: Path) -> None:
    from minari.dataset.minari_storage import MinariStorage

    spec = dataset.spec
    assert spec is not None
    vectors = gymnasium.spaces.Box(-np.inf, np.inf, (spec.observation_dim,), np.float32)
    seen = minari_pixels.space(spec.cameras) if spec.cameras else vectors
    storage = MinariStorage.new(
        path,
        observation_space=seen,
        action_space=gymnasium.spaces.Box(
            np.asarray(spec.action_low, np.float32),
            np.asarray(spec.action_high, np.float32),
        ),
        jpeg_encoding=False,
    )
    _write_episodes(dataset, path / minari_rows.MAIN)
    own = {
        "identity": dataset.card.identity,
        "specification": dict(specification),
        "spec": dataclasses.asdict(spec),
        **minari_spec.simulator(spec),
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
    last = _last_observations(dataset)
    cameras = () if dataset.spec is None else dataset.spec.cameras
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
            final = last[number][None]
            whole = np.concatenate([dataset.observations[rows], final])
            if cameras:
                seen = group.create_group("observations")
                minari_pixels.write(seen, cameras, whole)
            for key, array, kind in (
                *([] if cameras else [(b"observations", whole, real)]),
                (b"actions", dataset.actions[rows], real),
                (b"rewards", dataset.rewards[rows], real),
                (b"terminations", dataset.terminals[rows], boolean),
                (b"truncations", truncations[rows], boolean),
            ):
                space = h5s.create_simple(array.shape)
                h5d.create(group.id, key, kind, space).write(
                    h5s.ALL, h5s.ALL, np.ascontiguousarray(array)
                )
            for name, values in dataset.infos.items():
                group[f"infos/{name}"] = values[rows]


def _last_observations(dataset: Dataset) -> np.ndarray:
    """What follows the last row of each episode, [E, O].

    Raises:
      UserError: it is not known, or next observations do not continue an episode.
    """
    observations, following = dataset.observations, dataset.next_observations
    if following is None:
        if dataset.final_observations is None:
            raise UserError(
                f"Dataset {dataset.card.id!r} cannot be stored: Minari keeps what "
                "follows the last row of an episode, and it has neither "
                "`next_observations` nor `final_observations`. Pass one of them."
            )
        return dataset.final_observations
    broken = (observations[1:] != following[:-1]).any(axis=1)
    broken[dataset.episode_ends[:-1] - 1] = False
    if broken.any():
        raise UserError(
            f"Dataset {dataset.card.id!r} cannot be stored: the next observation of "
            f"row {int(np.argmax(broken))} is not the observation of the row after "
            "it, although they are of one episode. Mark such rows in `timeouts`."
        )
    return following[dataset.episode_ends - 1]


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


def _cached_rows(folder: Path) -> dict[str, Any] | None:
    """The cached rows; None where there are none, or of other data files."""
    rows = cache.load(folder / _CACHE)
    if rows is None or rows.keys() != {"stamp", *_ROWS}:
        return None
    return rows if str(rows.pop("stamp")) == cache.stamp(folder / "data") else None
