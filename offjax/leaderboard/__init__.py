"""The leaderboard: run folders → statistics → tables, figures and a page.

Importing it never starts JAX.
"""

from __future__ import annotations

from pathlib import Path

from offjax.leaderboard import board, store, tables


def table(runs_dir: str | Path) -> str:
    """The leaderboard of a runs folder as plain text, one item a line.

    Raises:
      UserError: the folder does not exist or holds no run.
    """
    return "\n".join(tables.plain_lines(board.build(store.read([runs_dir])))) + "\n"
