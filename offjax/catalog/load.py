"""Datasets by name: this project's own, collected when missing, and published ones.

A name means one thing only: `offjax/…` is collected here, a D4RL id is D4RL's own HDF5
file, an OGBench id its npz file, and anything else a local Minari dataset.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence

from offjax.catalog import collected
from offjax.datasets import legacy, minari_io, ogbench, ogbench_pixels, stored
from offjax.datasets.dataset import DataDir, Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec


def load_dataset(
    name: str,
    data_dir: DataDir = None,
    collect: bool = True,
    progress: Callable[[str], None] | None = None,
    infos: Sequence[str] = (),
    compat: str = "",
) -> Dataset:
    """Loads a dataset by its id; published files are downloaded when missing.

    Args:
      name: an id of this project (`offjax/…`), of D4RL (`hopper-medium-v2`), of
        OGBench (`scene-play-singletask-v0`), of a local Minari dataset, or of one that
        `offjax.datasets.stored` has written, whose files are mapped, not read.
      data_dir: root of the datasets; by default $MINARI_DATASETS_PATH, else
        ~/.minari/datasets. Files of D4RL are looked for there first, then in
        $D4RL_DATASET_DIR and ~/.d4rl/datasets; those of OGBench in
        $OGBENCH_DATASET_DIR and ~/.ogbench/data.
      collect: make this project's own datasets on first use.
      progress: called with a line of text when something takes time.
      infos: further arrays to read, such as qpos and qvel, into `Dataset.infos`.
      compat: one of `legacy.COMPAT`, for D4RL's files.

    Raises:
      UserError: the name is unknown or means two things, or the dataset is not there,
        lacks the infos, or cannot be read.
    """
    if compat and name not in legacy.table():
        raise UserError(
            f"compat={compat!r} is for D4RL's own files; {name!r} is none of them."
        )
    if name in legacy.table():
        _refuse_two_meanings(name, legacy.table()[name].file, data_dir)
        return legacy.read(name, data_dir, infos, compat, progress)
    entry = ogbench.parse(name)
    if entry is not None:
        _refuse_two_meanings(name, entry.file, data_dir)
        return ogbench.read(name, data_dir, infos, progress=progress)
    if name.startswith("offjax/"):
        own = collected.parse(name)
        if not minari_io.exists(name, data_dir):
            if not collect:
                raise UserError(
                    f"Dataset {name!r} is not in {minari_io.root(data_dir)}; run "
                    f"`offjax collect {own.name}` to collect "
                    "it."
                )
            dataset = collect_dataset(name, data_dir=data_dir, progress=progress)
            if not infos:
                return dataset
        _check_version(name, data_dir)
    elif stored.exists(name, data_dir):
        return _stored(name, data_dir, infos)
    elif not minari_io.exists(name, data_dir):
        raise _missing(name, data_dir)
    return minari_io.read(name, data_dir, infos)


def known_spec(name: str, data_dir: DataDir = None) -> EnvSpec | None:
    """The environment of a dataset as far as its id tells; reads and collects nothing.

    Files that are not read leave the dimensions 0. None: the data alone tell it.

    Raises:
      UserError: there is no such dataset.
    """
    if name in legacy.table():
        return legacy.spec(name, 0, 0)
    entry = ogbench.parse(name)
    if entry is not None:
        seen = (ogbench_pixels.CAMERA,) if entry.is_visual else ()
        horizon = entry.horizon
        return EnvSpec(entry.env_id, 0, (), (), horizon, domain="ogbench", cameras=seen)
    if name.startswith("offjax/"):
        return collected.parse(name).spec()
    if stored.exists(name, data_dir):
        return stored.read(name, data_dir).spec
    if not minari_io.exists(name, data_dir):
        raise _missing(name, data_dir)
    return None


def lies_here(name: str, data_dir: DataDir = None) -> bool:
    """Whether `load_dataset` has nothing to collect or to download."""
    if name in legacy.table():
        return legacy.find(name, data_dir) is not None
    entry = ogbench.parse(name)
    if entry is not None:
        return ogbench.find(entry.file, data_dir) is not None
    return stored.exists(name, data_dir) or minari_io.exists(name, data_dir)


def collect_dataset(
    name: str,
    size: int | None = None,
    seed: int = 0,
    data_dir: DataDir = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Collects one of this project's datasets, stores it, and reads it back.

    One that is there already, made from the same specification, is only read.

    Args:
      name: its id.
      size: episodes (budget) or transitions (others); None for the default.
      seed: of the generator.
      data_dir: as for `load_dataset`, like `progress`.
      force: collect anew in place of what is there.
      progress: see `data_dir`.

    Raises:
      UserError: the id is unknown, the disk cannot be written, or the dataset is
        there with another size, seed or generator version and `force` is not set.
    """
    entry = collected.parse(name)
    wanted = collected.specification(entry, size, seed)
    say = progress or (lambda _: None)
    with minari_io.writing(name, data_dir, say):
        if force or not minari_io.exists(name, data_dir):
            unit, _ = entry.size
            words = f"{wanted[unit]:,} {unit.removeprefix('num_')}"
            say(f"collecting {name} ({words}) into {minari_io.root(data_dir)}")
            scratch = minari_io.scratch(name, data_dir, collected.identity(wanted))
            dataset = collected.generate(entry, size, seed, progress, scratch)
            minari_io.write(dataset, wanted, data_dir, replace=force)
            shutil.rmtree(scratch, ignore_errors=True)
    found = _specification(name, data_dir)
    if found != wanted:
        raise UserError(
            f"Dataset {name!r} is already in {minari_io.root(data_dir)}, made from "
            f"{found}, not from {wanted}. Pass --force to collect it anew in its "
            "place, or another --data_dir to keep both."
        )
    return minari_io.read(name, data_dir)


def list_datasets(data_dir: DataDir = None) -> list[str]:
    """Ids that `load_dataset` has at hand: this project's own, then other local ones.

    Budget Allocation's own are listed with default instance, kappa and noise.
    """
    own = collected.ids()
    others = [name for name in minari_io.local_ids(data_dir) if name not in own]
    return own + others + stored.local_ids(data_dir) + _local_files(data_dir)


def describe_datasets(data_dir: DataDir = None) -> str:
    """The known ids by family, one a line; those that lie here are marked with *."""
    on_disk = stored.local_ids(data_dir)
    local = {*minari_io.local_ids(data_dir), *on_disk, *_local_files(data_dir)}
    own = collected.ids()
    known = {*own, *legacy.table(), *ogbench.ids()}
    minari_root = minari_io.root(data_dir)
    families = {
        "offjax, collected on first use": own,
        f"Minari, in {minari_root}": sorted(local - known - {*on_disk}),
        f"stored by offjax store, in {minari_root}": on_disk,
        "D4RL, HDF5 files (docs/how_to/data.md)": list(legacy.table()),
        "OGBench, npz files; also <…>-singletask[-task1…5]-v0": ogbench.ids(),
    }
    lines = ["* lies on this machine"]
    for title, names in families.items():
        lines += ["", f"# {title}"]
        lines += [f"{name} *" if name in local else name for name in names]
        lines += [] if names else ["(none)"]
    return "\n".join(lines)


def _local_files(data_dir: DataDir) -> list[str]:
    """Ids of D4RL and OGBench whose files are there."""
    d4rl = [name for name in legacy.table() if legacy.find(name, data_dir)]
    return d4rl + [
        name for name in ogbench.ids() if ogbench.find(f"{name}.npz", data_dir)
    ]


def _stored(name: str, data_dir: DataDir, infos: Sequence[str]) -> Dataset:
    if infos:
        raise UserError(
            f"Dataset {name!r} was stored by `offjax store`, which keeps no infos "
            f"({', '.join(infos)}): load the dataset that it was made of."
        )
    if minari_io.exists(name, data_dir):
        raise UserError(
            f"{name!r} names two datasets in {minari_io.root(data_dir) / name}, a "
            f"stored one and a Minari dataset: move {stored.MANIFEST} and its files to "
            "a folder of their own."
        )
    return stored.read(name, data_dir)


def _refuse_two_meanings(name: str, file: str, data_dir: DataDir) -> None:
    if minari_io.exists(name, data_dir):
        raise UserError(
            f"{name!r} names two datasets: the file {file.rsplit('/', 1)[-1]}, which "
            f"this id means, and a Minari dataset in {minari_io.root(data_dir)}. "
            "Rename the latter's folder, or name another --data_dir."
        )


def _specification(name: str, data_dir: DataDir) -> dict:
    own = minari_io.metadata(name, data_dir).get("offjax", {})
    return own.get("specification", {})


def _check_version(name: str, data_dir: DataDir) -> None:
    """Refuses data whose generator is not today's; any size and seed will do."""
    found = _specification(name, data_dir).get("generator_version")
    current = collected.GENERATOR_VERSION
    if found != current:
        raise UserError(
            f"Dataset {name!r} in {minari_io.root(data_dir)} was made by generator "
            f"version {found}; this is version {current}, whose data differ. Run "
            f"`offjax collect {name} --force`."
        )


def _missing(name: str, data_dir: DataDir) -> UserError:
    place = minari_io.root(data_dir) / name
    known = [*list_datasets(data_dir), *legacy.table(), *ogbench.ids()]
    close = collected.near(name, known)
    if not re.search(r"-v\d+$", name):
        return UserError(
            f"Dataset id {name!r} does not end in a version such as -v0.{close} "
            "`offjax list datasets` prints the ids there are."
        )
    return UserError(
        f"There is no dataset {name!r}: it is not one of offjax's own, nor of "
        f"D4RL or OGBench, nor a Minari dataset at {place}.{close} If it is an "
        f"official Minari dataset, run `minari download {name}` where there is a "
        "network and put its folder there, or name its root with --data_dir or "
        "$MINARI_DATASETS_PATH."
    )
