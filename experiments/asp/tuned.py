"""The protocol of the tables: every method is tuned alike, then measured.

A method is given a grid of settings, judged by their mean score on tuning seeds and
tuning episodes; the best is trained anew on the reported seeds and episodes. Every grid
has the same number of settings. Runs are jobs of a sweep: tuning in
<runs_dir>/tuning/<name>/, the reported ones in <runs_dir>; what is finished there is
not run again, so that a table can be made in parts. They run in this process, or with
--max_parallel as processes side by side.
"""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from offjax.catalog.load import load_dataset
from offjax.cli import command as cli
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.evaluation import environments
from offjax.leaderboard import statistics
from offjax.runner.records import read_json
from offjax.sweeps import local, plan, tuning, worker
from offjax.sweeps.engine import Place

Values = Mapping[str, tuple]
METHODS = (
    "asp", "asp_k1", "asp_mle", "bc", "bcq", "cql", "iql", "td3_bc", "tdmpc2",
)  # fmt: skip
"""Those of the paper's tables, with cloning and TD3+BC."""


class Setup(NamedTuple):
    """What all cells of a table share.

    Attributes:
      name: of the table, for its records.
      runs_dir: the run store.
      data_dir: root of the datasets, None for the default.
      num_steps: updates of every stage; 0: the preset's.
      num_seeds: reported seeds, from 0 on.
      tune_seeds: tuning seeds, from `tune_seed` on.
      tune_seed: first tuning seed.
      eval_episodes: per seed.
      max_parallel: jobs side by side.
      preset: of all recipes.
      report: read what is finished, and run nothing.
    """

    name: str
    runs_dir: str = "runs"
    data_dir: str | None = None
    num_steps: int = 0
    num_seeds: int = 5
    tune_seeds: int = 2
    tune_seed: int = 1000
    eval_episodes: int = 20
    max_parallel: int = 1
    preset: str = "small"
    report: bool = False


def define_flags(out: str, num_steps: int, eval_episodes: int) -> None:
    """The flags of `setup` and `methods`, with a table's defaults."""
    flags.DEFINE_list("methods", [*METHODS], "Methods.")
    cli.define_count("num_steps", num_steps, "Updates of a run; 0: the preset's.")
    flags.DEFINE_integer("num_seeds", 5, "Reported seeds, from 0 on.")
    flags.DEFINE_integer("tune_seeds", 2, "Tuning seeds, from 1000 on.")
    flags.DEFINE_integer("eval_episodes", eval_episodes, "Episodes per seed.")
    flags.DEFINE_integer("max_parallel", 1, "Jobs side by side.", lower_bound=1)
    flags.DEFINE_enum("preset", "small", ["paper", "small", "demo"], "Preset.")
    flags.DEFINE_bool("report", False, "Write what is finished, and run nothing.")
    flags.DEFINE_string("runs_dir", "runs/asp", "The run store.")
    flags.DEFINE_string("data_dir", None, "Root of the datasets.")
    flags.DEFINE_string("out", out, "Table, without its .csv and .md.")


def setup(name: str) -> Setup:
    """As the flags say."""
    given: dict[str, Any] = {
        field: flags.FLAGS[field].value
        for field in Setup._fields
        if field in flags.FLAGS
    }
    return Setup(name, **given)


def methods(grids: Mapping[str, Values]) -> list[str]:
    """Those of --methods.

    Raises:
      UserError: one without a grid, or grids of different sizes.
    """
    chosen = flags.FLAGS.methods
    for method in chosen:
        if method not in grids:
            raise UserError(
                f"The table has no settings for {method!r}; known: {', '.join(grids)}."
            )
    check_effort({method: grids[method] for method in chosen})
    return chosen


class Cell(NamedTuple):
    """One method on one dataset, or on several with the same settings.

    Attributes:
      scores: [seeds] of each dataset.
      point: what was chosen.
      evaluations: settings that were tried.
      seconds: of all its runs, tuning included.
      seed_steps: updates of all its slots.
    """

    scores: tuple[np.ndarray, ...]
    point: dict[str, Any]
    evaluations: int
    seconds: float
    seed_steps: int


def measure(
    setup: Setup,
    method: str,
    tuned_on: str,
    datasets: Sequence[str],
    grid: Values,
    fixed: Values,
) -> Cell | None:
    """Tunes a method on one dataset, and measures what it chose on others.

    Args:
      setup: of the table.
      method: a recipe.
      tuned_on: id of the dataset whose tuning scores choose.
      datasets: ids of those that are reported.
      grid: hyperparameter → values.
      fixed: hyperparameter → its only value, the same in all runs.

    Returns:
      The cell, or None where `setup.report` finds it unfinished.
    """
    runs = _run(setup, method, tuned_on, {**fixed, **grid}, final=False)
    if runs is None:
        return None
    found: dict[str, float] = {}
    for path in runs:
        found |= tuning.scores(path)
    trials = []
    for point in tuning.candidates(grid, "grid", 0, 0):
        values = {**fixed, **{name: (value,) for name, value in point.items()}}
        (job,) = _jobs(setup, method, tuned_on, values, final=False)
        score = found[job.variants[0]]
        trials.append(tuning.Trial(point, setup.num_steps, score))
    best = tuning.best(trials).point
    chosen = {**fixed, **{name: (value,) for name, value in best.items()}}
    scores = []
    for dataset in datasets:
        finals = _run(setup, method, dataset, chosen, final=True)
        if finals is None:
            return None
        scores.append(seed_scores(finals[0]))
        runs += finals
    tuning.record(
        Path(setup.runs_dir) / "tuning" / setup.name / "tuning.json",
        tuned_on,
        method,
        trials,
        float(np.mean([np.mean(each) for each in scores])),
        search="grid",
        tuning_seeds=[setup.tune_seed, setup.tune_seeds],
        final_seeds=[0, setup.num_seeds],
    )
    costs = [_cost(path) for path in runs]
    seconds, steps = (sum(each) for each in zip(*costs, strict=True))
    return Cell(tuple(scores), best, len(trials), seconds, int(steps))


def _jobs(
    setup: Setup, method: str, dataset: str, values: Values, final: bool
) -> list[plan.Job]:
    seeds = (setup.num_seeds, 0) if final else (setup.tune_seeds, setup.tune_seed)
    options = {
        "num_seeds": seeds[0],
        "seed": seeds[1],
        "eval_episodes": setup.eval_episodes,
        "eval_seed": 0 if final else 1,
    }
    if setup.num_steps:
        values = {"num_steps": (setup.num_steps,), **values}
    entry = plan.Entry((method,), (dataset,), setup.preset, values, options)
    return plan.expand([entry], lambda name: _evaluable(setup, name), setup.name)


def _evaluable(setup: Setup, name: str) -> Dataset:
    """The dataset; UserError where there is nothing to score policies in."""
    dataset = load_dataset(name, setup.data_dir)
    problem = environments.missing(dataset.spec)
    if problem is not None:
        raise UserError(
            f"The table needs scores, and policies cannot be evaluated on {name!r}: "
            f"{problem}. Leave it out of the table, or make that work first."
        )
    return dataset


def _run(
    setup: Setup, method: str, dataset: str, values: Values, final: bool
) -> list[Path] | None:
    """Folders of the finished runs, made now where they are not there."""
    root = Path(setup.runs_dir).resolve()
    store = root if final else root / "tuning" / setup.name
    jobs = _jobs(setup, method, dataset, values, final)
    at = {job.hash: plan.progress(job, store) for job in jobs}
    todo = [job for job in jobs if at[job.hash].status != "finished"]
    if todo and setup.report:
        return None
    cores = len(os.sched_getaffinity(0)) // setup.max_parallel
    place = Place(str(store), setup.name, setup.data_dir, max(1, cores))
    if setup.max_parallel == 1:
        for job in todo:
            worker.run(job, dataclasses.asdict(place))
    else:
        local.run(todo, place, lambda outcomes: None, setup.max_parallel)
    paths = []
    for job in jobs:
        now = plan.progress(job, store)
        if now.status != "finished" or now.path is None:
            raise UserError(
                f"{job.label} did not finish ({place.log(job)}). Mend it, and give the "
                "command again: what is finished is kept."
            )
        paths.append(now.path)
    return paths


def seed_scores(path: Path) -> np.ndarray:
    """Scores [seeds] at a run's last evaluation."""
    with (path / "scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    last = max(int(row["step"]) for row in rows)
    return np.array([float(row["score"]) for row in rows if int(row["step"]) == last])


def _cost(path: Path) -> tuple[float, int]:
    """Seconds of a run, and updates of all its slots."""
    done = read_json(path / "run.json")
    with (path / "scores.csv").open() as lines:
        slots = {(row["seed"], row["variant"]) for row in csv.DictReader(lines)}
    return float(done["duration_seconds"]), int(done["total_steps"]) * len(slots)


def check_effort(grids: Mapping[str, Values]) -> None:
    """Raises `UserError` unless every method is given as many settings."""
    sizes = {
        method: len(tuning.candidates(grid, "grid", 0, 0))
        for method, grid in grids.items()
    }
    if len(set(sizes.values())) > 1:
        raise UserError(f"methods are given different numbers of settings: {sizes}.")


def interval(scores: Sequence[np.ndarray]) -> statistics.Estimate:
    """Mean over datasets and seeds, with its 95 % interval over seeds."""
    return statistics.intervals(scores, seed=0)["mean"]


HEADER = ("method", "mean", "low", "high", "std", "datasets", "seeds", "evaluations",
          "tuned")  # fmt: skip


def row(method: str, cell: Cell) -> tuple:
    """A cell as a row of the CSV table; see `HEADER`."""
    found = interval(cell.scores)
    every = np.concatenate(cell.scores)
    settings = " ".join(f"{name}={value:g}" for name, value in cell.point.items())
    numbers = (f"{x:.2f}" for x in (*found, every.std()))
    counts = (len(cell.scores), len(cell.scores[0]), cell.evaluations)
    return (method, *numbers, *counts, settings)


def text(cell: Cell | None) -> str:
    """Mean [95 %] of a cell."""
    if cell is None:
        return "–"
    found = interval(cell.scores)
    return f"{found.value:.1f} [{found.low:.1f}, {found.high:.1f}]"


def markdown(
    corner: str,
    columns: Sequence[str],
    methods: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
) -> str:
    """Methods × columns, and a line with what it cost."""
    lines = ["| " + " | ".join([corner, *columns]) + " |"]
    lines.append("|" + "---|" * (len(columns) + 1))
    for method in methods:
        entries = [text(cells.get((column, method))) for column in columns]
        lines.append("| " + " | ".join([method, *entries]) + " |")
    seconds = sum(cell.seconds for cell in cells.values())
    steps = sum(cell.seed_steps for cell in cells.values())
    rate = steps / max(seconds, 1e-9)
    lines += ["", f"Mean [95 %] over datasets and seeds. {seconds:,.0f} s in all, "
              f"{rate:,.0f} seed-steps/s."]  # fmt: skip
    return "\n".join(lines) + "\n"


def write(out: str, header: Sequence[str], rows: Sequence[tuple], page: str) -> None:
    """Writes <out>.csv and <out>.md, and prints the latter."""
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".csv").open("w", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows([header, *rows])
    target.with_suffix(".md").write_text(page)
    print(page)
