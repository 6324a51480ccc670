"""The methods: name → `(spec, preset) → Recipe`, in one dict."""

from __future__ import annotations

from collections.abc import Callable

from offjax.methods import td3_bc
from offjax.types import EnvSpec, Recipe

METHODS: dict[str, Callable[[EnvSpec | None, str], Recipe]] = {
    "td3_bc": td3_bc.recipe,
}
"""Method name → its recipe for an environment and a preset."""


def build(
    name: str, spec: EnvSpec | None, preset: str = "paper", dataset: str = ""
) -> Recipe:
    """The recipe `name` with the settings of `preset` for the domain of `spec`.

    `policy+critic+operator` composes one; see `offjax.methods.compose`. With the id of
    a dataset it has what is published for that dataset alone.

    Raises:
      UserError: an unknown method or preset.
    """
    del dataset
    return METHODS[name](spec, preset)
