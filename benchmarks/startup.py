"""From the command to the first update, and to the end: what a user waits for.

    python -m benchmarks.startup [--method=td3_bc] [--dataset=ID] [--updates=2000]
        [--json=FILE]

Calls of experiments.run, each a fresh process. The first update has happened when its
metrics are on disk. "cold" begins with an empty folder of compiled programs, "cached"
finds those of the cold call. End to end: seed-steps of `--num_seeds` seeds over the
whole wall time, with imports, data, compiling, checkpoints and the evaluation.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS


def _command(folder: Path, updates: int, seeds: int) -> list[str]:
    return [
        *(sys.executable, "-m", "experiments.run"),
        f"--method={FLAGS.method}",
        f"--dataset={FLAGS.dataset}",
        "--preset=paper",
        f"--num_steps={updates}",
        f"--num_seeds={seeds}",
        "--eval_episodes=1",
        f"--runs_dir={folder / 'runs'}",
        "--noreuse_stages",
    ]


def _start(command: list[str], cache: Path) -> subprocess.Popen:
    variables = {"OFFJAX_CACHE": str(cache)}
    kept = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    return subprocess.Popen(
        command, env=kept | variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _finish(process: subprocess.Popen) -> None:
    _, error = process.communicate()
    if process.returncode:
        raise UserError(f"experiments.run failed: {error.decode().strip()[-300:]}")


def first_update(cache: Path) -> float:
    """Seconds from the command until the first update's metrics are on disk."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        process = _start(_command(Path(folder), 1, 1), cache)
        while process.poll() is None:
            files = list(Path(folder).rglob("metrics.csv"))
            if files and files[0].read_text().count("\n") > 1:
                break
            time.sleep(0.01)
        seconds = time.perf_counter() - begin
        _finish(process)
    return seconds


def end_to_end(cache: Path) -> float:
    """Seed-steps per second of wall time."""
    from offjax.methods import build

    stage = build(FLAGS.method, None, "paper").stages[0]
    steps = FLAGS.updates * getattr(stage.config, "policy_freq", 1) * FLAGS.num_seeds
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        _finish(_start(_command(Path(folder), FLAGS.updates, FLAGS.num_seeds), cache))
        return steps / (time.perf_counter() - begin)


def main(argv: list[str]) -> None:
    """Prints medians over rounds."""
    del argv
    from benchmarks.harness import opening, write
    from offjax.catalog.load import load_dataset

    result: dict[str, Any] = {"machine": opening()}
    load_dataset(FLAGS.dataset, progress=print)  # collected before anything is timed
    cold, cached = [], []
    with tempfile.TemporaryDirectory() as place:
        for i in range(FLAGS.rounds):
            cache = Path(place) / str(i)
            cold.append(first_update(cache))
            cached.append(first_update(cache))
        found = {
            "first update, cold": statistics.median(cold),
            "first update, cached": statistics.median(cached),
            "end to end, seed-steps/s": end_to_end(cache),
        }
    for name, value in found.items():
        print(f"{name:26} {value:10,.2f}")
    write(FLAGS.json, result | found)


if __name__ == "__main__":
    flags.DEFINE_string("method", "td3_bc", "Method of a single stage.")
    flags.DEFINE_string("dataset", "offjax/budget/t50-smooth-v0", "Dataset.")
    flags.DEFINE_integer("updates", 2000, "Updates of the whole training.")
    flags.DEFINE_integer("num_seeds", 8, "Seeds of the whole training.")
    flags.DEFINE_integer("rounds", 3, "Calls of each kind.", 1)
    flags.DEFINE_string("json", None, "File for the results.")
    cli.run(main)
