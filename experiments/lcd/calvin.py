"""CALVIN's own data and benchmark: train on a folder of it, and test where it runs.

    python -m experiments.lcd.calvin --folder=task_D_D --method=lcd [--held_out]
        [--preset=small|paper|demo] [--num_seeds=3] [--config.NAME=VALUE]
    python -m experiments.lcd.calvin --folder=task_D_D --run=runs/lcd/…
        [--protocol=chains|single|held_out] [--num_chains=1000] [--count=20]

The first reads the split `training` (states, no images) and trains a method on it;
--held_out keeps five tasks from the planner (table 4.2 of Language Control Diffusion).
The second carries out tasks in CALVIN's simulator, which has to be installed
(`offjax.envs.calvin` says how), in the words of the split `validation`:

    chains    the long-horizon benchmark: five tasks in a row, 1000 chains
    single    each of the 34 tasks, --count times, after what it cannot do without
    held_out  of those the five that --held_out keeps from the planner

Numbers go to trials/ in the run's folder. CALVIN's sentence embeddings are used with
--config.text_encoder=table --config.text_weights=task_D_D.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from experiments.tables import write_csv
from offjax.cli import command as cli
from offjax.datasets import calvin as data
from offjax.envs import calvin as simulator
from offjax.errors import UserError
from offjax.evaluation import chains, instructions
from offjax.evaluation.host import num_places
from offjax.evaluation.instructions import Outcome, Trial, evaluate

if TYPE_CHECKING:
    from offjax.runner.run import Run

FLAGS = flags.FLAGS
PROTOCOLS = ("chains", "single", "held_out")
CHAINS, POOL = 1_000, 10_000
"""Of the benchmark, and those that single tasks are cut from."""
Row = tuple[str, int, str, float, int]
"""Variant, seed, measure, value, number of trials."""


def trials(
    protocol: str, said: Mapping[str, str], num_chains: int = 0, count: int = 20
) -> dict[str, list[Trial]]:
    """Name of a measure → its trials.

    Args:
      protocol: one of `PROTOCOLS`.
      said: sentence of each task.
      num_chains: that are drawn; 0 for 1,000 chains, or 10,000 for single tasks.
      count: trials of each single task.

    Raises:
      UserError: a task has no sentence, or occurs in too few chains.
    """
    if protocol == "chains":
        given = chains.generate(num_chains or CHAINS)
        return {"chains": instructions.of_chains(given, said)}
    tasks = chains.HELD_OUT if protocol == "held_out" else tuple(chains.tasks())
    pool = chains.generate(num_chains or POOL)
    return {
        task: instructions.of_chains(chains.single_task(pool, task, count), said)
        for task in tasks
    }


def carry_out(
    run: Run,
    given: Sequence[Trial],
    processes: int,
    simulators: type[simulator.Simulators] | None = None,
) -> Outcome:
    """What every setting and seed of a run makes of trials, in CALVIN's simulator.

    Args:
      run: trained on CALVIN's states.
      given: trials.
      processes: that simulate; 0 for none but this one.
      simulators: as of `offjax.envs.calvin.Calvin`.

    Raises:
      UserError: the simulator is not installed, or shows other observations than the
        run was trained on.
    """
    spec, seeds = run.training.dataset.spec, run.evaluator.slot_seeds
    assert spec is not None
    wanted = -(-max(processes, 1) // len(seeds))  # a simulator for each core
    places = min(wanted, num_places(len(seeds), len(given)))
    env = simulator.Calvin(len(seeds) * places, processes, simulators=simulators)
    try:
        if env.observation_dim != spec.observation_dim:
            raise UserError(
                f"{run.path} was trained on {spec.observation_dim} numbers a frame, "
                f"but CALVIN's simulator shows {env.observation_dim}: train on a "
                "folder of CALVIN's own frames."
            )
        return evaluate(run.evaluator.batched(places), env, given, seeds)
    finally:
        env.close()


def rows(run: Run, named: Mapping[str, Sequence[Trial]], outcome: Outcome) -> list[Row]:
    """Percentages of each setting and seed: of chains, or of single tasks.

    Args:
      run: what acted.
      named: as of `trials`.
      outcome: of all trials of `named`, one after another.
    """
    names = [(v, s) for v in run.variants for s in run.training.options.seeds]
    found: list[Row] = []
    for (variant, seed), solved in zip(names, outcome.solved, strict=True):
        if "chains" in named:
            rates = 100 * chains.success_rates(solved)
            values = {f"chain {i}": r for i, r in enumerate(rates, start=1)}
            values["chain average"] = chains.average_length(solved)
            counts = dict.fromkeys(values, len(solved))
        else:
            lengths = [len(trial.names) for each in named.values() for trial in each]
            done = np.split(solved == lengths, np.cumsum([*map(len, named.values())]))
            values = {n: 100 * d.mean() for n, d in zip(named, done[:-1], strict=True)}
            values["average"] = np.mean([*values.values()])
            counts = {n: len(each) for n, each in named.items()}
            counts["average"] = len(solved)
        found += [(variant, seed, n, float(v), counts[n]) for n, v in values.items()]
    return found


def write(path: Path, found: Sequence[Row]) -> None:
    """Writes the rows, and tells means over the seeds."""
    header = ("variant", "seed", "measure", "value", "trials")
    write_csv(path, header, [(*row[:3], f"{row[3]:.6g}", row[4]) for row in found])
    for variant, measure in dict.fromkeys((row[0], row[2]) for row in found):
        values = [r[3] for r in found if (r[0], r[2]) == (variant, measure)]
        print(f"{variant}  {measure:24} {np.mean(values):7.2f}  ({len(values)} seeds)")
    print(f"written: {path}")


def held_out(overrides: dict[str, tuple]) -> dict[str, tuple]:
    """Overrides with which the planner does not see the five tasks."""
    return {"planner.held_out": (chains.HELD_OUT,), **overrides}


def train() -> None:
    """Trains the method that the flags name."""
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner import interrupts
    from offjax.runner.options import Options
    from offjax.runner.train import train as run_training
    from offjax.runner.training import Training, check, make_jobs

    interrupts.listen()
    options = Options(
        num_seeds=FLAGS.num_seeds,
        seed=FLAGS.seed,
        runs_dir=FLAGS.runs_dir,
        resume=FLAGS.resume,
        max_devices=prepare_host_devices(None),
    )
    options.validate()
    overrides = cli.overrides(FLAGS.config)
    overrides = held_out(overrides) if FLAGS.held_out else overrides
    check(FLAGS.method, FLAGS.preset, overrides)  # errors before data are read
    dataset = data.read(FLAGS.folder)
    print(dataset.card, flush=True)
    jobs = make_jobs(FLAGS.method, FLAGS.preset, dataset, overrides)
    for job in jobs:
        planned = Training.of(job, FLAGS.method, FLAGS.preset, dataset, options)
        print(f"run: {run_training(planned).path}")


def test() -> None:
    """Carries out a protocol with the run that the flags name."""
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.run import load_run

    problem = simulator.is_available()
    if problem is not None:
        raise UserError(f"{FLAGS.run} cannot be tested: {problem}.")
    prepare_host_devices(None)
    said = data.sentences(FLAGS.folder)
    run = load_run(FLAGS.run, data.read(FLAGS.folder))
    named = trials(FLAGS.protocol, said, FLAGS.num_chains, FLAGS.count)
    given = [trial for each in named.values() for trial in each]
    processes = FLAGS.processes or len(os.sched_getaffinity(0))
    outcome = carry_out(run, given, processes)
    path = run.path / "trials" / f"calvin-{FLAGS.protocol}-{len(given)}.csv"
    write(path, rows(run, named, outcome))


def main(_: list[str]) -> None:
    """Trains or tests."""
    if not FLAGS.folder:
        raise UserError("--folder is missing: a folder of CALVIN's, such as task_D_D.")
    if bool(FLAGS.run) == bool(FLAGS.method):
        raise UserError("Give --method to train one, or --run to test what it made.")
    (test if FLAGS.run else train)()


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("folder", None, "CALVIN's folder, such as task_D_D.")
    flags.DEFINE_string("method", None, "Method to train.")
    cli.define_preset()
    flags.DEFINE_integer("num_seeds", 3, "Seeds.")
    flags.DEFINE_integer("seed", 0, "First seed.")
    flags.DEFINE_string("runs_dir", "runs", "Where run folders go.")
    flags.DEFINE_bool("resume", False, "Continue the newest unfinished run.")
    flags.DEFINE_bool("held_out", False, "Keep five tasks from the planner.")
    flags.DEFINE_string("run", None, "Folder of a finished run, to test it.")
    flags.DEFINE_enum("protocol", "chains", PROTOCOLS, "What is tested.")
    flags.DEFINE_integer("num_chains", 0, "Chains drawn; 0: as published.", 0)
    flags.DEFINE_integer("count", 20, "Trials of each single task.", 1)
    flags.DEFINE_integer("processes", 0, "That simulate; 0: one for each core.", 0)
    cli.declare_config()


if __name__ == "__main__":
    define_flags()
    cli.run(main)
