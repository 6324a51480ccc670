"""What the studies share: training, tuning, and tables of results."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.leaderboard import statistics
from offjax.runner.options import Options
from offjax.runner.run import Run, evaluate
from offjax.runner.train import Trainer, make_jobs

TUNING_SEED = 1000  # tuning runs use seeds from here on, and other episodes


def scores(
    method: str,
    dataset: Dataset,
    overrides: Mapping[str, Sequence[Any]],
    options: Options,
    preset: str = "small",
) -> np.ndarray:
    """Trains (or takes from the store), and returns scores [settings, seeds]."""
    (job,) = make_jobs(method, preset, dataset, overrides)
    trainer = Trainer(job, method, preset, dataset, options)
    run = Run(trainer.run(), trainer)
    result = evaluate(run, options.eval_episodes, options.eval_seed).scores.mean(-1)
    return result.reshape(len(job.settings), -1)


def tune(
    method: str,
    dataset: Dataset,
    grid: Mapping[str, Sequence[Any]],
    overrides: Mapping[str, Sequence[Any]],
    options: Options,
    preset: str = "small",
) -> dict[str, tuple[Any, ...]]:
    """The setting of the grid with the best mean score over the tuning seeds.

    All settings train in one program. `grid` holds traced hyperparameters only.
    """
    (job,) = make_jobs(method, preset, dataset, {**overrides, **grid})
    tuning = dataclasses.replace(
        options, seed=TUNING_SEED, num_seeds=2, eval_seed=TUNING_SEED
    )
    found = scores(method, dataset, {**overrides, **grid}, tuning, preset)
    best = job.settings[int(np.argmax(found.mean(-1)))]
    chosen = {name: value for (_, name), value in best.values}
    return {name: (chosen[name],) for name in grid}


def summary(values: np.ndarray) -> tuple[str, str]:
    """Mean ± std over seeds, and IQM with its 95 % bootstrap interval, as text."""
    iqm = statistics.cell_intervals([np.asarray(values)], seed=0)[0]
    return (
        f"{np.mean(values):.1f} ± {np.std(values):.1f}",
        f"{iqm.value:.1f} [{iqm.low:.1f}, {iqm.high:.1f}]",
    )


def write_table(
    path: str, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Writes a CSV file and prints it as a markdown table."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([header, *rows])
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(x) for x in row) + " |")
