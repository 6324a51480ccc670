"""What the page shows above its domains: the matrix, and any two methods compared."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from offjax.leaderboard import matrix, matrix_tables
from offjax.leaderboard.board import Board, Column
from offjax.leaderboard.differences import Difference, Differences
from offjax.leaderboard.matrix import Entry, Matrix, Row
from offjax.leaderboard.tables import number

MOST_DIFFERENCES = 50_000
"""So many differences are on the page at most: some 1.5 MB."""
MANY_COLUMNS = 9
"""From so many on, names of methods stand upright."""


class Field(NamedTuple):
    """A field of the matrix: its text, and small lines below it."""

    text: str
    small: list[str]
    value: float | None  # to sort by
    kind: str  # "best", "level", "part" where datasets are missing, or ""


def build(
    views: Mapping[str, Board],
    start: str,
    planned: Collection[tuple[str, str]],
    numbers: Mapping[tuple[str, Column], int],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the template, and what the script shows.

    Args:
      views: the board at each checkpoint.
      start: checkpoint of the template, and of the comparisons.
      planned: as `matrix.build` takes it.
      numbers: number of a cell's details in the page's data.
    """
    differences = Differences(views[start])
    tables = {
        name: matrix.build(board, planned, differences if name == start else None)
        for name, board in views.items()
    }
    main = tables[start]
    fields = {
        name: [_fields(row, main.columns) for row in table.rows]
        for name, table in tables.items()
    }
    return _view(main, numbers), {"matrix": fields, "pairs": _pairs(main, differences)}


def picture(table: Matrix) -> dict[str, Any]:
    """What the template shows of a matrix alone."""
    return _view(table, {})


def _view(table: Matrix, numbers: Mapping[tuple[str, Column], int]) -> dict[str, Any]:
    return {
        "columns": [
            {"column": c, "own": table.own(c), "label": c.label} for c in table.columns
        ],
        "rows": [
            {
                "row": row,
                "label": table.label(row),
                "fields": _fields(row, table.columns),
                "numbers": [numbers.get((row.name, c)) for c in table.columns],
            }
            for row in table.rows
        ],
        "caption": matrix_tables.caption(table),
        "legend": matrix_tables.legend(table),
        "upright": len(table.columns) >= MANY_COLUMNS,
    }


def _fields(row: Row, columns: Sequence[Column]) -> list[Field]:
    return [_field(row, row.entries.get(column)) for column in columns]


def _field(row: Row, entry: Entry | None) -> Field:
    text, best, level = matrix_tables.shown(row, entry)
    if entry is None:
        return Field(text, [], None, "")
    value, low, high = entry.estimate
    known = math.isfinite(value)
    small = [number(low), number(high)] if math.isfinite(low) else []
    part = entry.datasets < len(row.datasets)
    if part and known:
        small.append(f"{entry.datasets} of {len(row.datasets)}")
    kind = "best" if best else "level" if level else "part" if part else ""
    return Field(text, small, round(value, 3) if known else None, kind)


def _pairs(table: Matrix, differences: Differences) -> dict[str, Any]:
    """Differences of all pairs of columns, the first ones where there are too many.

    `pairs["i,j"]` has for each row `[difference, half of the interval, probability of
    improvement, seeds that would decide it, datasets]`, or null. Null half: one seed;
    null seeds: more than any that are named.
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
    """A column's mean on a dataset; None in the overall row."""
    cell = differences.cells.get((row.name, column))
    return round(cell.mean, 2) if cell and math.isfinite(cell.mean) else None


def _entry(
    differences: Differences, row: Row, a: Column, b: Column
) -> list[float | None] | None:
    shared = [each for each in row.datasets if differences.on(each, a, b)]
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
