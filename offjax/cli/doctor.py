"""Tells what is installed, what is missing, and the command that installs it.

    offjax doctor

The exit code is 0 where everything that training needs is there.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from absl import flags

from offjax import cache, terminal
from offjax.cli import command as cli
from offjax.cli import usage

FLAGS = flags.FLAGS

NEEDED = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium")


class Extra(NamedTuple):
    """A part of offjax that needs further packages."""

    name: str  # pip install 'offjax[name]'
    modules: tuple[str, ...]
    purpose: str
    besides: str = ""  # what the extra leaves to the user


EXTRAS = (
    Extra("mujoco", ("mujoco",), "Hopper, HalfCheetah, Walker2d, Ant, AntMaze"),
    Extra("ogbench", ("ogbench",), "OGBench's environments, scenes with instructions"),
    Extra("robotics", ("gymnasium_robotics",), "Adroit, kitchen, Fetch"),
    Extra("render", ("imageio", "imageio_ffmpeg"), "videos"),
    Extra("arrow", ("pyarrow",), "Minari datasets in Arrow files"),
    Extra("ray", ("ray",), "sweeps over several machines"),
    Extra("text", ("transformers", "torch"), "sentence encoders from files", " torch"),
    Extra("tensorboard", ("tensorboardX",), "--log=tensorboard"),
    Extra("wandb", ("wandb",), "--log=wandb"),
    Extra("hub", ("huggingface_hub",), "agents on the Hugging Face Hub"),
)


def define_flags() -> None:
    """The command's flags."""
    cli.define_data_dir()


def main(argv: list[str]) -> None:
    """Prints the report."""
    del argv
    sections = {
        "Versions": versions(),
        "Devices": devices(),
        "Extras": extras(),
        "Folders": folders(FLAGS.data_dir),
    }
    for i, (title, lines) in enumerate(sections.items()):
        print("\n" * (i > 0) + usage.heading(title), *lines, sep="\n")
    if any(version(name) is None for name in NEEDED):
        sys.exit(1)


def version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> list[str]:
    """Python, offjax and what training needs."""
    lines = [_line("python", f"{platform.python_version()} on {platform.platform()}")]
    for package in ("offjax", *NEEDED):
        found = version(package)
        remedy = f"missing: pip install {package}"
        lines.append(_line(package, found or _bad(remedy), package))
    return lines


def devices() -> list[str]:
    """What JAX computes on, and what there is beside it."""
    import jax

    from offjax.runner import memory

    lines = [
        _line(f"{device.platform}:{device.id}", _describe(device))
        for device in jax.devices()
    ]
    cores = len(os.sched_getaffinity(0))
    free = memory.host_bytes()
    lines.append(
        _line("host", f"{free / 1e9:.1f} GB of memory free, CPU cores: {cores}")
    )
    nvidia = shutil.which("nvidia-smi") is not None
    if nvidia and all(device.platform == "cpu" for device in jax.devices()):
        text = "not used by JAX: pip install 'offjax[cuda12]'"
        lines.append(_line("NVIDIA GPU", _bad(text)))
    return lines


def _describe(device: object) -> str:
    from offjax.runner import memory

    kind = str(getattr(device, "device_kind", ""))
    limit = memory.device_bytes(device)
    return f"{kind}, {limit / 1e9:.1f} GB free" if limit else kind


def extras() -> list[str]:
    """What is there beyond the necessary, and how to get the rest."""
    lines = []
    for extra in EXTRAS:
        missing = [name for name in extra.modules if not _importable(name)]
        found = version(extra.modules[0]) or "installed"
        remedy = f"missing: pip install 'offjax[{extra.name}]'{extra.besides}"
        state = remedy if missing else found
        lines.append(
            _line(extra.name, _bad(state) if missing else found, extra.purpose)
        )
    if _importable("mujoco"):
        from offjax.envs import mujoco

        if not mujoco.has_engine():
            text = "too old for batches: pip install -U 'offjax[mujoco]'"
            lines.append(_line("mujoco.batch", _bad(text)))
    return lines


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def folders(data_dir: str | None) -> list[str]:
    """Where datasets and caches lie, and what is in them."""
    from offjax.datasets import legacy, minari_io, ogbench

    root = minari_io.root(data_dir)
    ids = minari_io.local_ids(data_dir)
    d4rl = [name for name in legacy.table() if legacy.find(name, data_dir)]
    other = [n for n in ogbench.ids() if ogbench.find(f"{n}.npz", data_dir)]
    return [
        _line("Minari", _place(root, f"{len(ids)} datasets"), "$MINARI_DATASETS_PATH"),
        _line(
            "D4RL",
            _place(legacy.folders(data_dir)[0], f"{len(d4rl)} files"),
            "$D4RL_DATASET_DIR",
        ),
        _line(
            "OGBench",
            _place(ogbench.folders(data_dir)[0], f"{len(other)} files"),
            "$OGBENCH_DATASET_DIR",
        ),
        _line("programs", _place(cache.root(), ""), "$OFFJAX_CACHE"),
    ]


def _place(path: Path, content: str) -> str:
    """A folder, what it holds, and how much more fits."""
    if not path.exists():
        return f"{path} (not there yet)"
    free = f"{shutil.disk_usage(path).free / 1e9:.0f} GB free"
    return f"{path} ({', '.join(filter(None, [content, free]))})"


def _line(name: str, state: str, note: str = "") -> str:
    note = f"  ({note})" if note and note != name else ""
    return f"  {name:18s}{state}{note}"


def _bad(text: str) -> str:
    return terminal.styled(text, "red", sys.stdout)
