"""Tune methods with the same effort each, then measure them on other seeds.

python -m experiments.tune --methods=bc,iql --datasets=offjax/maze2d/medium-v0
    --config.actor_lr=1e-3,3e-4 [--search=grid|random|halving] [--num_trials=8]

Trials are trained on tuning seeds and judged on tuning episodes; the chosen setting is
trained anew on the final seeds and measured on the final episodes. Trials lie in
<runs_dir>/tuning/<name>/, out of the leaderboard's sight; the final runs in <runs_dir>,
with a record of the number of evaluations that led to them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from experiments import cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.sweeps.tuning import Point, Trial

_METHODS = flags.DEFINE_list("methods", [], "Methods.")
_DATASETS = flags.DEFINE_list("datasets", [], "Dataset ids.")
_NAME = flags.DEFINE_string("name", "tuning", "Name, for the records.")
_PRESET = flags.DEFINE_enum("preset", "small", ["paper", "small", "demo"], "Preset.")
_SEARCH = flags.DEFINE_enum(
    "search", "grid", ["grid", "random", "halving"], "How combinations are chosen."
)
_NUM_TRIALS = flags.DEFINE_integer("num_trials", 0, "Combinations; 0: all.")
_ETA = flags.DEFINE_integer("eta", 3, "With --search=halving: one in so many survives.")
_SEARCH_SEED = flags.DEFINE_integer("search_seed", 0, "Seed of the draw.")
_NUM_STEPS = cli.define_count("num_steps", None, "Updates of every stage.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Final seeds, from 0 on.")
_TUNE_SEEDS = flags.DEFINE_integer("tune_seeds", 2, "Tuning seeds.")
_TUNE_SEED = flags.DEFINE_integer("tune_seed", 1000, "First tuning seed.")
_EVAL_EPISODES = flags.DEFINE_integer("eval_episodes", 20, "Episodes per evaluation.")
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs", "The run store.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")
_MAX_PARALLEL = flags.DEFINE_integer("max_parallel", 1, "Jobs at once.")
_CONFIG = cli.declare_config()


def run_points(
    method: str, dataset: str, points: list[Point], num_steps: int, final: bool
) -> list[float]:
    """Trains every point, and returns its mean score; what is finished is kept."""
    from offjax.catalog.load import load_dataset
    from offjax.sweeps import local, plan, tuning
    from offjax.sweeps.engine import Place

    seeds = (_NUM_SEEDS.value, 0) if final else (_TUNE_SEEDS.value, _TUNE_SEED.value)
    options = {
        "num_seeds": seeds[0],
        "seed": seeds[1],
        "eval_episodes": _EVAL_EPISODES.value,
        "eval_seed": 0 if final else 1,
    }
    store = Path(_RUNS_DIR.value).resolve()
    store = store if final else store / "tuning" / _NAME.value
    jobs = []
    for point in points:
        values = {name: (value,) for name, value in point.items()}
        if num_steps:
            values = {"num_steps": (num_steps,)} | values
        entry = plan.Entry((method,), (dataset,), _PRESET.value, values, options)
        jobs += plan.expand(
            [entry], lambda name: load_dataset(name, _DATA_DIR.value), _NAME.value
        )
    cores = len(os.sched_getaffinity(0)) // _MAX_PARALLEL.value
    place = Place(str(store), _NAME.value, _DATA_DIR.value, max(1, cores))
    at = {job.hash: plan.progress(job, store) for job in jobs}
    todo = [job for job in jobs if at[job.hash].status != "finished"]
    outcomes = local.run(todo, place, lambda outcomes: None, _MAX_PARALLEL.value)
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

    search, steps = _SEARCH.value, _NUM_STEPS.value or 0
    points = tuning.candidates(grid, search, _NUM_TRIALS.value, _SEARCH_SEED.value)
    plan = [(len(points), steps)]
    if search == "halving":
        if not steps:
            raise UserError("--search=halving needs --num_steps, which it divides.")
        plan = tuning.rungs(len(points), steps, _ETA.value)
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


def main(argv: list[str]) -> None:
    """Tunes every method on every dataset, and measures what it chose."""
    del argv
    import jax

    jax.config.update("jax_platforms", "cpu")  # accelerators are left to the jobs
    from offjax.catalog.load import known_spec
    from offjax.runner.training import check
    from offjax.sweeps import tuning

    grid = cli.overrides(_CONFIG.value)
    given = cli.with_steps(grid, _NUM_STEPS.value)
    for flag in (_METHODS, _DATASETS):
        if not flag.value:
            raise UserError(f"--{flag.name} is missing.")
    if not grid:
        raise UserError("there is nothing to tune: give --config.NAME=VALUE,VALUE.")
    last = _TUNE_SEED.value + _TUNE_SEEDS.value
    if _TUNE_SEED.value < _NUM_SEEDS.value and last > 0:
        raise UserError(
            f"--tune_seed={_TUNE_SEED.value} is among the final seeds 0 … "
            f"{_NUM_SEEDS.value - 1}; tune on others."
        )
    for dataset in _DATASETS.value:  # before anything is collected or trained
        spec = known_spec(dataset, _DATA_DIR.value)
        for method in _METHODS.value:
            check(method, _PRESET.value, given, dataset, spec)
    for dataset in _DATASETS.value:
        for method in _METHODS.value:
            trials, steps = tune(method, dataset, grid)
            chosen = tuning.best(trials)
            (final,) = run_points(method, dataset, [chosen.point], steps, final=True)
            tuning.record(
                Path(_RUNS_DIR.value) / "tuning" / _NAME.value / "tuning.json",
                dataset,
                method,
                trials,
                final,
                search=_SEARCH.value,
                tuning_seeds=[_TUNE_SEED.value, _TUNE_SEEDS.value],
                final_seeds=[0, _NUM_SEEDS.value],
            )
            text = ", ".join(f"{n}={v}" for n, v in chosen.point.items())
            print(
                f"{method} · {dataset}: {text}, chosen from {len(trials)} evaluations "
                f"with {chosen.score:.1f}, scores {final:.1f} on the final seeds",
                flush=True,
            )


if __name__ == "__main__":
    cli.run(main)
