"""Carries out many runs: methods × datasets × settings, here or on a Ray cluster.

    offjax sweep --methods=bc,iql --datasets=offjax/maze2d/umaze-v0 --dry_run
    offjax sweep --methods=bc,iql --datasets=offjax/maze2d/umaze-v0
        --config.actor_lr=1e-3,3e-4 --name=first [--resume]
    offjax sweep --sweep_file=sweep.json --engine=ray

Values of traced hyperparameters are packed into one program with the seeds; the other
values, methods and datasets are jobs. What is finished in --runs_dir is skipped.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.datasets.dataset import Dataset
    from offjax.sweeps.engine import Outcome, Place
    from offjax.sweeps.plan import Entry, Job

FLAGS = flags.FLAGS
OPTIONS = ("num_seeds", "seed", "eval_every", "eval_episodes", "eval_seed")
IN_FILE = ("methods", "datasets", "preset", *OPTIONS)
"""Flags that a sweep file makes up for."""
OF_ENGINE = {
    "local": ("ray_address", "cpus_per_job", "gpus_per_job"),
    "ray": ("gpus",),
}
"""Engine → flags that it does not read."""


def entries() -> list[Entry]:
    """What the flags, or the sweep file, ask for."""
    from offjax.sweeps import plan

    config = cli.with_steps(cli.overrides(FLAGS.config), FLAGS.num_steps)
    if FLAGS.sweep_file:
        given = [f"--{name}" for name in IN_FILE if FLAGS[name].present]
        given += ["--config"] if config else []
        if given:
            raise UserError(
                f"--sweep_file says what is trained; leave {', '.join(given)} out, or "
                "write it into the file."
            )
        return plan.parse_file(FLAGS.sweep_file)
    for name in ("methods", "datasets"):
        if not FLAGS[name].value:
            raise UserError(f"--{name} is missing, or give a --sweep_file.")
    options = {name: FLAGS[name].value for name in OPTIONS}
    methods, datasets = tuple(FLAGS.methods), tuple(FLAGS.datasets)
    return [plan.Entry(methods, datasets, FLAGS.preset, config, options)]


def place() -> Place:
    """Where the jobs write, and with how many devices each."""
    from offjax.sweeps.engine import Place, cores_each

    devices = FLAGS.host_devices
    if devices is None and FLAGS.engine == "ray":
        devices = max(1, int(FLAGS.cpus_per_job))
    elif devices is None and FLAGS.max_parallel > 1:
        devices = cores_each(FLAGS.max_parallel)
    return Place(
        str(Path(FLAGS.runs_dir).resolve()),
        FLAGS.name,
        FLAGS.data_dir,
        devices,
        FLAGS.retries,
        FLAGS.stall_seconds,
    )


def begin(where: Place, jobs: list[Job]) -> None:
    """Writes the sweep's record; refuses a name that is taken by another sweep."""
    from offjax.runner.records import read_json, write_json
    from offjax.sweeps.engine import code_identity

    record = where.folder / "sweep.json"
    if record.exists() and not FLAGS.resume:
        raise UserError(
            f"a sweep {FLAGS.name!r} is in {where.folder} already; pass --resume to "
            "go on with it, or another --name."
        )
    hashes = [job.hash for job in jobs]
    if record.exists():
        missing = set(read_json(record)["jobs"]) - set(hashes)
        if missing:
            raise UserError(
                f"--resume: the sweep {FLAGS.name!r} has {len(missing)} jobs that "
                "this command does not name; give its flags again, or another --name."
            )
    where.folder.mkdir(parents=True, exist_ok=True)
    content = {"jobs": hashes, "labels": [job.label for job in jobs]}
    write_json(record, content | code_identity())


def carry_out(jobs: list[Job], where: Place) -> dict[str, Outcome]:
    """Runs the jobs with the engine that the flags name."""
    from offjax.sweeps import local, on_ray
    from offjax.sweeps.lines import Lines

    table = Lines(jobs, where, functools.partial(print, flush=True))
    if FLAGS.engine == "local":
        parallel = FLAGS.max_parallel or 1
        together = parallel == 1 if FLAGS.together is None else FLAGS.together
        return local.run(jobs, where, table, parallel, FLAGS.gpus, together)
    return on_ray.run(
        jobs,
        where,
        table,
        FLAGS.ray_address,
        FLAGS.max_parallel,
        FLAGS.cpus_per_job,
        FLAGS.gpus_per_job,
        bool(FLAGS.together),
    )


def load(name: str) -> Dataset | None:
    """The dataset; None where --dry_run would have to collect or download it."""
    from offjax.catalog.load import lies_here, load_dataset

    if FLAGS.dry_run and not lies_here(name, FLAGS.data_dir):
        print(f"{name} is not here: the sweep collects or downloads it")
        return None
    return load_dataset(name, FLAGS.data_dir, progress=print)


def define_flags() -> None:
    """The command's flags."""
    with cli.section("What is trained"):
        flags.DEFINE_list("methods", [], "Methods.")
        flags.DEFINE_list("datasets", [], "Dataset ids.")
        flags.DEFINE_string("sweep_file", None, "JSON with the sweep's entries.")
        flags.DEFINE_string("name", "sweep", "Name of the sweep.")
        cli.define_preset()
        cli.declare_config()
        cli.define_count("num_steps", None, "Updates of every stage.")
        flags.DEFINE_integer("num_seeds", 5, "Number of seeds.")
        flags.DEFINE_integer("seed", 0, "First seed.")
    with cli.section("Evaluation"):
        cli.define_count("eval_every", 0, "Updates between evaluations.")
        flags.DEFINE_integer("eval_episodes", 20, "Episodes per evaluation.")
        flags.DEFINE_integer("eval_seed", 0, "Which set of evaluation episodes.")
    with cli.section("The jobs"):
        flags.DEFINE_bool("dry_run", False, "Print the jobs, and stop.")
        flags.DEFINE_bool("resume", False, "Go on with the sweep of this name.")
        flags.DEFINE_string("runs_dir", "runs", "The run store.")
        cli.define_data_dir()
        flags.DEFINE_enum("engine", "local", ["local", "ray"], "What runs the jobs.")
        flags.DEFINE_integer(
            "max_parallel", 0, "Jobs at once; 0: one (local), as many as fit (ray)."
        )
        flags.DEFINE_bool(
            "together", None,
            "Train datasets of one shape in one job; by default where one job runs at "
            "a time.",
        )  # fmt: skip
        flags.DEFINE_integer("retries", 2, "Further tries of a job that died.")
        flags.DEFINE_float(
            "stall_seconds", 0.0,
            "Kill and retry a job that is silent so long; 0: never.",
        )  # fmt: skip
    with cli.section("Devices"):
        flags.DEFINE_integer(
            "host_devices", None,
            "CPU devices of a job; by default the cores are shared out.",
        )  # fmt: skip
        flags.DEFINE_list("gpus", [], "With --engine=local: GPU ids, one to each job.")
        flags.DEFINE_string("ray_address", None, "A running cluster, or `auto`.")
        flags.DEFINE_float("cpus_per_job", 1.0, "With --engine=ray: CPUs of a job.")
        flags.DEFINE_float("gpus_per_job", 0.0, "With --engine=ray: GPUs of a job.")


def main(argv: list[str]) -> None:
    """Plans, skips what is finished, runs the rest, and says what became of it."""
    del argv
    import jax

    # The planner computes nothing: accelerators are left to the jobs, which inherit
    # the environment but not this.
    jax.config.update("jax_platforms", "cpu")
    from offjax.catalog.load import known_spec
    from offjax.runner import interrupts
    from offjax.sweeps import plan

    for name in OF_ENGINE[FLAGS.engine]:
        if FLAGS[name].present:
            raise UserError(f"--engine={FLAGS.engine} does not use --{name}; omit it.")
    wanted, where = entries(), place()
    jobs = plan.expand(
        wanted, load, FLAGS.name, lambda name: known_spec(name, FLAGS.data_dir)
    )
    runs_dir = Path(where.runs_dir)
    at = {job.hash: plan.progress(job, runs_dir) for job in jobs}
    todo = [job for job in jobs if at[job.hash].status != "finished"]
    print(f"{len(jobs)} jobs, {len(jobs) - len(todo)} of them finished before")
    if FLAGS.dry_run:
        for job in jobs:
            print(f"{at[job.hash].status:11s} {job.label}")
        return
    interrupts.listen()
    begin(where, jobs)
    outcomes = carry_out(todo, where)
    failed = [job for job in todo if outcomes[job.hash].status != "finished"]
    for job in failed:
        outcome = outcomes[job.hash]
        print(f"{outcome.status}: {job.label}: {outcome.reason} ({where.log(job)})")
    print(f"{len(jobs) - len(failed)} of {len(jobs)} finished; {where.folder}")
    if failed:
        print("run the same command with --resume to go on with the rest")
        sys.exit(1)
