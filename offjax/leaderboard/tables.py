"""The board as text: for a terminal, a pipe, markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from offjax.leaderboard.board import (
    CHECKPOINTS,
    Board,
    Cell,
    Column,
    Group,
    Total,
    settings,
)
from offjax.leaderboard.statistics import Estimate

MARKS = {"unfinished": "*", "diverged": "†"}
LEGEND = "* unfinished, † a seed diverged, ‡ reported elsewhere, not measured here"


def number(value: float) -> str:
    """One decimal; a dash for what is not known."""
    return f"{value:.1f}" if math.isfinite(value) else "–"


def mean_std(cell: Cell) -> str:
    """`54.2 ± 3.1` with marks; no ± for a single seed."""
    spread = f" ± {number(cell.std)}" if math.isfinite(cell.std) else ""
    return number(cell.mean) + spread + "".join(MARKS[m] for m in sorted(cell.marks))


def interval(estimate: Estimate) -> str:
    """`54.0 [50.1, 58.0]`; without brackets where one seed allows no interval."""
    if not math.isfinite(estimate.low):
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def caption(board: Board) -> str:
    """How the numbers of this board were made, in one sentence."""
    return (
        f"Scores at the {CHECKPOINTS[board.checkpoint]}, mean ± std over seeds; IQM "
        f"with 95 % stratified bootstrap interval ({board.replicates} replicates, "
        f"seed {board.seed})."
    )


def total_text(total: Total, group: Group) -> str:
    """A column's total, or how many datasets it lacks for one."""
    if total.datasets < len(group.scored):
        return f"{total.datasets} of {len(group.scored)} datasets"
    return number(total.total)


def total_iqm(total: Total) -> str:
    """The interquartile mean over a group's datasets; a dash where it lacks some."""
    return interval(total.metrics["iqm"]) if total.metrics else "–"


# --- terminal -------------------------------------------------------------------


def write_terminal(board: Board, console: Console) -> None:
    """Prints tables on a terminal, one item a line elsewhere."""
    if not console.is_terminal:
        for line in plain_lines(board):
            console.file.write(line + "\n")
        return
    for group in board.groups:
        for table in rich_tables(group, console.width):
            console.print(table)
            console.print()
    console.print(Text(caption(board), style="dim"))
    console.print(Text(LEGEND, style="dim"))
    write_notes(board, console)


def write_notes(board: Board, console: Console, most: int = 12) -> None:
    """Prints the notes, of each kind only the first `most`."""
    counts: dict[str, int] = {}
    for note in board.notes:
        counts[note.kind] = counts.get(note.kind, 0) + 1
        if counts[note.kind] <= most:
            console.print(Text(str(note), style="yellow"), soft_wrap=True)
    for kind, count in counts.items():
        if count > most:
            text = f"{kind}: {count - most} more; pipe the output or see the page."
            console.print(Text(text, style="yellow"))


def rich_tables(group: Group, width: int) -> Iterator[Table]:
    """Tables of as many columns as fit into `width`, all of the group's."""
    label_width = max(len(d) for d in [*group.datasets, "IQM [95 %]"])
    widths = {c: _column_width(group, c) for c in group.columns}
    block: list[Column] = []
    used = label_width + 4
    for column in group.columns:
        if block and used + widths[column] + 3 > width:
            yield _rich_table(group, block)
            block, used = [], label_width + 4
        block.append(column)
        used += widths[column] + 3
    yield _rich_table(group, block)


def _column_width(group: Group, column: Column) -> int:
    total = total_text(group.totals[column], group)
    texts = [column.method, *settings(column.variant), total]
    for dataset in group.datasets:
        cell = group.cells.get((dataset, column))
        texts += [mean_std(cell), interval(cell.iqm)] if cell else []
    return max(map(len, texts))


def _rich_table(group: Group, columns: list[Column]) -> Table:
    table = Table(title=Text(group.name, style="bold"), title_justify="left")
    table.add_column("dataset", overflow="fold")
    for column in columns:
        header = Text(column.method, style="italic" if column.source else "bold")
        detail = column.source and f"‡ {column.source}"
        if not column.source and column.variant != "default":
            detail = ",\n".join(settings(column.variant))
        header.append(f"\n{detail}" if detail else "", style="dim not bold")
        table.add_column(header, justify="right", overflow="fold")
    for dataset in group.datasets:
        table.add_row(Text(dataset), *map(_rich_cell, group.row(dataset, columns)))
    if len(group.scored) > 1:
        table.add_section()
        totals = [group.totals[column] for column in columns]
        texts = [(total_text(t, group), t.best) for t in totals]
        table.add_row("total", *(Text(t, "bold green" if b else "") for t, b in texts))
        table.add_row("IQM [95 %]", *(Text(total_iqm(t)) for t in totals))
    return table


def _rich_cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("–", style="dim")
    text = Text(mean_std(cell), style="bold green" if cell.best else "")
    if cell.unit == "return":
        text.append(" return", style="dim")
    if math.isfinite(cell.iqm.low):
        text.append("\n" + interval(cell.iqm), style="dim not bold not green")
    return text


def plain_lines(board: Board) -> Iterator[str]:
    """The whole board, one item a line, nothing cut."""
    yield caption(board)
    for group in board.groups:
        yield ""
        yield group.name
        rows = [
            (dataset, column.label, *_plain_cell(group.cells[dataset, column]))
            for dataset in group.datasets
            for column in group.columns
            if (dataset, column) in group.cells
        ]
        if len(group.scored) > 1:
            rows += [
                (
                    "total",
                    column.label,
                    total_text(total, group),
                    f"IQM {interval(total.metrics['iqm'])}" if total.metrics else "",
                    f"{total.datasets} datasets",
                    "best" if total.best else "",
                )
                for column, total in group.totals.items()
            ]
        yield from aligned(rows)
    if board.notes:
        yield ""
        yield from map(str, board.notes)


def _plain_cell(cell: Cell) -> tuple[str, str, str, str]:
    seeds = f"{cell.seeds} seed{'s' if cell.seeds != 1 else ''}"
    if not cell.curves:
        seeds = "reported"
    marks = [cell.unit] * (cell.unit == "return") + sorted(cell.marks)
    marks += ["best"] * cell.best
    iqm = f"IQM {interval(cell.iqm)}" if math.isfinite(cell.iqm.value) else ""
    return mean_std(cell), iqm, seeds, ", ".join(marks)


def aligned(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Rows of texts as lines with aligned columns."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (text.ljust(w) for text, w in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


# --- markdown -------------------------------------------------------------------


def markdown(board: Board) -> str:
    """GitHub-flavoured markdown; the best in bold, IQM below each mean."""
    lines = [caption(board), ""]
    for group in board.groups:
        lines += [f"### {md(group.name)}", ""]
        lines.append(md_row("dataset", (md(c.label) for c in group.columns)))
        lines.append("|---" + "|---:" * len(group.columns) + "|")
        for dataset in group.datasets:
            lines.append(md_row(md(dataset), map(_md_cell, group.row(dataset))))
        if len(group.scored) > 1:
            totals = list(group.totals.values())
            texts = (strong(total_text(t, group), t.best) for t in totals)
            lines.append(md_row("**total**", texts))
            lines.append(md_row("**IQM [95 %]**", map(total_iqm, totals)))
        lines.append("")
    if any(cell.marks for g in board.groups for cell in g.cells.values()):
        lines += [LEGEND.replace("*", "\\*", 1), ""]
    lines += [f"- {md(str(note))}" for note in board.notes]
    return "\n".join(lines).rstrip() + "\n"


def md_row(head: str, cells: Iterable[str]) -> str:
    """A row of a markdown table."""
    return "| " + " | ".join([head, *cells]) + " |"


def _md_cell(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = strong(mean_std(cell).replace("*", "\\*"), cell.best)
    text += " (return)" if cell.unit == "return" else ""
    if math.isfinite(cell.iqm.low):
        text += f"<br><sub>{interval(cell.iqm)}</sub>"
    return text


def strong(text: str, best: bool) -> str:
    """Markdown of what is perhaps the best."""
    return f"**{text}**" if best else text


def md(text: str) -> str:
    """Text without the characters that markdown or its HTML would obey."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join("\\" + c if c in r"\`*_{}[]#|~!" else c for c in text)


# --- CSV ------------------------------------------------------------------------

CSV_COLUMNS = (
    "group", "dataset", "method", "variant", "source", "unit", "checkpoint", "seeds",
    "mean", "std", "iqm", "iqm_low", "iqm_high", "last_mean", "best_mean", "ten_mean",
    "marks", "best",
)  # fmt: skip


def csv_text(board: Board) -> str:
    """One row per cell, full precision; empty where a value is not known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for group in board.groups:
        for (dataset, column), cell in group.cells.items():
            ends = [cell.by_checkpoint.get(n, (math.nan,))[0] for n in CHECKPOINTS]
            values = (cell.mean, cell.std, *cell.iqm, *ends)
            writer.writerow([
                group.name, dataset, column.method, column.variant,
                column.source or "measured", cell.unit, board.checkpoint,
                cell.seeds if cell.curves else "",
                *(repr(v) if math.isfinite(v) else "" for v in values),
                " ".join(sorted(cell.marks)), int(cell.best),
            ])  # fmt: skip
    return out.getvalue()


# --- LaTeX ----------------------------------------------------------------------

_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "±": r"$\pm$", "†": r"$^\dagger$", "‡": r"$^\ddagger$",
    **{c: "\\" + c for c in "&%$#_{}"},
}  # fmt: skip


def tex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_TEX.get(c, c) for c in text)


def latex(board: Board) -> str:
    """One booktabs table per group; needs `\\usepackage{booktabs}`."""
    return "\n".join(_latex_table(group, board) for group in board.groups)


def _latex_table(group: Group, board: Board) -> str:
    def row(head: str, texts: Iterable[str]) -> str:
        return "    " + " & ".join([head, *texts]) + r" \\"

    def strong(text: str, best: bool) -> str:
        return rf"\textbf{{{text}}}" if best else text

    def cell_text(cell: Cell | None) -> str:
        if cell is None:
            return "--"
        return strong(tex(mean_std(cell)).replace("*", "$^*$"), cell.best)

    lines = [
        r"\begin{table}[t]", r"  \centering",
        rf"  \caption{{{tex(group.name)}. {tex(caption(board))}}}",
        rf"  \begin{{tabular}}{{l{'r' * len(group.columns)}}}", r"    \toprule",
        row("Dataset", (tex(c.label) for c in group.columns)), r"    \midrule",
        *(row(tex(d), map(cell_text, group.row(d))) for d in group.datasets),
    ]  # fmt: skip
    if len(group.scored) > 1:
        totals = list(group.totals.values())
        lines += [
            r"    \midrule",
            row("Total", (strong(tex(total_text(t, group)), t.best) for t in totals)),
            row(r"IQM [95\,\%]", (tex(total_iqm(t)) for t in totals)),
        ]
    lines += [r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)
