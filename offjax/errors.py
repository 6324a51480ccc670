"""The one exception that users are meant to read, and the two commonest checks."""

from __future__ import annotations

from collections.abc import Iterable


class UserError(Exception):
    """Bad input: names the thing, its value and the remedy, in one paragraph.

    The commands print the message without a traceback and exit with code 2.
    """


def require_option(name: str, value: str, options: Iterable[str]) -> None:
    """Raises `UserError` unless `value` is one of `options`."""
    options = tuple(options)
    if value not in options:
        known = ", ".join(map(repr, options))
        raise UserError(f"{name} is {value!r}; choose one of {known}.")


def require_least(least: float, **values: float) -> None:
    """Raises `UserError` for a value below `least`, or one that is not a number."""
    for name, value in values.items():
        if not value >= least:
            raise UserError(f"{name} is {value}: at least {least:g} is needed.")
