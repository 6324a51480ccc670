"""The matrix as text: for a terminal, a pipe, markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from offjax.leaderboard.board import CHECKPOINTS, Column, settings
from offjax.leaderboard.matrix import Entry, Matrix, Row
from offjax.leaderboard.tables import MARKS, aligned, md, md_row, number, strong, tex

LEVEL = (
    "{} is the best of a row. = is level with it: the 95 % interval of their "
    "difference contains 0 (Student's, paired by seed; Welch's where seeds or episodes "
    "differ). Only a method with all datasets of a row can be its best."
)
MARKED = "* not finished, † a seed diverged."


class Shown(NamedTuple):
    """What stands in the table for an entry."""

    text: str
    best: bool = False
    level: bool = False


class Line(NamedTuple):
    """A line of the table; `kind` is that of its row, or "" for an addition to it."""

    label: str
    kind: str
    shown: list[Shown]
    begins: bool = False  # whether it is the first of its domain


def caption(matrix: Matrix) -> str:
    """What the numbers are, and how many there are."""
    few, many = matrix.seeds
    seeds = f"{many} seed{'s' if many != 1 else ''}"
    if few != many:
        seeds = f"{few} to {many} seeds"
    shared = settings(matrix.common)
    text = ", ".join(s.replace("preset=", "preset ") for s in shared)
    sentences = [f"Mean over {seeds}, {CHECKPOINTS[matrix.checkpoint]}"]
    sentences[0] += f"; {text}." if text else "."
    if matrix.filled < matrix.planned:
        sentences.append(f"{matrix.filled} of {matrix.planned} cells are filled.")
    return " ".join(sentences)


def legend(matrix: Matrix, best: str = "Bold") -> str:
    """What the marks mean, those that are used; `best` is that of the best."""
    entries = [entry for row in matrix.rows for entry in row.entries.values()]
    parts = [LEVEL.format(best)] * any(entry.level or entry.best for entry in entries)
    parts += [MARKED] * any(entry.marks for entry in entries)
    return " ".join(parts)


def lines(matrix: Matrix, columns: Sequence[Column] = ()) -> Iterator[Line]:
    """The lines of the table, for some columns or for all."""
    columns = columns or matrix.columns
    domain = None
    for row in matrix.rows:
        entries = [row.entries.get(column) for column in columns]
        values = [shown(row, entry) for entry in entries]
        yield Line(matrix.label(row), row.kind, values, row.domain != domain)
        domain = row.domain
        if row.kind == "iqm":
            known = [e.estimate if e else None for e in entries]
            lows = [Shown(number(e.low) if e else "–") for e in known]
            highs = [Shown(number(e.high) if e else "–") for e in known]
            counts = [Shown(str(e.datasets) if e else "0") for e in entries]
            yield Line("95 % from", "", lows)
            yield Line("to", "", highs)
            yield Line("datasets", "", counts)


def shown(row: Row, entry: Entry | None) -> Shown:
    """What a field of the table says."""
    if entry is None:
        return Shown("–")
    if row.kind == "mean" and entry.datasets < len(row.datasets):
        return Shown(f"{entry.datasets} of {len(row.datasets)}")
    marks = "".join(MARKS[mark] for mark in sorted(entry.marks))
    return Shown(number(entry.estimate.value) + marks, entry.best, entry.level)


# --- terminal -------------------------------------------------------------------


def write_terminal(matrix: Matrix, console: Console) -> None:
    """Prints the table; on a terminal in blocks of as many columns as fit."""
    if not console.is_terminal:
        for line in plain_lines(matrix):
            console.file.write(line + "\n")
        return
    for block in _blocks(matrix, console.width):
        console.print(_rich_table(matrix, block))
    for text in (caption(matrix), legend(matrix, "+")):
        console.print(Text(text, style="dim"))


def plain_lines(matrix: Matrix) -> Iterator[str]:
    """The table without colors, nothing cut: + behind the best, = behind its equals."""
    yield caption(matrix)
    yield ""
    rows = [("", *map(matrix.heading, matrix.columns))]
    rows += [(line.label, *map(_plain, line.shown)) for line in lines(matrix)]
    yield from aligned(rows)
    yield ""
    yield legend(matrix, "+")


def _plain(shown: Shown) -> str:
    return shown.text + " +" * shown.best + " =" * shown.level


def _blocks(matrix: Matrix, width: int) -> Iterator[list[Column]]:
    """Columns in groups that fit into `width`."""
    label = max(len(line.label) for line in lines(matrix))
    block: list[Column] = []
    used = label + 4
    for column in matrix.columns:
        texts = [_plain(line.shown[0]) for line in lines(matrix, [column])]
        # A head may be broken at its brackets.
        need = max(len(t) for t in [*texts, *matrix.heading(column).split(" (")]) + 3
        if block and used + need > width:
            yield block
            block, used = [], label + 4
        block.append(column)
        used += need
    if block:
        yield block


def _rich_table(matrix: Matrix, columns: Sequence[Column]) -> Table:
    table = Table()
    table.add_column("")
    for column in columns:
        head = Text(matrix.heading(column).replace(" (", "\n("))
        table.add_column(head, justify="right", overflow="fold")
    for line in lines(matrix, columns):
        if line.begins:
            table.add_section()
        style = "bold" if line.kind in ("mean", "iqm") else ""
        texts = [Text(_plain(shown), _style(shown)) for shown in line.shown]
        table.add_row(Text(line.label, style), *texts)
    return table


def _style(shown: Shown) -> str:
    if shown.best:
        return "bold green"
    return "green" if shown.level else ""


# --- markdown -------------------------------------------------------------------


def markdown(matrix: Matrix) -> str:
    """GitHub-flavoured markdown; the best in bold, its equals with =."""
    rows = [
        md_row("", (md(matrix.heading(column)) for column in matrix.columns)),
        "|---" + "|---:" * len(matrix.columns) + "|",
    ]
    for line in lines(matrix):
        texts = [
            strong(s.text.replace("*", "\\*"), s.best) + " =" * s.level
            for s in line.shown
        ]
        rows.append(md_row(strong(md(line.label), line.kind in ("mean", "iqm")), texts))
    notes = [caption(matrix), legend(matrix).replace("*", "\\*")]
    return "\n".join([*rows, "", " ".join(filter(None, notes))]) + "\n"


# --- CSV ------------------------------------------------------------------------

CSV_COLUMNS = (
    "row", "name", "domain", "unit", "method", "variant", "value", "low", "high",
    "datasets", "of_datasets", "marks", "best", "level",
)  # fmt: skip


def csv_text(matrix: Matrix) -> str:
    """One line per entry, full precision; empty where a value is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in matrix.rows:
        for column, entry in row.entries.items():
            writer.writerow([
                row.kind, row.name, row.domain, row.unit, column.method, column.variant,
                *(repr(float(v)) if math.isfinite(v) else "" for v in entry.estimate),
                entry.datasets, len(row.datasets), " ".join(sorted(entry.marks)),
                int(entry.best), int(entry.level),
            ])  # fmt: skip
    return out.getvalue()


# --- LaTeX ----------------------------------------------------------------------


def latex(matrix: Matrix) -> str:
    """A booktabs table; needs `\\usepackage{booktabs}`."""
    return "\n".join(_latex_lines(matrix)) + "\n"


def _latex_lines(matrix: Matrix) -> Iterator[str]:
    def row(head: str, texts: Iterable[str]) -> str:
        return "    " + " & ".join([head, *texts]) + r" \\"

    def text(shown: Shown) -> str:
        number = tex(shown.text).replace("*", "$^*$")
        number = rf"\textbf{{{number}}}" if shown.best else number
        return number + "$^=$" * shown.level

    yield r"\begin{table}[t]"
    yield r"  \centering"
    notes = " ".join(filter(None, [caption(matrix), legend(matrix)]))
    yield rf"  \caption{{{tex(notes).replace('*', '$^*$')}}}"
    yield rf"  \begin{{tabular}}{{l{'r' * len(matrix.columns)}}}"
    yield r"    \toprule"
    yield row("", (tex(matrix.heading(column)) for column in matrix.columns))
    for line in lines(matrix):
        if line.begins:
            yield r"    \midrule"
        yield row(tex(line.label), map(text, line.shown))
    yield r"    \bottomrule"
    yield r"  \end{tabular}"
    yield r"\end{table}"
