"""The board as one self-contained HTML file that needs no network and no server."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from offjax.errors import UserError
from offjax.leaderboard import board as boards
from offjax.leaderboard import figures, matrix, overview, reported, tables
from offjax.leaderboard.board import CHECKPOINTS, Board, Cell, Column, Group
from offjax.leaderboard.charts import Style
from offjax.leaderboard.figures import Styles
from offjax.leaderboard.store import Curve, Run, Store, clean

MOST_EVALUATIONS = 100_000  # above this every seed's curve would weigh too much

NOTE_TITLES = {
    "unfinished": "Unfinished runs",
    "diverged": "Diverged seeds",
    "duplicate": "Seeds that were run more than once",
    "malformed": "Half-written or unreadable files",
    "schema": "Runs of other schema versions",
    "checksum": "Damaged contributed runs",
    "missing": "Missing scores",
    "caution": "Cautions",
}


def write(path: Path, text: str) -> None:
    """Writes a file so that a reader never sees half of it.

    Raises:
      UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        raise UserError(
            f"Cannot write {str(path)!r} ({error.strerror}). Give --out a file in a "
            "folder that you may write to and that has room."
        ) from error


def render(
    store: Store,
    sources: Sequence[reported.Source],
    *,
    refresh: int = 0,
    rank_reported: bool = False,
    planned: Collection[tuple[str, str]] = (),
    **options: Any,
) -> str:
    """The page of a store.

    Args:
      store: what was read.
      sources: reported numbers, shown beside the measured ones.
      refresh: seconds after which the page loads itself again; 0 for never.
      rank_reported: reported numbers take part in what is called best.
      planned: (dataset, method) of every cell that there should be.
      **options: those of `board.build`; the page starts at `checkpoint`.
    """
    start = options.pop("checkpoint", "last")
    views = {
        name: reported.beside(
            boards.build(store, checkpoint=name, **options), sources, rank_reported
        )
        for name in CHECKPOINTS
    }
    main = views[start]
    styles = figures.make_styles([c for g in main.groups for c in g.columns])
    evaluations = sum(len(c.steps) for run in main.runs for c in run.curves)
    data = _Data(with_curves=evaluations <= MOST_EVALUATIONS)
    groups = [
        _group_view(i, list(seen), main, styles, data)
        for i, seen in enumerate(zip(*(v.groups for v in views.values()), strict=True))
    ]
    whole, more = overview.build(views, start, planned, data.numbers)
    script = _template("page.js")
    digest = hashlib.sha256(script.encode()).digest()
    template = _environment().get_template("page.html")
    return template.render(
        board=main,
        caption=tables.caption(main),
        checkpoints=CHECKPOINTS,
        start=start,
        groups=groups,
        overview=whole,
        pairs=more["pairs"],
        notes=_notes(main),
        sources=[_source_view(source) for source in sources],
        summary=_summary(main),
        generated=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        refresh=refresh,
        data=data.content() | more,
        css=Markup(_template("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(digest).decode(),
    )


def picture(table: matrix.Matrix) -> str:
    """A page of the matrix alone, to take a picture of."""
    template = _environment().get_template("picture.html")
    css = Markup(_template("page.css"))
    return template.render(overview=overview.picture(table), css=css)


def _template(name: str) -> str:
    folder = resources.files("offjax.leaderboard") / "templates"
    return (folder / name).read_text("utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("offjax.leaderboard"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["number"] = tables.number
    environment.filters["interval"] = tables.interval
    environment.filters["short"] = figures.short_name
    environment.tests["finite"] = math.isfinite
    return environment


def _summary(board: Board) -> list[tuple[str, int]]:
    every = [item for group in board.groups for item in group.cells.items()]
    cells = [(key, cell) for key, cell in every if cell.curves]
    return [
        ("runs", len(board.runs)),
        ("methods", len({column for (_, column), _ in cells})),
        ("datasets", len({dataset for (dataset, _), _ in cells})),
        ("trained seeds", sum(len(cell.curves) for _, cell in cells)),
    ]


def _notes(board: Board) -> list[tuple[str, list[tuple[str, str]]]]:
    grouped: dict[str, list[tuple[str, str]]] = {}
    for note in board.notes:
        grouped.setdefault(note.kind, []).append((note.where, note.text))
    return [
        (NOTE_TITLES[kind], grouped[kind]) for kind in NOTE_TITLES if kind in grouped
    ]


class _Data:
    """What the page's script needs for a cell's details, each thing once."""

    def __init__(self, with_curves: bool) -> None:
        self.with_curves = with_curves
        self.runs: dict[Run, int] = {}
        self.configs: dict[str, int] = {}
        self.numbers: dict[tuple[str, Column], int] = {}
        self.run_views: list[dict[str, Any]] = []
        self.cells: list[dict[str, Any]] = []

    def add(self, column: Column, dataset: str, cells: list[Cell]) -> int:
        """Number of a cell, given as seen at each checkpoint."""
        cell = cells[0]
        values = [c.values for c in cells]
        seeds = [
            [c.seed, *(_known(v[i]) for v in values), self._run(c.run), c.diverged]
            for i, c in enumerate(cell.curves)
        ]
        curves = [_curve(c, cell.unit) for c in cell.curves] if self.with_curves else []
        self.cells.append({
            "curves": curves, "method": column.method, "variant": column.variant,
            "dataset": dataset, "unit": cell.unit, "seeds": seeds,
        })  # fmt: skip
        self.numbers[dataset, column] = len(self.cells) - 1
        return len(self.cells) - 1

    def _run(self, run: Run) -> int:
        if run not in self.runs:
            self.runs[run] = len(self.runs)
            config = {k: v for k, v in run.config.items() if k != "seeds"}
            text = json.dumps(config, indent=1, sort_keys=True)
            number = self.configs.setdefault(text, len(self.configs))
            self.run_views.append({"facts": _run_facts(run), "config": number})
        return self.runs[run]

    def content(self) -> dict[str, Any]:
        """All of it as JSON values."""
        configs = list(self.configs)
        return {"cells": self.cells, "runs": self.run_views, "configs": configs}


def _run_facts(run: Run) -> list[tuple[str, str]]:
    def text(*keys: str) -> str:
        value = run.describe(*keys)
        if isinstance(value, float):
            return f"{value:.6g}"
        return "" if value is None else clean(value)

    versions = run.describe("versions")
    known = versions.items() if isinstance(versions, dict) else ()
    devices = text("devices", "count"), text("devices", "kind")
    facts = [
        ("run", clean(run.path)),
        ("status", text("status")),
        ("commit", text("commit")),
        ("configuration hash", text("config_hash")),
        ("versions", clean(", ".join(f"{k} {v}" for k, v in known))),
        ("devices", " × ".join(filter(None, devices))),
        ("seed layout", text("seed_layout")),
        ("dataset identity", text("dataset", "identity")),
        ("score reference", text("score_source")),
        ("started", text("start")),
        ("wall time, s", text("duration_seconds")),
        ("seed-steps per second", text("seed_steps_per_second")),
        ("compile, s", text("compile_seconds")),
        ("evaluation, s", text("evaluation_seconds")),
    ]
    return [(name, value) for name, value in facts if value]


def _curve(curve: Curve, unit: str) -> list[list[float]]:
    """A seed's finite evaluations as [step, value], thinned."""
    values = curve.scores if unit == "score" else curve.returns
    points = [
        [step, round(value, 2)]
        for step, value in zip(curve.steps.tolist(), values.tolist(), strict=True)
        if math.isfinite(value)
    ]
    return points[:: -(-len(points) // figures.CURVE_POINTS) or 1]


def _known(value: float) -> float | None:
    return round(float(value), 3) if math.isfinite(value) else None


def _group_view(
    index: int, views: list[Group], board: Board, styles: Styles, data: _Data
) -> dict[str, Any]:
    """What the template shows of a group; `views` is it at each checkpoint."""
    group = next(g for g in board.groups if g.name == views[0].name)

    def place(column: Column) -> tuple[bool, int, float, str]:
        total = group.totals[column]
        score = total.total if math.isfinite(total.total) else 0.0
        return bool(column.source), -total.datasets, -score, column.label

    order = sorted(group.columns, key=place)
    rows = [_row_view(column, views, styles[column], data) for column in order]
    ranks = [_ranks(view) for view in views]
    for column, row in zip(order, rows, strict=True):
        row["ranks"] = [rank.get(column) for rank in ranks]
    return {
        "id": f"g{index}",
        "name": group.name,
        "datasets": group.datasets,
        "scored": group.scored,
        "rows": rows,
        "left_out": [
            c.label for c in group.columns if not c.source and c not in group.complete
        ],
        "metrics": figures.metric_figures(group, styles),
        "profile": figures.profile_figure(group, styles, board),
        "time": figures.time_figure(group, styles),
        "comparison": figures.comparison(group, styles, board),
        "curves": figures.curve_figures(group, styles, board),
        "tuning": figures.tuning_figures(group, styles),
    }


def _ranks(group: Group) -> dict[Column, int]:
    """Place by total of the measured columns that are finished everywhere."""
    totals = {
        column: group.totals[column].total
        for column in group.complete
        if not any(
            "unfinished" in group.cells[dataset, column].marks
            for dataset in group.datasets
            if (dataset, column) in group.cells
        )
    }
    return {
        column: 1 + sum(other > total for other in totals.values())
        for column, total in totals.items()
    }


def _row_view(
    column: Column, views: list[Group], style: Style, data: _Data
) -> dict[str, Any]:
    cells = []
    for dataset in views[0].datasets:
        seen = [view.cells.get((dataset, column)) for view in views]
        known = [cell for cell in seen if cell]
        number = data.add(column, dataset, known) if known and known[0].curves else None
        cells.append({"dataset": dataset, "seen": known, "number": number})
    return {
        "column": column,
        "style": style,
        "cells": cells,
        "totals": [view.totals[column] for view in views],
    }


def _source_view(source: reported.Source) -> dict[str, Any]:
    return {
        "source": source,
        "tables": [
            {
                "table": table,
                "errata": {(e.row, e.method): str(e) for e in table.errata},
                "datasets": [table.dataset(row) for row in table.rows],
            }
            for table in source.tables
        ],
    }
