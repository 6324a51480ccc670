"""The protocol of the tables: every method is tuned alike, then measured.

A method is given a grid of settings, judged by their mean score on tuning seeds and
tuning episodes; the best is trained anew on the reported seeds and episodes. Every grid
has the same number of settings. What is finished is not run again, so that a table can
be made in parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.tables import write_csv
from offjax.cli import command as cli
from offjax.errors import UserError
from offjax.leaderboard import statistics
from offjax.runner.records import last_scores, read_json
from offjax.sweeps import tuning
from offjax.sweeps.protocol import Protocol

Values = Mapping[str, tuple]
METHODS = (
    "asp", "asp_k1", "asp_mle", "bc", "bcq", "cql", "iql", "td3_bc", "tdmpc2",
)  # fmt: skip
"""Those of the paper's tables, with cloning and TD3+BC."""


def define_flags(out: str, num_steps: int, eval_episodes: int) -> None:
    """The flags of `tune.protocol` and `methods`, with a table's defaults."""
    flags.DEFINE_list("methods", [*METHODS], "Methods.")
    cli.define_count("num_steps", num_steps, "Updates of a run; 0: the preset's.")
    flags.DEFINE_integer("num_seeds", 5, "Reported seeds, from 0 on.")
    flags.DEFINE_integer("tune_seeds", 2, "Tuning seeds, from 1000 on.")
    flags.DEFINE_integer("eval_episodes", eval_episodes, "Episodes per seed.")
    flags.DEFINE_integer("max_parallel", 1, "Jobs side by side.", lower_bound=1)
    cli.define_preset()
    flags.DEFINE_bool("report", False, "Write what is finished, and run nothing.")
    flags.DEFINE_string("runs_dir", "runs/asp", "The run store.")
    cli.define_data_dir()
    flags.DEFINE_string("out", out, "Table, without its .csv and .md.")


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
    how: Protocol,
    method: str,
    tuned_on: str,
    datasets: Sequence[str],
    grid: Values,
    fixed: Values,
    report: bool = False,
) -> Cell | None:
    """Tunes a method on one dataset, and measures what it chose on others.

    Args:
      how: the protocol of the table.
      method: a recipe.
      tuned_on: id of the dataset whose tuning scores choose.
      datasets: ids of those that are reported.
      grid: hyperparameter → values.
      fixed: hyperparameter → its only value, the same in all runs.
      report: read what is finished, and run nothing.

    Returns:
      The cell, or None where `report` finds it unfinished.
    """

    def run(dataset: str, values: Values, final: bool) -> list[Path] | None:
        jobs = how.jobs(method, dataset, {**fixed, **values}, final)
        if report and how.waiting(jobs, final):
            return None
        return how.run(jobs, final)

    runs = run(tuned_on, grid, final=False)
    if runs is None:
        return None
    found: dict[str, float] = {}
    for path in runs:
        found |= tuning.scores(path)
    trials = []
    for point in tuning.candidates(grid, "grid", 0, 0):
        values = {**fixed, **_only(point)}
        (job,) = how.jobs(method, tuned_on, values, final=False)
        trials.append(tuning.Trial(point, how.num_steps, found[job.variants[0]]))
    best = tuning.best(trials).point
    scores = []
    for dataset in datasets:
        finals = run(dataset, _only(best), final=True)
        if finals is None:
            return None
        scores.append(np.array([*last_scores(finals[0]).values()]))
        runs += finals
    final_score = float(np.mean([np.mean(each) for each in scores]))
    how.record(tuned_on, method, trials, final_score, "grid")
    costs = [_cost(path) for path in runs]
    seconds, steps = (sum(each) for each in zip(*costs, strict=True))
    return Cell(tuple(scores), best, len(trials), seconds, int(steps))


def _only(point: tuning.Point) -> dict[str, tuple]:
    """A point as values of a grid."""
    return {name: (value,) for name, value in point.items()}


def _cost(path: Path) -> tuple[float, int]:
    """Seconds of a run, and updates of all its slots."""
    done, slots = read_json(path / "run.json"), len(last_scores(path))
    return float(done["duration_seconds"]), int(done["total_steps"]) * slots


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
    write_csv(target.with_suffix(".csv"), header, rows)
    target.with_suffix(".md").write_text(page)
    print(page)
