"""Datasets by name: this project's own, collected when missing, and local ones."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from offjax.datasets import catalog, legacy, minari_io
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError

Path = str | os.PathLike[str]


def load_dataset(
    name: str,
    data_dir: Path | None = None,
    collect: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Loads a dataset by its id.

    Args:
      name: an id of this project (`offjax/…`), a D4RL id (`hopper-medium-v2`), which
        is always D4RL's own HDF5 file, or the id of a local Minari dataset.
      data_dir: root of the datasets; by default $MINARI_DATASETS_PATH, else
        ~/.minari/datasets. D4RL's files are looked for there first, then in
        $D4RL_DATASET_DIR and ~/.d4rl/datasets.
      collect: make this project's own datasets on first use.
      progress: called with a line of text when something takes time.

    Raises:
      UserError: the name is unknown, the dataset is not there or cannot be read.
    """
    if name.startswith("offjax/"):
        entry = catalog.parse(name)
        if minari_io.exists(name, data_dir):
            _check_version(name, data_dir)
        elif collect:
            return collect_dataset(name, data_dir=data_dir, progress=progress)
        else:
            raise UserError(
                f"Dataset {name!r} is not in {minari_io.root(data_dir)}; run `python "
                f"-m experiments.collect --dataset={entry.name}` to collect it."
            )
    elif name in legacy.table():
        return legacy.read(name, data_dir)
    elif not minari_io.exists(name, data_dir):
        raise _missing(name, data_dir)
    return minari_io.read(name, data_dir)


def collect_dataset(
    name: str,
    size: int | None = None,
    seed: int = 0,
    data_dir: Path | None = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Collects one of this project's datasets, stores it, and reads it back.

    One that is there already, made from the same specification, is only read.

    Args:
      name: its id.
      size: episodes (budget) or transitions (maze2d); None for the default.
      seed: of the generator.
      data_dir: root of the datasets, as for `load_dataset`.
      force: collect anew in place of what is there.
      progress: called with a line of text.

    Raises:
      UserError: the id is unknown, the disk cannot be written, or the dataset is
        there with another size, seed or generator version and `force` is not set.
    """
    entry = catalog.parse(name)
    wanted = catalog.specification(entry, size, seed)
    if force or not minari_io.exists(name, data_dir):
        if progress:
            unit, _ = entry.size
            words = f"{wanted[unit]:,} {unit.removeprefix('num_')}"
            progress(f"collecting {name} ({words}) into {minari_io.root(data_dir)}")
        dataset = catalog.generate(entry, size, seed)
        minari_io.write(dataset, wanted, data_dir, replace=force)
    found = _specification(name, data_dir)
    if found != wanted:
        raise UserError(
            f"Dataset {name!r} is already in {minari_io.root(data_dir)}, made from "
            f"{found}, not from {wanted}. Pass --force to collect it anew in its "
            "place, or another --data_dir to keep both."
        )
    return minari_io.read(name, data_dir)


def list_datasets(data_dir: Path | None = None) -> list[str]:
    """Ids that `load_dataset` takes: this project's own, then other local ones.

    Budget Allocation's own are listed with default instance, kappa and noise.
    """
    own = catalog.ids()
    others = [name for name in minari_io.local_ids(data_dir) if name not in own]
    files = [name for name in legacy.table() if legacy.find(name, data_dir)]
    return own + others + files


def _specification(name: str, data_dir: Path | None) -> dict:
    own = minari_io.metadata(name, data_dir).get("offjax", {})
    return own.get("specification", {})


def _check_version(name: str, data_dir: Path | None) -> None:
    """Refuses data whose generator is not today's; any size and seed will do."""
    found = _specification(name, data_dir).get("generator_version")
    current = catalog.specification(catalog.parse(name), None, 0)["generator_version"]
    if found != current:
        raise UserError(
            f"Dataset {name!r} in {minari_io.root(data_dir)} was made by generator "
            f"version {found}; this is version {current}, whose data differ. Run "
            f"`python -m experiments.collect --dataset={name} --force`."
        )


def _missing(name: str, data_dir: Path | None) -> UserError:
    place = minari_io.root(data_dir) / name
    close = catalog.near(name, [*list_datasets(data_dir), *legacy.table()])
    if not re.search(r"-v\d+$", name):
        return UserError(
            f"Dataset id {name!r} does not end in a version such as -v0.{close} "
            "`--dataset=list` prints the ids there are."
        )
    return UserError(
        f"There is no dataset {name!r}: it is not one of offjax's own, nor D4RL's, nor "
        f"a Minari dataset at {place}.{close} If it is an official Minari dataset, run "
        f"`minari download {name}` where there is a network and put its folder there, "
        "or name its root with --data_dir or $MINARI_DATASETS_PATH."
    )
