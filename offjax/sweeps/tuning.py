"""Tuning: choose a setting on tuning seeds, then measure it on others.

A trial is one combination of hyperparameters, judged by its mean score over the tuning
seeds. Three searches:

- grid: every combination once;
- random: some combinations of the grid, drawn without replacement;
- halving: successive halving (Jamieson & Talwalkar, 2016): all of them for a short
  training, the best 1/η of them for η times longer, and so on.

`expected_best` says what a method would have scored with k evaluations only (Dodge et
al., Show Your Work, 2019).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offjax import locks
from offjax.errors import UserError
from offjax.runner.records import last_scores, read_json, write_json

SEARCHES = ("grid", "random", "halving")
Point = dict[str, Any]
"""Hyperparameter → value."""
RECORD_SECONDS = 60.0  # that a command waits for another's record to be written


@dataclasses.dataclass(frozen=True)
class Trial:
    """A combination that was trained and evaluated."""

    point: Point  # its hyperparameters
    num_steps: int  # updates of every stage, 0 = those of the preset
    score: float  # mean over the tuning seeds at the end of training


def candidates(
    grid: Mapping[str, Sequence[Any]], search: str, num_trials: int, seed: int
) -> list[Point]:
    """The combinations that are tried (first).

    Args:
      grid: hyperparameter → values.
      search: one of `SEARCHES`.
      num_trials: of a random search, or of halving's first rung; 0 = all.
      seed: of the draw.

    Raises:
      UserError: an unknown search, no values, or more trials than combinations.
    """
    if search not in SEARCHES:
        raise UserError(f"search {search!r} is not one of {', '.join(SEARCHES)}.")
    empty = [name for name, values in grid.items() if not values]
    if empty:
        raise UserError(f"the grid has no values for {', '.join(empty)}.")
    points = [
        dict(zip(grid, values, strict=True))
        for values in itertools.product(*grid.values())
    ]
    wanted = num_trials or len(points)
    if wanted > len(points):
        raise UserError(
            f"--num_trials={num_trials} is more than the {len(points)} combinations."
        )
    if search == "grid" or wanted == len(points):
        return points
    chosen = np.random.default_rng(seed).choice(len(points), wanted, replace=False)
    return [points[i] for i in sorted(chosen)]


def rungs(num_trials: int, num_steps: int, eta: int) -> list[tuple[int, int]]:
    """Successive halving's (trials, updates) per rung; the last has `num_steps`.

    `rungs(9, 9000, 3)` is [(9, 1000), (3, 3000), (1, 9000)].
    """
    if eta < 2:
        raise UserError(f"--eta={eta}: at least 2 is needed.")
    last = int(math.log(num_trials, eta) + 1e-9)
    return [
        (num_trials // eta**i, max(1, num_steps // eta ** (last - i)))
        for i in range(last + 1)
    ]


def survivors(trials: Sequence[Trial], count: int) -> list[Point]:
    """The points of the `count` best trials; a NaN score is the worst."""
    order = sorted(trials, key=lambda t: -_comparable(t.score))
    return [trial.point for trial in order[:count]]


def best(trials: Sequence[Trial]) -> Trial:
    """The best of the trials that were trained longest; the first of equals."""
    longest = max(t.num_steps for t in trials)
    return max(
        (t for t in trials if t.num_steps == longest),
        key=lambda t: _comparable(t.score),
    )


def expected_best(scores: Sequence[float], k: int) -> float:
    """Mean of the best of k scores drawn from `scores` without replacement.

    The j-th smallest of n is the best of C(j − 1, k − 1) of the C(n, k) draws.
    """
    values = np.sort([_comparable(s) for s in scores])
    n = len(values)
    if not 1 <= k <= n:
        raise UserError(f"k = {k} is not between 1 and the {n} scores.")
    ways = [math.comb(j, k - 1) for j in range(n)]
    return float(np.dot(values, ways) / math.comb(n, k))


def scores(path: Path) -> dict[str, float]:
    """Variant → mean score over seeds at the last evaluation, of a run's scores.csv."""
    found: dict[str, list[float]] = {}
    for (variant, _), score in last_scores(path).items():
        found.setdefault(variant, []).append(score)
    return {variant: float(np.mean(each)) for variant, each in found.items()}


def record(
    path: Path,
    dataset: str,
    method: str,
    trials: Sequence[Trial],
    final_score: float,
    **protocol: Any,
) -> None:
    """Adds to a tuning.json what was spent on a method, and what came of it.

    Commands that tune methods of the same table side by side keep each other's entries.

    Args:
      path: <runs_dir>/tuning/<name>/tuning.json; made where it is not there.
      dataset: what was tuned on.
      method: whose entry is written, in place of an earlier one.
      trials: all of them, those of the longest training last.
      final_score: mean on the final seeds.
      **protocol: further fields: the search, tuning and final seeds.

    Raises:
      UserError: the file cannot be read or written.
    """
    longest = [t.score for t in trials if t.num_steps == trials[-1].num_steps]
    entry = {
        **protocol,
        "evaluations": len(trials),
        "trials": [dataclasses.asdict(trial) for trial in trials],
        "chosen": best(trials).point,
        "final_score": final_score,
        "expected_best": [
            expected_best(longest, k) for k in range(1, len(longest) + 1)
        ],
    }
    with locks.held(path.with_name(".lock"), RECORD_SECONDS):
        content = read_json(path) if path.exists() else {}
        content.setdefault(dataset, {})[method] = entry
        write_json(path, content)


def _comparable(score: float) -> float:
    return -math.inf if math.isnan(score) else score
