"""Tunes methods with the same effort each, then measures them on other seeds.

    offjax tune --methods=bc,iql --datasets=offjax/maze2d/medium-v0
        --config.actor_lr=1e-3,3e-4 [--search=grid|random|halving] [--num_trials=8]

Trials are trained on tuning seeds and judged on tuning episodes; the chosen setting is
trained anew on the final seeds and measured on the final episodes. Trials lie in
<runs_dir>/tuning/<name>/, out of the leaderboard's sight; the final runs in <runs_dir>,
with a record of the number of evaluations that led to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.sweeps.tuning import Point, Trial

FLAGS = flags.FLAGS


def run_points(
    method: str, dataset: str, points: list[Point], num_steps: int, final: bool
) -> list[float]:
    """Trains every point, and returns its mean score; what is finished is kept."""
    from offjax.catalog.load import load_dataset
    from offjax.runner import interrupts
    from offjax.sweeps import local, plan, tuning
    from offjax.sweeps.engine import Place, cores_each

    seeds = (FLAGS.num_seeds, 0) if final else (FLAGS.tune_seeds, FLAGS.tune_seed)
    options = {
        "num_seeds": seeds[0],
        "seed": seeds[1],
        "eval_episodes": FLAGS.eval_episodes,
        "eval_seed": 0 if final else 1,
    }
    store = Path(FLAGS.runs_dir).resolve()
    store = store if final else store / "tuning" / FLAGS.name
    jobs = []
    for point in points:
        values = {name: (value,) for name, value in point.items()}
        if num_steps:
            values = {"num_steps": (num_steps,)} | values
        entry = plan.Entry((method,), (dataset,), FLAGS.preset, values, options)
        jobs += plan.expand(
            [entry], lambda name: load_dataset(name, FLAGS.data_dir), FLAGS.name
        )
    devices = cores_each(FLAGS.max_parallel)
    place = Place(str(store), FLAGS.name, FLAGS.data_dir, devices)
    at = {job.hash: plan.progress(job, store) for job in jobs}
    todo = [job for job in jobs if at[job.hash].status != "finished"]
    outcomes = local.run(todo, place, lambda outcomes: None, FLAGS.max_parallel)
    if interrupts.requested():
        print("stopped; the same command goes on where it was")
        raise interrupts.Interrupted
    scores = []
    for job in jobs:
        now = plan.progress(job, store)
        if now.status != "finished" or now.path is None:
            reason = outcomes[job.hash].reason
            raise UserError(
                f"{job.label} did not finish ({reason}; {place.log(job)}). Mend it, "
                "and give the command again: what is finished is kept."
            )
        scores.append(tuning.scores(now.path)[job.variants[0]])
    return scores


def tune(method: str, dataset: str, grid: dict[str, tuple]) -> tuple[list[Trial], int]:
    """All trials of a method on a dataset, and the updates of the longest."""
    from offjax.sweeps import tuning

    search, steps = FLAGS.search, FLAGS.num_steps or 0
    points = tuning.candidates(grid, search, FLAGS.num_trials, FLAGS.search_seed)
    plan = [(len(points), steps)]
    if search == "halving":
        if not steps:
            raise UserError("--search=halving needs --num_steps, which it divides.")
        plan = tuning.rungs(len(points), steps, FLAGS.eta)
    trials: list[Trial] = []
    for count, length in plan:
        if trials:
            points = tuning.survivors(trials[-len(points) :], count)
        results = run_points(method, dataset, points, length, final=False)
        for point, score in zip(points, results, strict=True):
            trials.append(tuning.Trial(point, length, score))
            text = ", ".join(f"{n}={v}" for n, v in point.items())
            print(f"{method} · {dataset} · {text}: {score:.1f}", flush=True)
    return trials, plan[-1][1]


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
    for dataset in FLAGS.datasets:
        for method in FLAGS.methods:
            trials, steps = tune(method, dataset, grid)
            chosen = tuning.best(trials)
            (final,) = run_points(method, dataset, [chosen.point], steps, final=True)
            tuning.record(
                Path(FLAGS.runs_dir) / "tuning" / FLAGS.name / "tuning.json",
                dataset,
                method,
                trials,
                final,
                search=FLAGS.search,
                tuning_seeds=[FLAGS.tune_seed, FLAGS.tune_seeds],
                final_seeds=[0, FLAGS.num_seeds],
            )
            text = ", ".join(f"{n}={v}" for n, v in chosen.point.items())
            print(
                f"{method} · {dataset}: {text}, chosen from {len(trials)} evaluations "
                f"with {chosen.score:.1f}, scores {final:.1f} on the final seeds",
                flush=True,
            )
