"""What a sweep's engine costs: short jobs on Ray beside the same ones by hand.

    python -m benchmarks.sweeps [--jobs=12] [--num_steps=2000] [--json=FILE]

By hand means `python -m experiments.run` for one job after the other. The engine runs
the same jobs one at a time, with as many CPU devices; the start of the Ray cluster is
left out, the start of every job is in both. Data are collected before.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import flags

from offjax.cli import command as cli

FLAGS = flags.FLAGS
DATASET = "offjax/budget/t10-smooth-v0"


def batch_sizes() -> list[int]:
    """What tells the jobs apart."""
    return [32 + i for i in range(FLAGS.jobs)]


def by_hand(runs_dir: Path) -> float:
    """Seconds of the jobs, one command after the other."""
    begin = time.perf_counter()
    for size in batch_sizes():
        command = [
            sys.executable, "-m", "experiments.run", "--method=bc", "--preset=demo",
            f"--dataset={DATASET}", f"--runs_dir={runs_dir}", "--num_seeds=2",
            f"--num_steps={FLAGS.num_steps}", f"--config.batch_size={size}",
            "--host_devices=2",
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def on_engine(runs_dir: Path) -> float:
    """Seconds of the same jobs on a local Ray cluster that is up already."""
    from offjax.catalog.load import load_dataset
    from offjax.sweeps import on_ray, plan
    from offjax.sweeps.engine import Place

    on_ray.connect(None)
    config = {"num_steps": (FLAGS.num_steps,), "batch_size": tuple(batch_sizes())}
    entry = plan.Entry(("bc",), (DATASET,), "demo", config, {"num_seeds": 2})
    jobs = plan.expand([entry], load_dataset, "benchmark")
    place = Place(str(runs_dir), "benchmark", host_devices=2)
    begin = time.perf_counter()
    outcomes = on_ray.run(jobs, place, lambda outcomes: None, max_parallel=1)
    seconds = time.perf_counter() - begin
    assert {o.status for o in outcomes.values()} == {"finished"}, outcomes
    return seconds


def main(argv: list[str]) -> None:
    """Prints both times and their ratio."""
    del argv
    import jax

    from benchmarks.harness import opening, write
    from offjax.catalog.load import load_dataset

    jax.config.update("jax_platforms", "cpu")
    found = opening()
    load_dataset(DATASET, progress=print)
    with tempfile.TemporaryDirectory() as folder:
        hand = by_hand(Path(folder) / "hand")
        engine = on_engine(Path(folder) / "engine")
    result = {
        "machine": found,
        "jobs": FLAGS.jobs,
        "by_hand_seconds": hand,
        "engine_seconds": engine,
        "ratio": engine / hand,
    }
    print(
        f"{FLAGS.jobs} jobs: {hand:.1f} s by hand, {engine:.1f} s on the engine, "
        f"{engine / hand:.2f} ×"
    )
    write(FLAGS.json, result)


if __name__ == "__main__":
    flags.DEFINE_integer("jobs", 12, "Number of jobs.", 1)
    flags.DEFINE_integer("num_steps", 2000, "Updates of a job.", 1)
    flags.DEFINE_string("json", None, "File for the results.")
    cli.run(main)
