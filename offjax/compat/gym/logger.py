"""`gym.logger`: warnings on stderr, from a level on."""

from __future__ import annotations

import sys

DEBUG, INFO, WARN, ERROR, DISABLED = 10, 20, 30, 40, 50

_level = WARN


def set_level(level: int) -> None:
    """Prints messages of this level and above."""
    global _level
    _level = level


def warn(message: str, *args: object) -> None:
    """A warning; `args` fill in its %-marks."""
    _print(WARN, "warning", message, args)


def error(message: str, *args: object) -> None:
    """An error that does not stop the script."""
    _print(ERROR, "error", message, args)


def info(message: str, *args: object) -> None:
    """A remark."""
    _print(INFO, "info", message, args)


def _print(level: int, name: str, message: str, args: tuple[object, ...]) -> None:
    if level >= _level:
        print(f"{name}: {message % args if args else message}", file=sys.stderr)
