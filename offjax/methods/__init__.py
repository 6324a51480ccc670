"""The methods: name → `(spec, preset) → Recipe`, in one dict."""

from __future__ import annotations

from collections.abc import Callable

from offjax.methods import (
    action_gradient,
    asp,
    decision_transformer,
    reinformer,
    reinformer_original,
    td3_bc,
    tdmpc2,
)
from offjax.types import EnvSpec, Recipe

METHODS: dict[str, Callable[[EnvSpec | None, str], Recipe]] = {
    "td3_bc": td3_bc.recipe,
    # Planners and sequence models
    "asp": asp.recipe,
    "asp_k1": asp.one_step,
    "asp_mle": asp.likelihood,
    "tdmpc2": tdmpc2.recipe,
    "tdmpc2_policy": tdmpc2.policy_recipe,
    "decision_transformer": decision_transformer.recipe,
    "reinformer": reinformer.recipe,
    "reinformer_original": reinformer_original.recipe,
    "dt_ag": action_gradient.dt_ag,
    "reinformer_ag": action_gradient.reinformer_ag,
    "reinformer_pg": action_gradient.reinformer_pg,
    "reinformer_awac": action_gradient.reinformer_awac,
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
