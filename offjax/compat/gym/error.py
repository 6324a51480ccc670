"""`gym.error`: what goes wrong; each message names the thing and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offjax.errors import UserError


class Error(UserError):
    """Any of the errors of `gym`."""


class UnregisteredEnv(Error):
    """There is no environment of that id."""


class ResetNeeded(Error):
    """A step before the first reset."""


class NotGiven(Error, AttributeError):
    """A part of the old gym or of D4RL that is not offered here."""


def not_given(what: str) -> NotGiven:
    """The error for a name that somebody looks up and that is not there."""
    return NotGiven(
        f"`{what}` is not offered by offjax.compat. docs/how_to/d4rl_scripts.md lists "
        "what is offered; for the rest, change the script to use gymnasium, which is "
        "installed with offjax."
    )


def offers_no_more(module: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module that says what it does not offer."""

    def missing(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise not_given(f"{module}.{name}")

    return missing
