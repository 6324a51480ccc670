"""Optional places for training metrics beside the run folder's CSV files."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from offjax.errors import UserError

Rows = Sequence[Sequence[Any]]
"""(step, seed, variant, name, value)."""


class Sink(Protocol):
    """Takes rows of metrics."""

    def write(self, rows: Rows) -> None:
        """Logs rows."""

    def close(self) -> None:
        """Flushes."""


class TensorBoard:
    """One event folder per seed and variant, under `<run>/tensorboard`."""

    package = "tensorboardX"

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self._folder, self._writers = folder / "tensorboard", dict[str, Any]()

    def write(self, rows: Rows) -> None:
        """Logs rows."""
        from tensorboardX import SummaryWriter

        for step, seed, variant, name, value in rows:
            place = str(self._folder / f"{variant.replace('/', '_')}-seed{seed}")
            if place not in self._writers:
                self._writers[place] = SummaryWriter(place)
            self._writers[place].add_scalar(name, float(value), step)

    def close(self) -> None:
        """Flushes."""
        for writer in self._writers.values():
            writer.close()


class WandB:
    """One Weights & Biases run; a series per seed and variant."""

    package = "wandb"

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        import wandb

        self._run = wandb.init(
            project="offjax", dir=str(folder), config=config, name=folder.name
        )

    def write(self, rows: Rows) -> None:
        """Logs rows."""
        by_step: dict[int, dict[str, float]] = {}
        for step, seed, variant, name, value in rows:
            by_step.setdefault(step, {})[f"{name}/{variant}/seed{seed}"] = float(value)
        for step, values in by_step.items():
            self._run.log(values, step=step)

    def close(self) -> None:
        """Flushes."""
        self._run.finish()


SINKS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WandB}


def check(names: Sequence[str]) -> None:
    """Raises `UserError` for an unknown sink, or one whose package is missing."""
    for name in names:
        if name not in SINKS:
            raise UserError(f"--log={name} is not one of {', '.join(SINKS)}.")
        package = SINKS[name].package
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"--log={name} needs the package {package}: pip install "
                f"'offjax[{name}]'."
            ) from error


def make(names: Sequence[str], folder: Path, config: dict[str, Any]) -> list[Sink]:
    """The sinks of `--log=`; raises as `check` does."""
    check(names)
    return [SINKS[name](folder, config) for name in names]
