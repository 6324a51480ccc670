"""D4RL's own HDF5 files, read without d4rl: flat arrays over all steps.

`d4rl.csv` holds, for each of the 121 ids, D4RL's reference returns and horizon, the
file's place in its distribution, and the Gymnasium environment of today that evaluates
it (none where no current one is equal).

Files differ: flags may be floats or columns, maze2d-v0 and files written by D4RL's
scripts have no time-outs, random and stitched ones no metadata. `next_observations`
are left alone even where a file has them, as in D4RL's Q-learning view: a row's next
observation is the following row, and rows at a time-out make no transition.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from offjax.datasets import checks
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec

_KEYS = ("observations", "actions", "rewards", "terminals")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the table of D4RL's datasets.

    Attributes:
      id: D4RL's id.
      ref_min_score: return that scores 0.
      ref_max_score: return that scores 100.
      horizon: steps after which evaluation cuts an episode.
      domain: family of settings, as in `EnvSpec`.
      env: Gymnasium id that evaluates it, or empty.
      file: path of the HDF5 file under the distribution's root.
    """

    id: str
    ref_min_score: float
    ref_max_score: float
    horizon: int
    domain: str
    env: str
    file: str


@functools.cache
def table() -> Mapping[str, Entry]:
    """D4RL's datasets by id."""
    text = resources.files("offjax.datasets").joinpath("d4rl.csv").read_text()
    rows = csv.reader(text.splitlines()[1:])
    return {
        id: Entry(id, float(low), float(high), int(horizon), domain, env, file)
        for id, low, high, horizon, domain, env, file in rows
    }


def folders(data_dir: str | os.PathLike[str] | None = None) -> list[Path]:
    """Where files are looked for: `data_dir`, $D4RL_DATASET_DIR, ~/.d4rl/datasets."""
    chosen = (data_dir, os.environ.get("D4RL_DATASET_DIR"), "~/.d4rl/datasets")
    return [Path(folder).expanduser() for folder in chosen if folder]


def find(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """A D4RL id's file: by D4RL's own name, flat or in its folder, or `id`.hdf5."""
    file = Path(table()[name].file)
    for folder in folders(data_dir):
        for relative in (file.name, file, f"{name}.hdf5"):
            if (folder / relative).is_file():
                return folder / relative
    return None


def read(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """Reads the file of a D4RL id.

    Where the file has no time-outs, episodes are cut every `horizon` steps since the
    last terminal. (D4RL counts the first step after a terminal as the second, which
    drops the step before the last of a full episode and lets the last one run into
    the next episode.) Actions outside [-1, 1] are clipped, as D4RL's environments do,
    and counted on the card.

    Raises:
      UserError: the file is not there, is damaged, or its arrays do not fit together.
    """
    path = find(name, data_dir)
    if path is None:
        places = ", ".join(str(folder) for folder in folders(data_dir))
        raise UserError(
            f"The file of D4RL dataset {name!r}, {Path(table()[name].file).name}, is "
            f"in none of {places}. Put it into one of these folders (under this name "
            f"or as {name}.hdf5), or name its folder with --data_dir or "
            "$D4RL_DATASET_DIR."
        )
    arrays = _arrays(path, name)
    widths = [arrays[key].shape[-1] for key in ("observations", "actions")]
    found = spec(name, *widths)
    arrays["actions"], notes = checks.clip_recorded(arrays["actions"], found)
    try:
        return Dataset.from_arrays(
            **arrays,
            spec=found,
            id=name,
            source=f"D4RL file {path}",
            notes=notes,
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


def _arrays(path: Path, name: str) -> dict[str, Any]:
    """The arrays of the file that a dataset is made of."""
    try:
        with h5py.File(path, "r") as file:
            missing = [
                key for key in _KEYS if not isinstance(file.get(key), h5py.Dataset)
            ]
            if missing:
                raise UserError(
                    f"{path}, the file of D4RL dataset {name!r}, has no array "
                    f"{', '.join(missing)}; it holds {', '.join(file)}. It is not a "
                    "D4RL file, or only a part of one: copy it again."
                )
            keys = [*_KEYS, *(["timeouts"] if "timeouts" in file else [])]
            arrays = {key: np.asarray(file[key]) for key in keys}
    except (OSError, RuntimeError, KeyError) as error:
        raise UserError(
            f"{path}, the file of D4RL dataset {name!r}, cannot be read ({error}). It "
            "is damaged or incomplete: copy it again."
        ) from error
    for key in ("observations", "actions"):
        if arrays[key].ndim != 2:
            raise UserError(
                f"`{key}` of {path} has shape {arrays[key].shape}; it must be [rows, "
                "dimensions]. It is not a D4RL file of vectors."
            )
    return arrays
