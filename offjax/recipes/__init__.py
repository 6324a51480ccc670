"""Named recipes: which stages, trained how, and acting with what."""

from __future__ import annotations

from collections.abc import Callable

from offjax.recipes import (
    asp,
    bc,
    cfpi,
    sequence,
    tdmpc2,
    value_based,
)
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
    **tdmpc2.RECIPES,
    **sequence.RECIPES,
}
"""Method name → `(spec, preset) → Recipe`."""


def build(
    name: str, spec: EnvSpec | None, preset: str = "paper", dataset: str = ""
) -> Recipe:
    """The recipe `name` with the settings of `preset` for the domain of `spec`.

    `policy+critic+operator` composes one; see `offjax.recipes.compose`. With the id of
    a dataset it has what is published for that dataset alone.

    Raises:
      UserError: an unknown method or preset.
    """
    if "+" in name:
        recipe = compose(name, RECIPES)(spec, preset)
    else:
        check("method", name, RECIPES)
        recipe = RECIPES[name](spec, preset)
    return value_based.with_exceptions(recipe, dataset)
