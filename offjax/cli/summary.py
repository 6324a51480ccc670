"""The end of a run: its scores, and what to do next."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

Rows = Sequence[Mapping[str, str]]


def lines(run: Path, runs_dir: str, data_dir: str | None = None) -> list[str]:
    """Scores of the last evaluation by variant, and the next commands.

    Args:
      run: folder of a finished run.
      runs_dir: the folder of runs that it lies in.
      data_dir: root of the datasets, if it is not the usual one.
    """
    with (run / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    last = max((int(row["step"]) for row in rows), default=0)
    variants: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        if int(row["step"]) == last:
            variants.setdefault(row["variant"], []).append(row)
    found = [f"{result(mine)}  {variant}" for variant, mine in variants.items()]
    board = f"offjax leaderboard --runs_dir={shlex.quote(runs_dir)}"
    evaluate = f"offjax evaluate {shlex.quote(str(run))} --eval_episodes=100"
    if data_dir:
        evaluate += f" --data_dir={shlex.quote(data_dir)}"
    return [*found, f"next: {evaluate}", f"next: {board}"]


def result(rows: Rows) -> str:
    """Mean and deviation over the seeds of one variant: score, else return."""
    columns = {"score": "score", "return": "return_mean"}
    for name, column in columns.items():
        values = np.array([float(row[column]) for row in rows])
        values = values[np.isfinite(values)]
        if len(values):
            seeds = f"{len(values)} seed" + "s" * (len(values) > 1)
            return f"{name} {values.mean():.4g} ± {values.std():.3g} ({seeds})"
    return "score -"
