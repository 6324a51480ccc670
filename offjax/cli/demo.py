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

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from offjax.cli import command as cli

if TYPE_CHECKING:
    from offjax.datasets.dataset import Dataset

FLAGS = flags.FLAGS


BUDGET, MAZE = "offjax/budget/t50-smooth-v0", "offjax/maze2d/umaze-v0"
HOPPER, SCENE = "offjax/hopper/medium-expert-v0", "offjax/scene/play-v0"
PLAN = {
    BUDGET: ["bc", "percent_bc", "asp_k1", "asp_mle", "asp"],
    MAZE: ["bc", "percent_bc", "asp", "iql", "cfpi", "reinformer", "reinformer_ag"],
    HOPPER: ["bc", "percent_bc", "td3_bc"],
    SCENE: ["hulc", "lcd"],
}
"""Dataset → methods."""
SIZES = {HOPPER: 50_000, SCENE: 40_000}
"""Transitions of the datasets that take long to collect."""
EPISODES = {HOPPER: 5, SCENE: 22}
"""Episodes per seed and evaluation where environments are stepped on the host."""


def _load(name: str) -> Dataset:
    """A dataset that is there, else collected at the demonstration's size."""
    from offjax.catalog.load import collect_dataset, load_dataset
    from offjax.datasets import minari_io

    root = _data_dir()
    if minari_io.exists(name, root):
        return load_dataset(name, root)
    return collect_dataset(name, SIZES.get(name), data_dir=root, progress=print)


def _data_dir() -> Path:
    """Not the usual root: other commands would take its small datasets for theirs."""
    return Path(FLAGS.data_dir or Path(FLAGS.runs_dir) / "data")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_integer("num_seeds", 4, "Seeds of every method.")
    flags.DEFINE_string("runs_dir", "runs/demo", "Where run folders go.")
    flags.DEFINE_string(
        "data_dir", None, "Root of the datasets; by default data/ in --runs_dir."
    )
    cli.define_host_devices()


def main(argv: list[str]) -> None:
    """Trains what `PLAN` names, and shows it."""
    del argv
    from offjax import leaderboard
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.options import Options
    from offjax.runner.records import find_runs
    from offjax.runner.train import train
    from offjax.runner.training import Training, make_jobs

    options = Options(
        num_seeds=FLAGS.num_seeds,
        runs_dir=FLAGS.runs_dir,
        max_devices=prepare_host_devices(FLAGS.host_devices),
    )
    options.validate()
    begin = time.perf_counter()
    for name, methods in PLAN.items():
        dataset = _load(name)
        print(dataset.card, flush=True)
        # On device evaluations are cheap enough to be made along the way.
        along = 0 if name in EPISODES else 1000
        episodes = EPISODES.get(name, options.eval_episodes)
        here = dataclasses.replace(options, eval_every=along, eval_episodes=episodes)
        for method in methods:
            (job,) = make_jobs(method, "demo", dataset, {})
            before = find_runs(Path(options.runs_dir), method, name)
            mine = dataclasses.replace(here, resume=bool(before))
            train(Training.of(job, method, "demo", dataset, mine))
    print()
    print(leaderboard.table(FLAGS.runs_dir))
    print(f"page: {leaderboard.write_page(FLAGS.runs_dir)}")
    print(f"data: {_data_dir()}")
    print(f"done in {time.perf_counter() - begin:.0f} s")
