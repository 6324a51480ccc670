"""Tunes methods with the same effort each, then measures them on other seeds.

    offjax tune --methods=bc,iql --datasets=offjax/maze2d/medium-v0
        --config.actor_lr=1e-3,3e-4 [--search=grid|random|halving] [--num_trials=8]

Trials are trained on tuning seeds and judged on tuning episodes; the chosen setting is
trained anew on the final seeds and measured on the final episodes. Trials lie in
<runs_dir>/tuning/<name>/, out of the leaderboard's sight; the final runs in <runs_dir>,
with a record of the number of evaluations that led to them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.sweeps.protocol import Protocol
    from offjax.sweeps.tuning import Point, Trial

FLAGS = flags.FLAGS


def protocol(**given: Any) -> Protocol:
    """As the flags say, where nothing is given."""
    from offjax.sweeps.protocol import Protocol

    names = {field.name for field in dataclasses.fields(Protocol)} & set(FLAGS)
    values = {name: FLAGS[name].value for name in names} | given
    return Protocol(**values | {"num_steps": FLAGS.num_steps or 0})


def run_points(
    how: Protocol, method: str, dataset: str, points: list[Point], final: bool
) -> list[float]:
    """The mean score of every point; what is finished is not trained again."""
    from offjax.sweeps import tuning

    jobs = []
    for point in points:
        values = {name: (value,) for name, value in point.items()}
        jobs += how.jobs(method, dataset, values, final)
    paths = how.run(jobs, final)
    return [
        tuning.scores(path)[job.variants[0]]
        for job, path in zip(jobs, paths, strict=True)
    ]


def tune(
    how: Protocol, method: str, dataset: str, grid: dict[str, tuple]
) -> tuple[list[Trial], int]:
    """All trials of a method on a dataset, and the updates of the longest."""
    from offjax.sweeps import tuning

    search = FLAGS.search
    points = tuning.candidates(grid, search, FLAGS.num_trials, FLAGS.search_seed)
    plan = [(len(points), how.num_steps)]
    if search == "halving":
        if not how.num_steps:
            raise UserError("--search=halving needs --num_steps, which it divides.")
        plan = tuning.rungs(len(points), how.num_steps, FLAGS.eta)
    trials: list[Trial] = []
    for count, length in plan:
        if trials:
            points = tuning.survivors(trials[-len(points) :], count)
        rung = dataclasses.replace(how, num_steps=length)
        results = run_points(rung, method, dataset, points, final=False)
        for point, score in zip(points, results, strict=True):
            trials.append(tuning.Trial(point, length, score))
            print(f"{method} · {dataset} · {_text(point)}: {score:.1f}", flush=True)
    return trials, plan[-1][1]


def _text(point: Point) -> str:
    return ", ".join(f"{name}={value}" for name, value in point.items())


def _refuse_unread() -> None:
    """Raises `UserError` for flags that the kind of search does not read."""
    read = {"grid": (), "random": ("num_trials", "search_seed")}
    names = ("num_trials", "search_seed", "eta")
    for name in names:
        if FLAGS[name].present and name not in read.get(FLAGS.search, names):
            raise UserError(
                f"--search={FLAGS.search} does not use --{name}; leave that out."
            )


def define_flags() -> None:
    """The command's flags."""
    with cli.section("What is tuned"):
        flags.DEFINE_list("methods", [], "Methods.")
        flags.DEFINE_list("datasets", [], "Dataset ids.")
        flags.DEFINE_string("name", "tuning", "Name, for the records.")
        cli.define_preset()
        cli.declare_config()
        cli.define_count("num_steps", None, "Updates of every stage.")
    with cli.section("The search"):
        flags.DEFINE_enum(
            "search", "grid", ["grid", "random", "halving"],
            "How combinations are chosen.",
        )  # fmt: skip
        flags.DEFINE_integer(
            "num_trials", 0, "With --search=random or halving: combinations; 0: all."
        )
        flags.DEFINE_integer(
            "eta", 3, "With --search=halving: one in so many survives."
        )
        flags.DEFINE_integer("search_seed", 0, "Seed of the draw.")
        flags.DEFINE_integer("tune_seeds", 2, "Tuning seeds.")
        flags.DEFINE_integer("tune_seed", 1000, "First tuning seed.")
    with cli.section("The result"):
        flags.DEFINE_integer("num_seeds", 5, "Final seeds, from 0 on.")
        flags.DEFINE_integer("eval_episodes", 20, "Episodes per evaluation.")
        flags.DEFINE_string("runs_dir", "runs", "The run store.")
        cli.define_data_dir()
        flags.DEFINE_integer("max_parallel", 1, "Jobs at once.", lower_bound=1)


def main(argv: list[str]) -> None:
    """Tunes every method on every dataset, and measures what it chose."""
    del argv
    import jax

    jax.config.update("jax_platforms", "cpu")  # accelerators are left to the jobs
    from offjax.catalog.load import known_spec
    from offjax.runner import interrupts
    from offjax.runner.training import check
    from offjax.sweeps import tuning

    interrupts.listen()
    _refuse_unread()
    grid = cli.overrides(FLAGS.config)
    given = cli.with_steps(grid, FLAGS.num_steps)
    for name in ("methods", "datasets"):
        if not FLAGS[name].value:
            raise UserError(f"--{name} is missing.")
    if not grid:
        raise UserError("there is nothing to tune: give --config.NAME=VALUE,VALUE.")
    last = FLAGS.tune_seed + FLAGS.tune_seeds
    if FLAGS.tune_seed < FLAGS.num_seeds and last > 0:
        raise UserError(
            f"--tune_seed={FLAGS.tune_seed} is among the final seeds 0 … "
            f"{FLAGS.num_seeds - 1}; tune on others."
        )
    for dataset in FLAGS.datasets:  # before anything is collected or trained
        spec = known_spec(dataset, FLAGS.data_dir)
        for method in FLAGS.methods:
            check(method, FLAGS.preset, given, dataset, spec)
    how = protocol()
    for dataset in FLAGS.datasets:
        for method in FLAGS.methods:
            trials, steps = tune(how, method, dataset, grid)
            chosen = tuning.best(trials)
            longest = dataclasses.replace(how, num_steps=steps)
            (final,) = run_points(longest, method, dataset, [chosen.point], final=True)
            how.record(dataset, method, trials, final, FLAGS.search)
            print(
                f"{method} · {dataset}: {_text(chosen.point)}, chosen from "
                f"{len(trials)} evaluations with {chosen.score:.1f}, scores "
                f"{final:.1f} on the final seeds",
                flush=True,
            )
