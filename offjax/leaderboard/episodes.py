"""The recorded episodes of a run: plain or packed, and those that two runs share."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offjax.leaderboard.board import Cell
from offjax.leaderboard.store import EVALUATIONS, Curve, clean, read_json

EPISODES = ("episodes.csv", "episodes.csv.gz")
Returns = dict[tuple[str, int, int], dict[int, float]]
"""(variant, seed, step) → episode number → return."""


def text(folder: Path) -> str | None:
    """Text of a folder's episodes, packed or not; None if there are none."""
    plain, packed = (folder / name for name in EPISODES)
    if plain.is_file():
        return plain.read_text(encoding="utf-8", errors="replace")
    if packed.is_file():
        return gzip.decompress(packed.read_bytes()).decode("utf-8", "replace")
    return None


def parse(content: str) -> Returns:
    """The returns of all episodes.

    Raises:
      KeyError, ValueError, TypeError, csv.Error: a column is missing, or a row is
        damaged.
    """
    returns: Returns = {}
    for row in csv.DictReader(io.StringIO(content)):
        key = (clean(row["variant"]), int(row["seed"]), int(row["step"]))
        returns.setdefault(key, {})[int(row["episode"])] = float(row["return"])
    return returns


def folder_of(curve: Curve) -> Path:
    """Where a curve's scores and episodes lie."""
    path = curve.run.path
    return path / EVALUATIONS / curve.evaluation if curve.evaluation else path


def eval_seed(curve: Curve) -> object:
    """Number of the set of episodes that a curve was evaluated on; None: unknown."""
    if not curve.evaluation:
        return curve.run.config.get("eval_seed", 0)
    try:
        return read_json(folder_of(curve) / "evaluation.json").get("eval_seed")
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, eq=False)
class Common:
    """Episodes that two cells of one dataset recorded at their last evaluations.

    Attributes:
      differences: seed → score of A − score of B of each common episode.
    """

    differences: Mapping[int, np.ndarray]

    @property
    def episodes(self) -> int:
        """The fewest of a seed."""
        return min(len(each) for each in self.differences.values())

    @property
    def won(self) -> float:
        """Share of the episodes in which A has the higher return; ties count half."""
        shares = [
            (each > 0).mean() + 0.5 * (each == 0).mean()
            for each in self.differences.values()
        ]
        return float(np.mean(shares))


def common(a: Cell, b: Cell) -> Common | None:
    """The common episodes of two cells; None where one has not recorded its own."""
    scale = _score_per_return(a, b)
    sides = [_last_returns(cell) for cell in (a, b)]
    if scale is None or None in sides:
        return None
    first, second = (side or {} for side in sides)
    found = {}
    for seed in first.keys() & second.keys():
        numbers = sorted(first[seed].keys() & second[seed].keys())
        if numbers:
            pairs = np.array([(first[seed][i], second[seed][i]) for i in numbers])
            found[seed] = scale * (pairs[:, 0] - pairs[:, 1])
    return Common(found) if found else None


def _last_returns(cell: Cell) -> dict[int, dict[int, float]] | None:
    """Seed → episode number → return, at each seed's last evaluation."""
    files: dict[Path, Returns] = {}
    found = {}
    for curve in cell.curves:
        folder = folder_of(curve)
        try:
            if folder not in files:
                files[folder] = parse(text(folder) or "")
        except (OSError, EOFError, KeyError, ValueError, TypeError, csv.Error):
            return None  # `offjax leaderboard --check` says what is wrong with it
        key = (curve.variant, curve.seed, int(curve.steps[-1]))
        if key in files[folder]:
            found[curve.seed] = files[folder][key]
    return found or None


def _score_per_return(a: Cell, b: Cell) -> float | None:
    """What a return of one more adds to the score; None where no two returns differ."""
    if a.unit == b.unit == "return":
        return 1.0
    curves = [*a.curves, *b.curves]
    returns = np.concatenate([curve.returns for curve in curves])
    scores = np.concatenate([curve.scores for curve in curves])
    known = np.isfinite(returns) & np.isfinite(scores)
    if not known.any():
        return None
    returns, scores = returns[known], scores[known]
    low, high = returns.argmin(), returns.argmax()
    if returns[low] == returns[high]:
        return None
    return float((scores[high] - scores[low]) / (returns[high] - returns[low]))
