"""Flat rows of a Minari dataset's files, HDF5 or Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from gymnasium.spaces import Box, Dict

from offjax.datasets.checks import GOAL_KEYS
from offjax.datasets.untrusted import read_hdf5, require_numbers
from offjax.errors import UserError

MAIN = "main_data.hdf5"
FIELDS = ("observations", "actions", "rewards", "terminations", "truncations")


def read(path: Path, data: dict[str, Any], name: str) -> dict[str, Any]:
    """Flat rows as `Dataset.from_arrays` takes them, from a folder of data files.

    Args:
      path: the folder.
      data: the dataset's metadata.
      name: its id, for messages.

    Raises:
      UserError: observations or actions of another kind.
      ValueError: episodes that do not fit together; and whatever h5py raises.
    """
    from minari.serialization import deserialize_space

    layout = _layout(deserialize_space(data["observation_space"]), name)
    actions = deserialize_space(data["action_space"])
    if not (isinstance(actions, Box) and len(actions.shape) == 1):
        raise UserError(
            f"Dataset {name!r} has actions {actions}; only vectors of real numbers "
            "(a one-dimensional Box) can be read."
        )
    columns: dict[str, list[np.ndarray]] = {key: [] for key in FIELDS}
    for *parts, acts, rewards, ends, cuts in episodes(
        path, data, (*layout, *FIELDS[1:])
    ):
        episode = (_join(parts), acts, rewards, ends, cuts)
        for key, value in zip(FIELDS, episode, strict=True):
            require_numbers(key, value.dtype)
            columns[key].append(value)
    whole = np.concatenate(columns.pop("observations"))
    lengths = np.array([len(rewards) for rewards in columns["rewards"]])
    if len(whole) != lengths.sum() + len(lengths) or (lengths == 0).any():
        raise ValueError("an episode must have one observation more than actions")
    last = np.cumsum(lengths + 1) - 1
    flat = {key: np.concatenate(parts) for key, parts in columns.items()}
    if any(len(column) != lengths.sum() for column in flat.values()):
        raise ValueError("the arrays of an episode differ in length")
    return {
        "observations": np.delete(whole, last, axis=0),
        "actions": flat["actions"].astype(np.float32),
        "rewards": flat["rewards"].astype(np.float32),
        "terminals": flat["terminations"].astype(bool),
        "timeouts": cut_at(lengths, flat["terminations"], flat["truncations"]),
        "next_observations": np.delete(whole, last - lengths, axis=0),
    }


def infos(
    path: Path, data: dict[str, Any], name: str, keys: Sequence[str]
) -> dict[str, np.ndarray]:
    """The arrays `infos/<key>` at each row's observation, [N, …].

    Other arguments are those of `read`; nested keys have slashes.

    Raises:
      UserError: there are no such infos.
    """
    if not keys:
        return {}
    columns: dict[str, list[np.ndarray]] = {key: [] for key in keys}
    paths = ("rewards", *(f"infos/{key}" for key in keys))
    try:
        recorded = list(episodes(path, data, paths))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"Dataset {name!r} does not hold the infos {', '.join(keys)} in each of "
            f"its episodes ({error})."
        ) from error
    for rewards, *values in recorded:
        length = len(rewards)
        for key, value in zip(keys, values, strict=True):
            # Minari keeps the info of the reset as well; some recordings do not.
            if len(value) not in (length, length + 1):
                raise ValueError(f"infos/{key} has another length than its episode")
            columns[key].append(value[:length])
    return {key: np.concatenate(parts) for key, parts in columns.items()}


def cut_at(
    lengths: np.ndarray, terminations: np.ndarray, truncations: np.ndarray
) -> np.ndarray:
    """Time-outs: the last step of an episode that did not terminate, [N] bool."""
    timeouts = truncations.astype(bool)
    last = np.cumsum(lengths) - 1
    timeouts[last] |= ~terminations[last].astype(bool)
    return timeouts


def _layout(space: gymnasium.Space, name: str) -> tuple[str, ...]:
    """Paths of the arrays that, side by side, are the observation vector."""
    if isinstance(space, Box) and len(space.shape) == 1:
        return ("observations",)
    if isinstance(space, Dict) and tuple(sorted(space.spaces)) == GOAL_KEYS:
        leaves = [_leaves(space[key], f"observations/{key}") for key in space.spaces]
        if all(leaves):
            return tuple(path for paths in leaves for path in paths)
    raise UserError(
        f"Dataset {name!r} has observations {space}, whose layout is unknown. Vectors "
        f"(a one-dimensional Box) and Dicts of {', '.join(GOAL_KEYS)}, each a vector "
        "or a Dict of vectors, can be read; flatten others yourself and pass them to "
        "Dataset.from_arrays."
    )


def _leaves(space: gymnasium.Space, path: str) -> tuple[str, ...]:
    """Paths of a vector or a Dict of vectors; empty for anything else."""
    if isinstance(space, Box) and len(space.shape) == 1:
        return (path,)
    if isinstance(space, Dict) and all(
        isinstance(part, Box) and len(part.shape) == 1 for part in space.values()
    ):
        return tuple(f"{path}/{key}" for key in space.spaces)
    return ()


def episodes(
    path: Path, data: dict[str, Any], keys: tuple[str, ...], images: bool = False
) -> Iterator[list[np.ndarray]]:
    """The arrays at the paths `keys` of each episode in turn.

    `images` says that some are images, which Minari may have encoded.
    """
    count = data["total_episodes"]
    encoded = images and data.get("jpeg_encoding", True)
    if data.get("data_format", "hdf5") == "hdf5" and not encoded:
        with h5py.File(path / MAIN, "r") as file:
            for number in range(count):
                yield [read_hdf5(file.id, f"episode_{number}/{key}") for key in keys]
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
        yield [_pick(episode, key) for key in keys]


def _pick(episode: Any, path: str) -> np.ndarray:
    for key in path.split("/"):
        episode = episode[key]
    return np.asarray(episode)


def _join(parts: list[np.ndarray]) -> np.ndarray:
    for part in parts:
        require_numbers("observations", part.dtype)
    with np.errstate(over="ignore"):
        return np.concatenate([np.asarray(p, np.float32) for p in parts], axis=-1)
