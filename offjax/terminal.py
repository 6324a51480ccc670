"""What a stream can show: colors, and how many columns."""

from __future__ import annotations

import os
import shutil
from typing import TextIO

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "cyan": "36"}


def is_terminal(stream: TextIO) -> bool:
    """Whether lines can be rewritten in place."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_colored(stream: TextIO) -> bool:
    """Whether colors are wanted: by $NO_COLOR, $FORCE_COLOR, else on terminals."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)


def choose_colors(choice: str) -> None:
    """Makes "always" or "never" known to this process and to those that it starts.

    "auto" leaves the environment as it is. Rich reads the same variables.
    """
    if choice == "never":
        os.environ["NO_COLOR"] = "1"
    elif choice == "always":
        os.environ.pop("NO_COLOR", None)
        os.environ["FORCE_COLOR"] = "1"


def styled(text: str, style: str, stream: TextIO) -> str:
    """The text in a style of `CODES`, or plain where the stream has no colors."""
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if is_colored(stream) else text


def columns() -> int:
    """Width of the terminal."""
    return shutil.get_terminal_size().columns
