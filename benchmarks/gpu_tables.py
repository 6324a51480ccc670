"""What benchmarks.gpu found, as tables for a reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Result = dict[str, Any]


def text(content: Result) -> str:
    """All tables of a report, and what it lacks."""
    parts = []
    if content["machine"]["platform"] == "cpu":
        parts.append("CPU numbers: there is no accelerator here.")
    if content["tiny"]:
        parts.append("Tiny sizes: the numbers show that the script works, no more.")
    for section, (title, rows) in TABLES.items():
        if section in content:
            parts.append(f"{title}\n{_table(rows(content[section]))}")
    for title, reason in content["failed"].items():
        parts.append(f"Failed: {title}: {reason}")
    if content["left out"]:
        named = "; ".join(content["left out"])
        parts.append(f"Left out, for want of time: {named}. The same call goes on.")
    return "\n\n".join(["", *parts])


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest entry, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            entry.rjust(width) if i else entry.ljust(width)
            for i, (entry, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _training(found: Result) -> list[list[str]]:
    counts = sorted({count for cells in found.values() for count in cells}, key=int)
    rows = [["stage, by seeds", *counts, "compiling"]]
    for stage, cells in found.items():
        shown = []
        for count in counts:
            cell = cells[count]
            if "failed" in cell:
                shown.append("does not fit")
            else:
                rate = cell["rate"]["median"]
                shown.append(f"{rate:,.0f} {_share(cell['share of peak']):>6}")
        spent = [x["compile seconds"] for x in cells.values() if "rate" in x]
        most = f"{max(spent):.1f} s" if spent else "–"
        rows.append([stage, *shown, most])
    return rows


def _column(found: Result) -> list[list[str]]:
    rows = [["", "seed-steps/s", "nine × seeds × 1M steps", "compiling"]]
    for stage, each in found.items():
        for way, programs in (("together", 1), ("in turn", 9)):
            cell, minutes = each[way], each[f"minutes for 1M steps, {way}"]
            rows.append([
                f"{stage}, {way}", f"{cell['rate']['median']:,.0f}",
                f"{minutes:,.1f} min", f"{programs} × {cell['compile seconds']:.1f} s",
            ])  # fmt: skip
    return rows


def _resume(found: Result) -> list[list[str]]:
    rows = [["run", "states equal"]]
    return rows + [[name, _yes(each["same states"])] for name, each in found.items()]


def _evaluation(found: Result) -> list[list[str]]:
    rows = [["evaluated", "all", "training", "evaluation", "compiling"]]
    names = ("seconds", "training seconds", "evaluation seconds", "compile seconds")
    for stage, ways in found.items():
        for way, each in ways.items():
            rows.append(
                [f"{stage}, {way}", *(f"{each[name]:,.2f} s" for name in names)]
            )
    return rows


def _peers(found: Result) -> list[list[str]]:
    rows = [["peer", "one process", "several", "arranged as"]]
    for name, each in found.items():
        (_, one), (way, several) = each.items()
        rows.append([name, f"{one:,.0f}", f"{several:,.0f}", way])
    return rows


def _flags(found: Result) -> list[list[str]]:
    rows = [["stage, flag", "seed-steps/s", "ratio", "equal again", "compiling"]]
    for stage, each in found.items():
        for name, one in each.items():
            rows.append([
                f"{stage}, {one['flag'] or name}", f"{one['rate']:,.0f}",
                f"{one['ratio']:.2f}", _yes(one["equal again"]),
                f"{one['compile seconds']:.1f} s",
            ])  # fmt: skip
    return rows


def _memory(found: Result) -> list[list[str]]:
    names = ("estimated", "of the compiler", "temporary", "peak of the device")
    rows = [["stage", *names, "measured / estimated"]]
    for name, each in found.items():
        counted = [each[key] for key in names]
        shown = ["–" if x is None else f"{x / 1e6:,.1f} MB" for x in counted]
        rows.append([name, *shown, f"{each['measured / estimated']:.2f}"])
    return rows


def _precision(found: Result) -> list[list[str]]:
    rows = [["stage, products", "seed-steps/s", "ratio"]]
    for stage, each in found.items():
        for name, one in each.items():
            shown = f"{one['rate']:,.0f}", f"{one['ratio']:.2f}"
            rows.append([f"{stage}, {name}", *shown])
    return rows


TABLES: dict[str, tuple[str, Callable[[Result], list[list[str]]]]] = {
    "training": (
        "Seed-steps per second, and their share of the peak; longest compiling",
        _training,
    ),
    "column": ("Nine datasets in one program, and in turn", _column),
    "resume": ("Interrupted and resumed", _resume),
    "evaluation": (
        "Evaluation before the next chunk, beside it, at the end",
        _evaluation,
    ),
    "peers": ("Peers' critic updates per second", _peers),
    "flags": ("Flags for repeatable results", _flags),
    "memory": ("Memory of a device", _memory),
    "precision": ("Rounding of products", _precision),
}
