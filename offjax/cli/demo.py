"""Trains the main methods at a size that a laptop finishes in minutes: `make run`.

    offjax demo

Collects four datasets, trains the methods and their baselines over several seeds,
evaluates them, prints the leaderboard and writes its page. Runs that are finished are
kept: called again, only what is missing is trained.

Some datasets are smaller than other commands collect them, so that they lie beside the
runs: a command that is to read one, such as `offjax evaluate` on one of the runs,
is given --data_dir=runs/demo/data.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import time
from importlib import metadata
from pathlib import Path

from absl import flags

FLAGS = flags.FLAGS
MOST_JOBS = 4
"""Runs side by side; each takes up to 2 GB of memory."""


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string(
        "file", None, "Benchmark that is filled; by default the demonstration's."
    )
    flags.DEFINE_integer(
        "num_seeds", None, "Seeds of every method; by default the file's."
    )
    flags.DEFINE_integer("seed", None, "First seed; by default the file's.")
    flags.DEFINE_string("runs_dir", "runs/demo", "Where run folders go.")
    flags.DEFINE_string(
        "data_dir", None, "Root of the datasets; by default data/ in --runs_dir."
    )
    flags.DEFINE_integer(
        "max_parallel", None,
        "Runs at once; by default one per core, at most four; beside an accelerator "
        "one.",
        lower_bound=1,
    )  # fmt: skip


def _accelerated() -> bool:
    """Whether JAX has a plugin for an accelerator: runs side by side would share it."""
    plugins = metadata.entry_points(group="jax_plugins")  # GPUs; TPUs have libtpu
    return bool(plugins) or importlib.util.find_spec("libtpu") is not None


def main(argv: list[str]) -> None:
    """Trains the benchmark `demo`, and shows it."""
    del argv
    import jax

    jax.config.update("jax_platforms", "cpu")  # accelerators are left to the runs
    from offjax import leaderboard
    from offjax.runner import interrupts
    from offjax.sweeps import benchmark
    from offjax.sweeps.engine import Place, cores_each

    interrupts.listen()
    suite = benchmark.read(FLAGS.file or benchmark.DEMO)
    given = {"num_seeds": FLAGS.num_seeds, "seed": FLAGS.seed}
    suite = suite.with_protocol(**{n: v for n, v in given.items() if v is not None})
    cores = len(os.sched_getaffinity(0))
    parallel = FLAGS.max_parallel or (1 if _accelerated() else min(cores, MOST_JOBS))
    # Not the usual root: other commands would take these small datasets for theirs.
    data = FLAGS.data_dir or str(Path(FLAGS.runs_dir) / "data")
    place = Place(
        str(Path(FLAGS.runs_dir).resolve()), suite.name, data, cores_each(parallel)
    )
    begin = time.perf_counter()
    say = functools.partial(print, flush=True)
    failed = benchmark.fill(suite, place, parallel, say=say, by_column=False)
    if interrupts.requested():
        print("stopped; `offjax demo` goes on where it was")
        raise interrupts.Interrupted
    benchmark.require_none(failed, place)
    print()
    print(leaderboard.table(FLAGS.runs_dir))
    print(f"page: {leaderboard.write_page(FLAGS.runs_dir)}")
    print(f"data: {data}")
    print(f"done in {time.perf_counter() - begin:.0f} s")
