"""Datasets of one shape in one program, beside a run for each.

    python -m benchmarks.datasets [--method=td3_bc] [--num_steps=10000] [--json=FILE]

Nine datasets, three of each robot, are trained on twice: one command for each, in turn,
and one command for those of a robot (`--dataset=A,B,C`). Both begin without compiled
programs. Told are the seconds of all commands, from start to end, how often they
compiled, and whether all states are equal, bit for bit.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS
KINDS = "random", "medium", "expert"


def columns() -> list[list[str]]:
    """Dataset ids, those of a robot together."""
    return [[f"offjax/{robot}/{kind}-v1" for kind in KINDS] for robot in FLAGS.robots]


def trained(groups: Sequence[Sequence[str]], folder: Path, data_dir: str) -> float:
    """Seconds of a command for each group of datasets."""
    environment = os.environ | {"OFFJAX_CACHE": str(folder / "cache")}
    begin = time.perf_counter()
    for names in groups:
        command = [
            sys.executable, "-m", "offjax", "run", f"--method={FLAGS.method}",
            f"--dataset={','.join(names)}", f"--num_steps={FLAGS.num_steps}",
            f"--num_seeds={FLAGS.num_seeds}", f"--runs_dir={folder / 'runs'}",
            f"--data_dir={data_dir}",
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{' '.join(command)} failed: {done.stderr[-500:]}")
    seconds = time.perf_counter() - begin
    print(f"{len(groups)} commands: {seconds:.0f} s", flush=True)
    return seconds


def found(folder: Path, data_dir: str) -> dict[str, Any]:
    """Dataset → its run."""
    import offjax
    from offjax.catalog.load import load_dataset

    runs = {}
    for names in columns():
        for name in names:
            (path,) = (folder / "runs" / FLAGS.method / name).glob("[0-9]*")
            runs[name] = offjax.load_run(path, load_dataset(name, data_dir))
    return runs


def compilations(runs: dict[str, Any]) -> int:
    """How many programs the runs compiled."""
    return sum(sum(r.folder.record["compilations"].values()) for r in runs.values())


def equal(alone: dict[str, Any], together: dict[str, Any]) -> bool:
    """Whether states and scores are the same, bit for bit."""
    import jax
    import numpy as np

    for name, run in alone.items():
        pairs = zip(
            jax.tree.leaves(run.states), jax.tree.leaves(together[name].states),
            strict=True,
        )  # fmt: skip
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in pairs):
            return False
        files = [(r.path / "episodes.csv").read_text() for r in (run, together[name])]
        if files[0] != files[1]:
            return False
    return True


def main(argv: list[str]) -> None:
    """Prints both times, their ratio, and what else is told."""
    del argv
    from benchmarks.harness import opening, write
    from offjax.catalog.load import collect_dataset

    machine = opening()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data_dir = FLAGS.data_dir or str(folder / "data")
        for names in columns():
            for name in names:
                collect_dataset(name, FLAGS.rows, data_dir=data_dir)
        singles = [[name] for names in columns() for name in names]
        alone = trained(singles, folder / "alone", data_dir)
        together = trained(columns(), folder / "together", data_dir)
        runs = [found(folder / how, data_dir) for how in ("alone", "together")]
        result = {
            "machine": machine,
            "datasets": sum(map(len, columns())),
            "alone_seconds": alone,
            "together_seconds": together,
            "ratio": together / alone,
            "alone_compilations": compilations(runs[0]),
            "together_compilations": compilations(runs[1]),
            "equal": equal(*runs),
        }
    print(
        f"{FLAGS.method}, {result['datasets']} datasets, {FLAGS.num_seeds} seeds: "
        f"{alone:.0f} s in turn, {together:.0f} s together, {together / alone:.2f} ×; "
        f"{result['alone_compilations']} and {result['together_compilations']} "
        f"programs compiled; states and episodes "
        f"{'equal' if result['equal'] else 'DIFFER'}"
    )
    write(FLAGS.json, result)


if __name__ == "__main__":
    flags.DEFINE_string("method", "td3_bc", "Method, preset small.")
    flags.DEFINE_list("robots", ["hopper", "walker2d", "halfcheetah"], "Robots.")
    flags.DEFINE_integer("num_steps", 10_000, "Updates of every stage.", 1)
    flags.DEFINE_integer("num_seeds", 5, "Seeds on each dataset.", 1)
    flags.DEFINE_integer("rows", 50_000, "Transitions of each dataset.", 1)
    flags.DEFINE_string("data_dir", None, "Root of the datasets; else collected anew.")
    flags.DEFINE_string("json", None, "File for the results.")
    cli.run(main)
