"""Named recipes: which stages, trained how, and acting with what."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from offjax.errors import UserError
from offjax.recipes import asp, bc, cfpi, sequence, value_based
from offjax.types import EnvSpec, Recipe

RECIPES: dict[str, Callable[[EnvSpec | None, str], Recipe]] = {
    "bc": bc.bc,
    "percent_bc": bc.percent_bc,
    "asp": asp.asp,
    "asp_k1": asp.asp_k1,
    "asp_mle": asp.asp_mle,
    **cfpi.RECIPES,
    **value_based.RECIPES,
    **sequence.RECIPES,
}
"""Method name → `(spec, preset) → Recipe`."""


def build(name: str, spec: EnvSpec | None, preset: str = "paper") -> Recipe:
    """The recipe `name` with the settings of `preset` for the domain of `spec`.

    Raises:
      UserError: an unknown method or preset.
    """
    if name not in RECIPES:
        close = difflib.get_close_matches(name, RECIPES, 3, 0.4)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        raise UserError(
            f"there is no method {name!r}.{hint} Methods: {', '.join(RECIPES)}."
        )
    return RECIPES[name](spec, preset)
