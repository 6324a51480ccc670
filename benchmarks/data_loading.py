"""Seconds from a D4RL file of a million rows to transitions on the device.

    python -m benchmarks.data_loading [--rows=1000000] [--json=FILE]

A file of random rows of Hopper's sizes is written uncompressed to a temporary folder,
then timed: reading it (checks and checksum included), converting it to transitions, and
moving these to the device. Each number is the best of `--repeats`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jax
import numpy as np
from absl import flags

from benchmarks.harness import opening, write
from offjax.cli import command as cli
from offjax.datasets import convert, legacy

ROWS = flags.DEFINE_integer("rows", 1_000_000, "rows of the file", 1000)
REPEATS = flags.DEFINE_integer("repeats", 3, "timings per number", 1)
JSON = flags.DEFINE_string("json", None, "file to write the numbers to")

_NAME = "hopper-medium-v2"


def write_file(folder: Path, rows: int) -> None:
    """A file as D4RL publishes them: 11 and 3 numbers a row, episodes of 1000."""
    rng = np.random.default_rng(0)
    with h5py.File(folder / f"{_NAME}.hdf5", "w") as file:
        file["observations"] = rng.standard_normal((rows, 11), np.float32)
        file["actions"] = rng.uniform(-1, 1, (rows, 3)).astype(np.float32)
        file["rewards"] = rng.standard_normal(rows, np.float32)
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % 1000 == 999


def best(function: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest of `repeats` timings in seconds, and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main(_: list[str]) -> None:
    """Prints the timings and writes them."""
    found, device, repeats = opening(), jax.devices()[0], REPEATS.value
    with tempfile.TemporaryDirectory() as folder:
        write_file(Path(folder), ROWS.value)
        read, dataset = best(lambda: legacy.read(_NAME, folder), repeats)

    def move() -> Any:
        return jax.block_until_ready(jax.device_put(transitions, device))

    converted, transitions = best(lambda: convert.to_transitions(dataset), repeats)
    moved, _ = best(move, repeats)
    numbers = {
        "read": read,
        "convert": converted,
        "to_device": moved,
        "convert_and_to_device": converted + moved,
    }
    print(f"Seconds for {ROWS.value:,} rows ({device.device_kind}).")
    for name, seconds in numbers.items():
        print(f"{name:24}{seconds:8.3f}")
    write(JSON.value, {"machine": found, "rows": ROWS.value, "seconds": numbers})


if __name__ == "__main__":
    cli.run(main)
