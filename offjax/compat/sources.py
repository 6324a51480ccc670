"""What an id means to a script: an environment, and arrays in D4RL's layout.

JAX is imported by the first call, not by this module.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.datasets.dataset import Dataset
    from offjax.types import EnvSpec

Arrays = dict[str, np.ndarray]

WIDTHS = {
    "hopper": (11, 3),
    "halfcheetah": (17, 6),
    "walker2d": (17, 6),
    "ant": (111, 8),
    "maze2d": (4, 2),
    "antmaze": (29, 8),
    "pen": (45, 24),
    "hammer": (46, 26),
    "door": (39, 28),
    "relocate": (39, 30),
    "kitchen": (60, 9),
}
"""Family of D4RL's ids → numbers in an observation and in an action."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset id.

    Attributes:
      env: where its policies are evaluated.
      read: gives new arrays at each call, in D4RL's layout.
      url: where D4RL has its file; None for other datasets.
    """

    env: EnvSpec
    read: Callable[[], Arrays]
    url: str | None = None


def find(name: str) -> Source:
    """The source that an id of D4RL, of this project, or of `load_dataset` names.

    Raises:
      UserError: the id is unknown, its dataset is not there, or it does not say where
        its policies are evaluated.
    """
    from offjax.catalog import collected, load
    from offjax.datasets import download, legacy

    if name in legacy.table():
        env = legacy.spec(name, *WIDTHS[name.split("-")[0]])
        url = f"{download.D4RL}/{legacy.table()[name].file}"
        return Source(env, partial(_d4rl_file, name), url)
    name = collected.with_slashes(name)
    if name.startswith("offjax/"):
        env = collected.parse(name).spec()
        return Source(env, lambda: rows(load.load_dataset(name, progress=say)))
    spec = load.load_dataset(name).spec
    if spec is None:
        raise UserError(
            f"Dataset {name!r} does not say in which environment its policies are "
            "evaluated, so gym.make has none for it. Record it with an `env_spec`, or "
            "train on it with `offjax run`."
        )
    return Source(spec, lambda: rows(load.load_dataset(name)))


def is_known(name: str) -> bool:
    """Whether an id is D4RL's, this project's or OGBench's, or a local dataset's."""
    from offjax.catalog import collected
    from offjax.datasets import legacy, minari_io, ogbench

    return (
        name in legacy.table()
        or collected.with_slashes(name).startswith("offjax/")
        or ogbench.parse(name) is not None
        or minari_io.exists(name)
    )


def say(text: str) -> None:
    """A line on stderr, when something takes time."""
    print(text, file=sys.stderr)


def rows(dataset: Dataset) -> Arrays:
    """A dataset's arrays under D4RL's names, new at each call."""
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    arrays = {name: np.array(getattr(dataset, name)) for name in names}
    if dataset.next_observations is not None:
        arrays["next_observations"] = np.array(dataset.next_observations)
    return arrays


def read_file(path: str | os.PathLike[str]) -> Arrays:
    """All arrays of an HDF5 file, by their paths in it, as they are stored.

    Raises:
      UserError: there is no such file, or it is damaged.
    """
    import h5py

    from offjax.datasets import checks

    if not Path(path).is_file():
        raise UserError(f"There is no file {path}. Correct the path (h5path).")
    found: Arrays = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    what = f"The HDF5 file {path}"
    with checks.damaged(what, "Copy it again."), h5py.File(path, "r") as file:
        file.visititems(keep)
    return found


def _d4rl_file(name: str) -> Arrays:
    from offjax.datasets import legacy

    return read_file(legacy.obtain(name, progress=say))
