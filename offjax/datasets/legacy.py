"""D4RL's own HDF5 files, read without d4rl: flat arrays over all steps.

`d4rl.csv` holds, for each of the 121 ids, D4RL's reference returns and horizon, the
file's place in its distribution, and the Gymnasium environment of today that evaluates
it (none where no current one is equal).

Files differ: flags may be floats or columns, and some have no time-outs. Their
`next_observations` are left alone, as in D4RL's Q-learning view: a row's next
observation is the following row, and rows at a time-out make no transition.

`compat` brings back two things that D4RL's `qlearning_dataset` does otherwise. Where
time-outs are missing, it counts the first step after a terminal as the second, which
cuts full episodes a step early. Its `terminate_on_end` keeps the rows at time-outs,
with the first observation of the next episode as their next one and `terminals` false
(its documentation says true).
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from offjax.datasets import checks, download, untrusted
from offjax.datasets.dataset import DataDir, Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec

COMPAT = ("", "official", "official-terminate-on-end")
"""How transitions are made: the right way, or as `d4rl.qlearning_dataset` does."""

_KEYS = ("observations", "actions", "rewards", "terminals")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the table of D4RL's datasets; fields of `EnvSpec` mean the same."""

    id: str
    ref_min_score: float
    ref_max_score: float
    horizon: int
    domain: str
    env: str  # Gymnasium id that evaluates it, or empty
    file: str  # path under the distribution's root


@functools.cache
def table() -> Mapping[str, Entry]:
    """D4RL's datasets by id."""
    text = resources.files("offjax.datasets").joinpath("d4rl.csv").read_text()
    rows = csv.reader(text.splitlines()[1:])
    return {
        id: Entry(id, float(low), float(high), int(horizon), domain, env, file)
        for id, low, high, horizon, domain, env, file in rows
    }


def folders(data_dir: DataDir = None) -> list[Path]:
    """Where files are looked for: `data_dir`, $D4RL_DATASET_DIR, ~/.d4rl/datasets."""
    chosen = (data_dir, os.environ.get("D4RL_DATASET_DIR"), "~/.d4rl/datasets")
    return [Path(folder).expanduser() for folder in chosen if folder]


def find(name: str, data_dir: DataDir = None) -> Path | None:
    """A D4RL id's file: by D4RL's own name, flat or in its folder, or `id`.hdf5."""
    file = Path(table()[name].file)
    names = (file.name, file, f"{name}.hdf5")
    paths = (folder / each for folder in folders(data_dir) for each in names)
    return next((path for path in paths if path.is_file()), None)


def obtain(
    name: str,
    data_dir: DataDir = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """A D4RL id's file: the one found, else downloaded into the first of `folders`.

    Raises:
      UserError: naming the file, where to put it, and the places that were tried.
    """
    path = find(name, data_dir)
    if path is not None:
        return path
    file, searched = Path(table()[name].file), folders(data_dir)
    absent = (
        f"The file of D4RL dataset {name!r}, {file.name}, is in none of "
        f"{', '.join(map(str, searched))}. Put it into one of these folders (under "
        f"this name or as {name}.hdf5), or name its folder with --data_dir or "
        "$D4RL_DATASET_DIR."
    )
    target = searched[0] / file.name
    return download.obtain(
        absent, table()[name].file, target, download.D4RL, _SIGNATURE, progress
    )


def read(
    name: str,
    data_dir: DataDir = None,
    infos: Sequence[str] = (),
    compat: str = "",
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Reads the file of a D4RL id.

    Where the file has no time-outs, episodes are cut every `horizon` steps since the
    last terminal. Actions outside [-1, 1] are clipped, as D4RL's environments do, and
    counted on the card.

    Args:
      name: D4RL id.
      data_dir: first of the folders that are searched.
      infos: arrays under `infos/` to read as well, such as qpos and qvel.
      compat: one of `COMPAT`.
      progress: called with lines of text during a download.

    Raises:
      UserError: the file cannot be had, is damaged, has no such infos, or its arrays
        do not fit together; or an unknown `compat`.
    """
    if compat not in COMPAT:
        raise UserError(
            f"compat={compat!r} is unknown; choose one of {', '.join(COMPAT[1:])}, or "
            "none."
        )
    path = obtain(name, data_dir, progress)
    arrays, extra = _arrays(path, name, infos)
    try:
        for key in ("observations", "actions"):
            arrays[key] = checks.matrix(arrays[key], key)
        found = spec(name, arrays["observations"].shape[1], arrays["actions"].shape[1])
        arrays["actions"], notes = checks.clip_recorded(arrays["actions"], found)
        if name.startswith("antmaze-") and name.endswith("-v0"):
            notes += ("time-outs of antmaze v0 are out of step with its resets",)
        if compat:
            notes += (f"transitions as d4rl.qlearning_dataset makes them ({compat})",)
            arrays = _official(arrays, found.horizon, compat == COMPAT[2])
            extra = {
                key: value[: len(arrays["rewards"])] for key, value in extra.items()
            }
        return Dataset.from_arrays(
            **arrays,
            spec=found,
            id=name,
            source=f"D4RL file {path}",
            notes=notes,
            infos=extra,
        )
    except UserError as error:
        raise UserError(f"D4RL file {path} cannot be used: {error}") from error


def spec(name: str, observation_dim: int, action_dim: int) -> EnvSpec:
    """Where and how policies for a D4RL id are evaluated.

    Its `id` is the D4RL id itself where no environment of today is equal.
    """
    entry = table()[name]
    kwargs: tuple[tuple[str, object], ...] = ()
    if entry.env == "offjax/Maze2D-v0":
        kwargs = (("maze", name.split("-")[1]), ("dense", "-dense-" in name))
    elif entry.env == "offjax/AntMaze-v0":
        kwargs = (("maze", name.split("-")[1]),)
    elif entry.env == "Ant-v4" and observation_dim == 111:
        kwargs = (("use_contact_forces", True),)
    return EnvSpec(
        id=entry.env or name,
        kwargs=kwargs,
        observation_dim=observation_dim,
        action_low=(-1.0,) * action_dim,
        action_high=(1.0,) * action_dim,
        horizon=entry.horizon,
        ref_min_score=entry.ref_min_score,
        ref_max_score=entry.ref_max_score,
        score_source=f"D4RL's reference returns of {name}",
        domain=entry.domain,
    )


def _arrays(
    path: Path, name: str, infos: Sequence[str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The arrays of the file that a dataset is made of, and those of `infos`."""
    what = f"{path}, the file of D4RL dataset {name!r},"
    with checks.damaged(what, "Copy it again."), h5py.File(path, "r") as file:
        missing = [key for key in _KEYS if not isinstance(file.get(key), h5py.Dataset)]
        if missing:
            raise UserError(
                f"{what} has no array {', '.join(missing)}; it holds "
                f"{', '.join(file)}. It is not a D4RL file, or only a part of one: "
                "copy it again."
            )
        keys = [*_KEYS, *(["timeouts"] if "timeouts" in file else [])]
        for key in infos:
            if not isinstance(file.get(f"infos/{key}"), h5py.Dataset):
                there = ", ".join(file["infos"]) if "infos" in file else "none"
                raise UserError(
                    f"{what} has no infos/{key}; the infos it has: {there}."
                )
        arrays = {key: untrusted.read_hdf5(file.id, key) for key in keys}
        extra = {key: untrusted.read_hdf5(file.id, f"infos/{key}") for key in infos}
        for key, array in (*arrays.items(), *extra.items()):
            untrusted.require_numbers(key, array.dtype)
    return arrays, extra


def _official(
    arrays: dict[str, Any], horizon: int, terminate_on_end: bool
) -> dict[str, Any]:
    """Rows whose transitions are those of `d4rl.qlearning_dataset`."""
    rows = len(arrays["rewards"])
    if "timeouts" not in arrays:
        terminals = checks.flags(arrays["terminals"], "terminals", rows)
        arrays["timeouts"] = _official_timeouts(terminals, horizon, terminate_on_end)
    if not terminate_on_end:
        return arrays
    shifted = {"next_observations": arrays["observations"][1:]}
    return {key: value[:-1] for key, value in arrays.items()} | shifted


def _official_timeouts(
    terminals: np.ndarray, horizon: int, terminate_on_end: bool
) -> np.ndarray:
    """Where D4RL's count of steps reaches the horizon, [N] bool."""
    timeouts = np.zeros(len(terminals), bool)
    step = 0
    for row, done in enumerate(terminals.tolist()):
        timeouts[row] = step == horizon - 1
        if timeouts[row] and not terminate_on_end:
            step = 0
        else:
            step = 1 if done or timeouts[row] else step + 1
    return timeouts
