"""Numbers that papers report, with their source, protocol and known errata.

They lie in `reported/*.csv` as printed, described by `reported/sources.toml`, and
are never pooled with measured ones. What `experiments.import_scores` reads of other
projects' result files lies in the same format in `<runs_dir>/reported/<source>/`.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np

from offjax.errors import UserError
from offjax.leaderboard.board import Board, Cell, Column, make_group


@dataclass(frozen=True)
class Value:
    """A printed number and spread: as printed, and as numbers (NaN for none)."""

    text: str
    std_text: str
    mean: float
    std: float


@dataclass(frozen=True)
class Erratum:
    """A printed total that does not follow from its rows."""

    row: str
    method: str
    printed: float
    computed: float

    def __str__(self) -> str:
        return (
            f"{self.method}, {self.row}: printed {self.printed:g}, "
            f"its rows give {self.computed:g}."
        )


@dataclass(frozen=True)
class ReportedTable:
    """One table of a source; rows are datasets or tasks, columns methods."""

    source: str
    id: str
    caption: str
    protocol: str
    checkpoint: str
    beside: list[str]
    rows: list[str]
    methods: list[str]
    values: dict[tuple[str, str], Value]
    totals: dict[str, dict[str, Any]]
    errata: list[Erratum]
    notes: list[str]
    versions: dict[str, str]

    def dataset(self, row: str) -> str:
        """Dataset id of a row: the printed one, completed by its version."""
        for prefix, version in self.versions.items():
            if row.startswith(prefix) and row not in self.totals:
                return row + version
        return row

    def computed(self, row: str, method: str) -> float:
        """The total `row` as its rows give it."""
        rule, of = self.totals[row]["rule"], self.totals[row].get("of", [""])
        parts = [
            self.values[r, method].mean
            for r in self.rows
            if r not in self.totals
            and r.startswith(tuple(of))
            and (r, method) in self.values
        ]
        total = math.fsum(parts)
        return {"sum": total, "mean": total / len(parts), "sum/100": total / 100}[rule]


@dataclass(frozen=True)
class Source:
    """A paper or repository that reports numbers."""

    id: str
    title: str
    url: str
    label: str
    notes: list[str]
    tables: list[ReportedTable]


def load(runs_dirs: Iterable[str | Path] = ()) -> list[Source]:
    """The reported tables that come with offjax, and those imported into runs folders.

    Raises:
      UserError: an imported one is damaged.
    """
    sources = _read(resources.files("offjax.leaderboard") / "reported")
    for root in runs_dirs:
        for described in sorted(Path(root).glob("reported/[!.]*/sources.toml")):
            try:
                sources += _read(described.parent)
            except (OSError, ValueError, LookupError) as error:
                raise UserError(
                    f"The imported numbers in {described.parent} are damaged "
                    f"({error}). Remove the folder, and import them again."
                ) from error
    return sources


def _read(folder: Traversable) -> list[Source]:
    described = tomllib.loads((folder / "sources.toml").read_text("utf-8"))
    sources = []
    for name, entry in described.items():
        tables = entry.get("tables", {})
        text = (folder / f"{name}.csv").read_text("utf-8") if tables else ""
        rows = list(csv.DictReader(text.splitlines()))
        made = [
            _table(name, key, facts, [r for r in rows if r["table"] == key])
            for key, facts in tables.items()
        ]
        sources.append(
            Source(
                name, entry["title"], entry["url"], entry["label"],
                entry.get("notes", []), made,
            )
        )  # fmt: skip
    return sources


def _table(
    source: str, key: str, facts: dict[str, Any], rows: list[dict[str, str]]
) -> ReportedTable:
    values: dict[tuple[str, str], Value] = {}
    for row in rows:
        # A row that is printed twice counts once.
        values.setdefault(
            (row["dataset"], row["method"]),
            Value(row["mean"], row["std"], _number(row["mean"]), _number(row["std"])),
        )
    errata = [
        Erratum(
            e["row"], e["method"], values[e["row"], e["method"]].mean, e["computed"]
        )
        for e in facts.get("errata", [])
    ]
    return ReportedTable(
        source=source,
        id=key,
        caption=facts["caption"],
        protocol=facts["protocol"],
        checkpoint=facts["checkpoint"],
        beside=facts.get("beside", []),
        rows=list(dict.fromkeys(row["dataset"] for row in rows)),
        methods=list(dict.fromkeys(row["method"] for row in rows)),
        values=values,
        totals={total["row"]: total for total in facts.get("totals", [])},
        errata=errata,
        notes=facts.get("notes", []),
        versions=facts.get("versions", {}),
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def beside(board: Board, sources: Iterable[Source], ranked: bool = False) -> Board:
    """The board with reported numbers for the datasets that it measured.

    Only what the sources list as `beside` is added. Unless `ranked`, the new columns
    are never called best, and have no total.
    """
    found: dict[tuple[str, Column], Cell] = {}
    for source in sources:
        for table in source.tables:
            for (row, method), value in table.values.items():
                if method in table.beside or "*" in table.beside:
                    column = Column(method, source=f"{source.label} {table.id}")
                    cell = Cell(np.array([value.mean]), [], value.mean, value.std)
                    found[table.dataset(row), column] = cell
    groups = []
    for group in board.groups:
        added = {key: cell for key, cell in found.items() if key[0] in group.datasets}
        if added:
            group = make_group(
                group.name, group.datasets, group.cells | added, board.replicates,
                board.seed, ranked,
            )  # fmt: skip
        groups.append(group)
    return replace(board, groups=groups)
