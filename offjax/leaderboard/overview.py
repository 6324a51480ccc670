"""What the page shows above its domains: the matrix, and any two methods compared."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

from offjax.leaderboard import matrix, matrix_tables
from offjax.leaderboard.board import Board, Column
from offjax.leaderboard.differences import Difference, Differences
from offjax.leaderboard.matrix import Matrix, Row

MOST_DIFFERENCES = 50_000
"""So many differences are on the page at most: some 1.5 MB."""
MANY_COLUMNS = 9
"""From so many on, names of methods stand upright."""


def build(
    views: Mapping[str, Board],
    start: str,
    planned: Collection[tuple[str, str]],
    numbers: Mapping[tuple[str, Column], int],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the template, and what the script shows.

    Args:
      views: the board at each checkpoint.
      start: checkpoint of the comparisons.
      planned: as `matrix.build` takes it.
      numbers: number of a cell's details in the page's data.
    """
    differences = Differences(views[start])
    tables = {
        name: matrix.build(board, planned, differences if name == start else None)
        for name, board in views.items()
    }
    return _view(tables, start, numbers), _pairs(tables[start], differences)


def picture(table: Matrix) -> dict[str, Any]:
    """What the template shows of a matrix alone."""
    return _view({table.checkpoint: table}, table.checkpoint, {})


def _view(
    tables: Mapping[str, Matrix],
    start: str,
    numbers: Mapping[tuple[str, Column], int],
) -> dict[str, Any]:
    main = tables[start]
    rows = []
    for i, row in enumerate(main.rows):
        each = [table.rows[i] for table in tables.values()]
        rows.append({
            "row": row,
            "label": main.label(row),
            "cells": [
                {
                    "seen": [r.entries.get(column) for r in each],
                    "number": numbers.get((row.name, column)),
                }
                for column in main.columns
            ],
        })  # fmt: skip
    return {
        "columns": [
            {"column": c, "own": main.own(c), "label": c.label} for c in main.columns
        ],
        "rows": rows,
        "checkpoints": list(tables),
        "caption": matrix_tables.caption(main),
        "legend": matrix_tables.legend(main),
        "upright": len(main.columns) >= MANY_COLUMNS,
    }


def _pairs(table: Matrix, differences: Differences) -> dict[str, Any]:
    """Differences of all pairs of columns, the first ones where there are too many.

    `pairs["i,j"]` has for each row `[difference, half of the interval, probability of
    improvement, seeds that would decide it]`, or null. Null half: one seed; null seeds:
    more than any that are named.
    """
    rows = [row for row in table.rows if row.kind != "mean"]
    columns = list(table.columns)
    while len(columns) * (len(columns) - 1) // 2 * len(rows) > MOST_DIFFERENCES:
        columns.pop()
    return {
        "columns": [_name(table, column) for column in columns],
        "left_out": len(table.columns) - len(columns),
        "rows": [table.label(row) if row.kind == "dataset" else "mean" for row in rows],
        "means": [
            [_rounded(differences, row, column) for row in rows] for column in columns
        ],
        "pairs": {
            f"{i},{j}": [_entry(differences, row, a, b) for row in rows]
            for (i, a), (j, b) in combinations(enumerate(columns), 2)
        },
    }


def _name(table: Matrix, column: Column) -> str:
    own = table.own(column)
    return f"{column.method} ({own})" if own else column.method


def _rounded(differences: Differences, row: Row, column: Column) -> float | None:
    """A column's mean on a dataset; none in the overall row."""
    cell = differences.cells.get((row.name, column))
    return round(cell.mean, 2) if cell and math.isfinite(cell.mean) else None


def _entry(
    differences: Differences, row: Row, a: Column, b: Column
) -> list[float | None] | None:
    shared: Sequence[str] = [
        dataset for dataset in row.datasets if differences.on(dataset, a, b)
    ]
    found = differences.over(shared, a, b)
    return _numbers(found, len(shared)) if found else None


def _numbers(found: Difference, datasets: int) -> list[float | None]:
    half, seeds = found.half, found.seeds_needed
    return [
        round(found.value, 2),
        round(half, 2) if math.isfinite(half) else None,
        round(found.improvement, 3),
        int(seeds) if math.isfinite(seeds) else None,
        datasets,
    ]
