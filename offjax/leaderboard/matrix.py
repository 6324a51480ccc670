"""The board as one table: datasets by domain × methods, with means and an overall row.

In every row the best mean is told, and which methods are statistically level with it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from offjax.leaderboard import board as boards
from offjax.leaderboard import statistics
from offjax.leaderboard.board import Board, Cell, Column, Group
from offjax.leaderboard.differences import Differences
from offjax.leaderboard.statistics import Estimate

NAMES = {
    "bc": "BC", "percent_bc": "10% BC", "td3_bc": "TD3+BC", "rebrac": "ReBRAC",
    "iql": "IQL", "cql": "CQL", "awac": "AWAC", "bcq": "BCQ", "fql": "FQL",
    "decision_transformer": "DT", "dt_ag": "DT+AG", "reinformer": "Reinformer",
    "reinformer_ag": "Reinf.+AG", "cfpi": "CFPI", "cfpi_sg": "CFPI-SG",
    "iterative_cfpi": "It.-CFPI", "iql_cfpi": "IQL+CFPI", "cql_cfpi": "CQL+CFPI",
    "asp": "ASP", "asp_k1": "ASP k=1", "asp_mle": "ASP-MLE",
    "asp_listing": "ASP listing", "asp_equation": "ASP eq.", "tdmpc2": "TD-MPC2",
    "hulc": "HULC", "mcil": "MCIL", "gcbc": "GCBC", "lcd": "LCD",
    "lcd_hulc": "LCD-HULC", "lcd_mlp": "LCD-MLP", "diffuser": "Diffuser",
}  # fmt: skip
"""Methods whose papers call them otherwise, or whose names are too long for a head."""


@dataclass(frozen=True)
class Entry:
    """A column in a row.

    Attributes:
      estimate: mean, or IQM with its interval; NaN where it lacks datasets for a mean.
      datasets: how many of the row's it has.
      marks: as those of a cell.
      best: whether it has the best finished value of the row.
      level: whether the best is not significantly better.
    """

    estimate: Estimate
    datasets: int
    marks: frozenset[str] = frozenset()
    best: bool = False
    level: bool = False


@dataclass(frozen=True)
class Row:
    """A dataset, the mean of a domain's datasets, or the IQM over all of them.

    Attributes:
      kind: `dataset`, `mean` or `iqm`.
      name: dataset id, name of the domain, or "".
      domain: name of the domain, or "".
      datasets: those that it is made of.
      entries: the columns that have any of them.
      unit: `score` or `return`.
    """

    kind: str
    name: str
    domain: str
    datasets: tuple[str, ...]
    entries: dict[Column, Entry]
    unit: str = "score"


@dataclass(frozen=True)
class Matrix:
    """The table.

    Attributes:
      rows: domain by domain, each with its mean; the overall one last.
      columns: those with the most datasets and the highest IQM first.
      common: the settings that the variants of all columns share, as a variant.
      filled: cells with a number.
      planned: cells that there should be.
      seeds: the fewest and the most seeds of a cell.
      checkpoint: key of `board.CHECKPOINTS`.
    """

    rows: list[Row]
    columns: list[Column]
    common: str
    filled: int
    planned: int
    seeds: tuple[int, int]
    checkpoint: str

    def label(self, row: Row) -> str:
        """What stands at the begin of a row."""
        if row.kind == "iqm":
            return f"all: IQM of {len(row.datasets)}"
        name = row.name
        folders = {r.name.split("/")[0] for r in self.rows if r.kind == "dataset"}
        if len(folders) == 1:
            name = name.removeprefix(f"{next(iter(folders))}/")
        if row.kind == "mean":
            return f"{name}: mean of {len(row.datasets)}"
        return name if row.unit == "score" else f"{name} ({row.unit})"

    def own(self, column: Column) -> str:
        """What of a column's variant the others do not share; "" for nothing."""
        shared = set(boards.settings(self.common))
        return ",".join(s for s in boards.settings(column.variant) if s not in shared)

    def heading(self, column: Column) -> str:
        """A column's short name, with what the others do not share in brackets."""
        name = NAMES.get(column.method, column.method)
        return f"{name} ({own})" if (own := self.own(column)) else name


Key = tuple[str, Column]


def build(
    board: Board,
    planned: Collection[tuple[str, str]] = (),
    differences: Differences | None = None,
) -> Matrix:
    """The table of a board's measured columns.

    Args:
      board: the board.
      planned: (dataset, method) of every cell that there should be; by default those
        that there are.
      differences: those of the board, where the caller needs them too.
    """
    differences = differences or Differences(board)
    cells = differences.cells
    rows = []
    for group in board.groups:
        rows += [_dataset_row(group, dataset, cells) for dataset in group.datasets]
        if len(group.scored) > 1:
            rows.append(_mean_row(group, cells))
    rows = [row for row in rows if row.entries]
    scored = [dataset for group in board.groups for dataset in group.scored]
    overall = _iqm_row(board, scored, cells)
    columns = sorted({c for _, c in cells}, key=lambda c: _place(overall, c))
    if len(scored) > 1:
        rows.append(overall)
    seeds = [cell.seeds for cell in cells.values() if cell.seeds]
    filled = {(d, c.method) for (d, c), cell in cells.items() if cell.seeds}
    wanted = set(planned) or filled
    return Matrix(
        rows=[_marked(row, differences) for row in rows],
        columns=columns,
        common=",".join(_shared(columns)),
        filled=len(filled & wanted),
        planned=len(wanted),
        seeds=(min(seeds, default=0), max(seeds, default=0)),
        checkpoint=board.checkpoint,
    )


def _place(overall: Row, column: Column) -> tuple[int, float, str]:
    entry = overall.entries.get(column)
    if entry is None:
        return 0, 0.0, column.label
    return -entry.datasets, -entry.estimate.value, column.label


def _shared(columns: Sequence[Column]) -> list[str]:
    """Settings that are in the variants of all columns, in order."""
    if not columns:
        return []
    each = [boards.settings(column.variant) for column in columns]
    return [s for s in each[0] if all(s in other for other in each)]


def _dataset_row(group: Group, dataset: str, cells: dict[Key, Cell]) -> Row:
    found = {c: cell for (d, c), cell in cells.items() if d == dataset}
    units = {cell.unit for cell in found.values()}
    return Row(
        "dataset", dataset, group.name, (dataset,),
        {c: Entry(Estimate(x.mean), 1, x.marks) for c, x in found.items()},
        unit="score" if units == {"score"} else "return",
    )  # fmt: skip


def _mean_row(group: Group, cells: dict[Key, Cell]) -> Row:
    entries = {}
    for column in group.columns:
        found = _scored(group.scored, column, cells)
        complete = len(found) == len(group.scored)
        value = math.fsum(c.mean for c in found) / len(found) if complete else math.nan
        if found:
            entries[column] = Entry(Estimate(value), len(found), _marks(found))
    return Row("mean", group.name, group.name, tuple(group.scored), entries)


def _iqm_row(board: Board, scored: Sequence[str], cells: dict[Key, Cell]) -> Row:
    entries = {}
    for column in sorted({column for _, column in cells}, key=lambda c: c.label):
        found = _scored(scored, column, cells)
        if found:
            scores = [cell.finite for cell in found]
            metrics = statistics.intervals(scores, board.replicates, board.seed)
            entries[column] = Entry(metrics["iqm"], len(found), _marks(found))
    return Row("iqm", "", "", tuple(scored), entries)


def _scored(
    datasets: Sequence[str], column: Column, cells: dict[Key, Cell]
) -> list[Cell]:
    """A column's cells with a score on some of these datasets."""
    found = [cells.get((dataset, column)) for dataset in datasets]
    return [cell for cell in found if cell and cell.seeds and cell.unit == "score"]


def _marks(cells: Sequence[Cell]) -> frozenset[str]:
    return frozenset().union(*(cell.marks for cell in cells))


def _marked(row: Row, differences: Differences) -> Row:
    """The row with its best and what is level with that, among complete entries."""
    values = {
        column: entry.estimate.value
        for column, entry in row.entries.items()
        if entry.datasets == len(row.datasets) and "unfinished" not in entry.marks
    }
    best = boards.best_of(values)
    entries = dict(row.entries)
    for column, value in values.items():
        if column in best:
            entries[column] = replace(entries[column], best=True)
        elif best and np.isfinite(value):
            found = differences.over(row.datasets, best[0], column)
            level = found is not None and not found.better
            entries[column] = replace(entries[column], level=level)
    return replace(row, entries=entries)
