"""The leaderboard: run folders → statistics → tables, figures and a page.

Importing it never starts JAX.
"""

from __future__ import annotations

from pathlib import Path

from offjax.leaderboard import board, store, tables


def table(runs_dir: str | Path) -> str:
    """The leaderboard of a runs folder as plain text: one item a line, then the matrix.

    Raises:
      UserError: the folder does not exist or holds no run.
    """
    from offjax.leaderboard import matrix, matrix_tables  # they need SciPy

    built = board.build(store.read([runs_dir]))
    parts = tables.plain_lines(built), matrix_tables.plain_lines(matrix.build(built))
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def write_page(runs_dir: str | Path, out: str | Path | None = None) -> Path:
    """Writes the page of a runs folder, by default to its leaderboard.html.

    Raises:
      UserError: the folder does not exist, holds no run, or cannot be written to.
    """
    from offjax.leaderboard import page, reported  # the tables do without a template

    path = Path(out) if out is not None else Path(runs_dir) / "leaderboard.html"
    page.write(path, page.render(store.read([runs_dir]), reported.load([runs_dir])))
    return path
