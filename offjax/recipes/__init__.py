"""Named recipes: which stages, trained how, and acting with what."""

from __future__ import annotations

from collections.abc import Callable

from offjax.recipes import asp, bc, cfpi, sequence, value_based
from offjax.recipes.compose import check, compose
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

    `policy+critic+operator` composes one; see `offjax.recipes.compose`.

    Raises:
      UserError: an unknown method or preset.
    """
    if "+" in name:
        return compose(name, RECIPES)(spec, preset)
    check("method", name, RECIPES)
    return RECIPES[name](spec, preset)
