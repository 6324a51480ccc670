"""The difference of two columns: its interval, and how many seeds would decide it.

The unit is the seed. Where one column has all seeds of the other, and both were
evaluated on the same set of episodes, seed and episode number fix an episode's random
numbers in both: the seeds are paired, and the interval is Student's for the mean of
their differences. Otherwise it is Welch's. Over several datasets it is that of the mean
of the datasets' differences, with the degrees of freedom of Welch and Satterthwaite.
Student's interval holds its level with a few seeds, where a bootstrap's is too narrow
(`tests/leaderboard/test_differences.py` simulates both kinds).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from offjax.leaderboard import episodes
from offjax.leaderboard.board import Board, Cell, Column
from offjax.leaderboard.episodes import Common
from offjax.leaderboard.statistics import Estimate

MOST_SEEDS = 100
"""Of more seeds it is only said that there are more."""
ROUNDING = 1e-9


class Part(NamedTuple):
    """An independent part of a difference's variance."""

    variance: float  # per seed
    seeds: int


@dataclass(frozen=True)
class Difference:
    """A − B, on one dataset or as the mean over several.

    Attributes:
      value: of the means.
      parts: its variance is Σ variance / seeds over them.
      improvement: probability that a seed of A scores above one of B, ties half.
      paired: whether seeds were compared with themselves.
      seeds: how many of A and of B were used; (0, 0) for several datasets.
    """

    value: float
    parts: tuple[Part, ...]
    improvement: float
    paired: bool
    seeds: tuple[int, int] = (0, 0)

    @property
    def half(self) -> float:
        """Half the width of the 95 % interval; infinite where a side has one seed."""
        if any(part.seeds < 2 for part in self.parts):
            return math.inf
        shares = [part.variance / part.seeds for part in self.parts]
        variance = sum(shares)
        if variance == 0:
            return 0.0
        squares = sum(
            share**2 / (part.seeds - 1)
            for share, part in zip(shares, self.parts, strict=True)
        )
        return _t(round(variance**2 / squares, 6)) * math.sqrt(variance)

    @property
    def estimate(self) -> Estimate:
        """The value with its interval; NaN bounds where a side has a single seed."""
        if math.isinf(self.half):
            return Estimate(self.value)
        return Estimate(self.value, self.value - self.half, self.value + self.half)

    @property
    def better(self) -> bool:
        """Whether A is better: the whole interval lies above zero."""
        return self.value - self.half > ROUNDING

    @property
    def seeds_needed(self) -> float:
        """The fewest seeds on every dataset whose interval would leave out zero.

        It assumes that difference and spread stay as they are: infinite for more than
        `MOST_SEEDS`, NaN where a side has a single seed.
        """
        if any(part.seeds < 2 for part in self.parts):
            return math.nan
        variance = sum(part.variance for part in self.parts)
        if abs(self.value) <= ROUNDING:
            return math.inf
        if variance == 0:
            return 2.0
        squares = sum(part.variance**2 for part in self.parts)
        halves = _unit_halves(round(variance**2 / squares, 6)) * math.sqrt(variance)
        enough = np.flatnonzero(halves < abs(self.value))
        return float(enough[0] + 2) if enough.size else math.inf


@lru_cache(maxsize=4096)
def _t(freedom: float) -> float:
    """Student's quantile of 97.5 %."""
    return float(stdtrit(freedom, 0.975))


@lru_cache(maxsize=4096)
def _unit_halves(freedom: float) -> np.ndarray:
    """Half the interval's width with 2, 3, … seeds, where a seed's variance is 1.

    `freedom` are the degrees of freedom that every seed after the first adds.
    """
    seeds = np.arange(2, MOST_SEEDS + 1)
    return stdtrit(freedom * (seeds - 1), 0.975) / np.sqrt(seeds)


def paired(values: np.ndarray, improvement: float) -> Difference:
    """The difference from those of the seeds, [seeds]."""
    n = len(values)
    spread = float(np.var(values, ddof=1)) if n > 1 else math.nan
    return Difference(
        float(np.mean(values)), (Part(spread, n),), improvement, True, (n, n)
    )


def unpaired(a: np.ndarray, b: np.ndarray) -> Difference:
    """The difference of two samples of seeds that have nothing in common."""
    parts = tuple(
        Part(float(np.var(x, ddof=1)) if len(x) > 1 else math.nan, len(x))
        for x in (a, b)
    )
    value = float(np.mean(a) - np.mean(b))
    return Difference(value, parts, improvement(a, b), False, (len(a), len(b)))


def improvement(a: np.ndarray, b: np.ndarray) -> float:
    """Probability that one of `a` lies above one of `b`; ties count half."""
    return float(((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean())


def average(differences: Sequence[Difference]) -> Difference:
    """The mean over datasets, each with the same weight."""
    n = len(differences)
    if n == 1:
        return differences[0]
    parts = [
        Part(part.variance / n**2, part.seeds) for d in differences for part in d.parts
    ]
    return Difference(
        math.fsum(d.value for d in differences) / n,
        tuple(parts),
        math.fsum(d.improvement for d in differences) / n,
        all(d.paired for d in differences),
    )


@dataclass(frozen=True, eq=False)
class Side:
    """What of a cell is compared."""

    unit: str
    scores: Mapping[int, float]  # seed → headline value, the finite ones
    values: np.ndarray  # [seeds] the same
    eval_seed: object  # number of its set of episodes; None if it has several

    @classmethod
    def of(cls, cell: Cell) -> Side:
        """That of a measured cell."""
        curves = zip(cell.curves, cell.values.tolist(), strict=True)
        scores = {c.seed: v for c, v in curves if math.isfinite(v)}
        sets = {episodes.eval_seed(curve) for curve in cell.curves}
        values = np.array(list(scores.values()))
        return cls(cell.unit, scores, values, sets.pop() if len(sets) == 1 else None)


def between(a: Side, b: Side, common: Common | None = None) -> Difference | None:
    """A − B on a dataset; None where a side has no number, or another unit.

    Args:
      a: one column.
      b: the other.
      common: the episodes that both recorded, in place of the seeds' scores.
    """
    if a.unit != b.unit or not a.scores or not b.scores:
        return None
    same_set = a.eval_seed is not None and a.eval_seed == b.eval_seed
    seeds = a.scores.keys() & b.scores.keys()
    if not same_set or len(seeds) < min(len(a.scores), len(b.scores)):
        return unpaired(a.values, b.values)
    order = sorted(seeds)
    if common is not None and set(order) <= common.differences.keys():
        values = np.array([common.differences[seed].mean() for seed in order])
    else:
        values = np.array([a.scores[seed] - b.scores[seed] for seed in order])
    return paired(values, improvement(a.values, b.values))


class Differences:
    """The differences of all measured columns of a board, each computed once."""

    def __init__(self, board: Board) -> None:
        self.cells = {
            key: cell
            for group in board.groups
            for key, cell in group.cells.items()
            if cell.curves
        }
        self._sides: dict[tuple[str, Column], Side] = {}
        self._found: dict[tuple[str, Column, Column], Difference | None] = {}

    def side(self, dataset: str, column: Column) -> Side | None:
        """What a column has on a dataset."""
        key = (dataset, column)
        if key in self.cells and key not in self._sides:
            self._sides[key] = Side.of(self.cells[key])
        return self._sides.get(key)

    def on(self, dataset: str, a: Column, b: Column) -> Difference | None:
        """A − B on a dataset, from the seeds' scores."""
        key = (dataset, a, b)
        if key not in self._found:
            left, right = self.side(dataset, a), self.side(dataset, b)
            self._found[key] = between(left, right) if left and right else None
        return self._found[key]

    def over(self, datasets: Iterable[str], a: Column, b: Column) -> Difference | None:
        """The mean of A − B over datasets; None where one of them has none."""
        found = [self.on(dataset, a, b) for dataset in datasets]
        known = [d for d in found if d is not None]
        return average(known) if known and len(known) == len(found) else None
