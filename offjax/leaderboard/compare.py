"""Two columns of a board side by side: their difference on every dataset, and overall.

From the episodes that both recorded, where they did, else from their seeds' scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from offjax.errors import UserError
from offjax.leaderboard import differences, episodes
from offjax.leaderboard.board import CHECKPOINTS, Board, Column
from offjax.leaderboard.differences import MOST_SEEDS, Difference, Differences
from offjax.leaderboard.tables import aligned, interval, md, md_row, number

HEAD = ("A", "B", "A − B [95 %]", "P(A > B)", "won", "compared", "decided by")
NOTE = (
    "A − B with its 95 % t interval over seeds. P(A > B): probability that a seed of A "
    "scores above one of B. won: share of the common episodes in which A has the "
    "higher return. decided by: the fewest seeds whose interval would leave out 0, if "
    "difference and spread stay as they are; plan for twice as many."
)


@dataclass(frozen=True)
class Line:
    """A dataset, or the mean over all (`dataset` is "").

    Attributes:
      dataset: id.
      a: mean of A.
      b: mean of B.
      difference: A − B.
      won: share of common episodes with the higher return of A; NaN: not recorded.
      episodes: common ones of each seed; 0: not recorded.
      unit: `score` or `return`.
    """

    dataset: str
    a: float
    b: float
    difference: Difference
    won: float = math.nan
    episodes: int = 0
    unit: str = "score"


def column(board: Board, name: str, flag: str) -> Column:
    """The measured column that a name means: its method, or its whole label.

    Raises:
      UserError: there is none, or a method has several.
    """
    columns = {c for group in board.groups for c in group.columns if not c.source}
    whole = [c for c in columns if c.label == name]
    found = whole or [c for c in columns if c.method == name]
    if not found:
        known = ", ".join(sorted({c.method for c in columns}))
        raise UserError(
            f"--{flag}={name} is none of the methods that have results here: {known}."
        )
    if len(found) > 1:
        labels = ", ".join(sorted(f"--{flag}='{c.label}'" for c in found))
        raise UserError(
            f"--{flag}={name} has {len(found)} variants here; choose one: {labels}."
        )
    return found[0]


def lines(board: Board, a: Column, b: Column) -> list[Line]:
    """The datasets that both have, then the mean over those with scores.

    Raises:
      UserError: both are the same, or have no dataset in common.
    """
    if a == b:
        raise UserError(f"--a and --b are both {a.label}. Give two methods.")
    computed = Differences(board)
    found = [
        line
        for group in board.groups
        for dataset in group.datasets
        if (line := _line(board, computed, dataset, a, b))
    ]
    if not found:
        sides = [
            f"{c.label} has {', '.join(d for d, x in computed.cells if x == c)}"
            for c in (a, b)
        ]
        raise UserError(
            "The two have no dataset in common: "
            f"{'; '.join(sides)}. Train one on a dataset of the other."
        )
    scored = [line for line in found if line.unit == "score"]
    if len(scored) > 1:
        found.append(_overall(scored))
    return found


def _line(
    board: Board, computed: Differences, dataset: str, a: Column, b: Column
) -> Line | None:
    sides = computed.side(dataset, a), computed.side(dataset, b)
    if sides[0] is None or sides[1] is None:
        return None
    cells = computed.cells[dataset, a], computed.cells[dataset, b]
    # Only the last evaluation is that of the seeds' headline values.
    shared = episodes.common(*cells) if board.checkpoint == "last" else None
    difference = differences.between(sides[0], sides[1], shared)
    if difference is None:
        return None
    means = cells[0].mean, cells[1].mean
    if shared is None or not difference.paired:
        return Line(dataset, *means, difference, unit=cells[0].unit)
    return Line(dataset, *means, difference, shared.won, shared.episodes, cells[0].unit)


def _overall(found: list[Line]) -> Line:
    n = len(found)
    return Line(
        "",
        math.fsum(line.a for line in found) / n,
        math.fsum(line.b for line in found) / n,
        differences.average([line.difference for line in found]),
        math.fsum(line.won for line in found) / n,
    )


def title(board: Board, a: Column, b: Column) -> str:
    """What is compared."""
    return f"A = {a.label}, B = {b.label}; {CHECKPOINTS[board.checkpoint]}"


def rows(found: list[Line]) -> Iterator[tuple[str, ...]]:
    """The texts of each line."""
    count = sum(line.unit == "score" and line.dataset != "" for line in found)
    for line in found:
        name = line.dataset or f"mean of {count}"
        difference = line.difference
        yield (
            name if line.unit == "score" else f"{name} ({line.unit})",
            number(line.a),
            number(line.b),
            interval(difference.estimate),
            f"{difference.improvement:.2f}",
            f"{line.won:.2f}" if math.isfinite(line.won) else "–",
            compared(line),
            needed(difference.seeds_needed),
        )


def compared(line: Line) -> str:
    """What the difference was computed from."""
    a, b = line.difference.seeds
    if not line.dataset:
        return ""
    if not line.difference.paired:
        return f"{a} and {b} seeds, unpaired"
    text = f"{a} seed{'s' if a != 1 else ''}"
    return f"{text} × {line.episodes} episodes" if line.episodes else text


def needed(seeds: float) -> str:
    """How many seeds would decide it, in words."""
    if math.isnan(seeds):
        return "–"
    if math.isinf(seeds):
        return f"more than {MOST_SEEDS} seeds"
    return f"{seeds:.0f} seeds"


def plain(board: Board, a: Column, b: Column) -> str:
    """The comparison as text."""
    found = lines(board, a, b)
    table = aligned([("", *HEAD), *rows(found)])
    return "\n".join([title(board, a, b), "", *table, "", NOTE]) + "\n"


def markdown(board: Board, a: Column, b: Column) -> str:
    """The comparison as a markdown table."""
    found = lines(board, a, b)
    table = [md_row("", HEAD), "|---" + "|---:" * len(HEAD) + "|"]
    table += [md_row(md(name), map(md, texts)) for name, *texts in rows(found)]
    return "\n".join([md(title(board, a, b)), "", *table, "", NOTE]) + "\n"
