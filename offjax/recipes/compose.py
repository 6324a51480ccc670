"""Any policy × any critic × any operator: `policy+critic+operator` is a method's name.

bc_mixture+sarsa_iqn+closed_form_mixture      is cfpi
td3_bc+iql+action_gradient                    is nobody's yet
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable
from types import ModuleType

from offjax.algorithms import cql, iql, sarsa
from offjax.errors import UserError
from offjax.improvement import OPERATORS
from offjax.recipes.cfpi import sarsa_critic
from offjax.recipes.transitions import (
    critic,
    gradient_norm_stage,
    improvement,
    link_critics,
)
from offjax.recipes.value_based import cql_stage, iql_stage
from offjax.types import EnvSpec, Recipe, Stage

Builder = Callable[[EnvSpec | None, str], Recipe]

CRITICS: dict[str, tuple[Callable[[EnvSpec | None, str], Stage], ModuleType]] = {
    "sarsa_iqn": (sarsa_critic, sarsa),
    "iql": (iql_stage, iql),
    "cql": (cql_stage, cql),
}
"""Critic → its stage, and the algorithm whose `q_value` reads it."""


def compose(name: str, policies: dict[str, Builder]) -> Builder:
    """The recipe builder of a name `policy+critic+operator`.

    The stages are the policy's and the critic's; a stage that both have is one. Action
    Gradient's normalised steps need one more, which measures the critic's gradient.

    Raises:
      UserError: an unknown part; an operator that needs a density on a policy
        without one is found when it is first used.
    """
    parts = name.split("+")
    if len(parts) != 3:
        raise UserError(
            f"{name!r} is not of the form policy+critic+operator, such as "
            "bc_mixture+sarsa_iqn+closed_form_mixture."
        )
    policy, critic_name, operator = parts
    check("policy", policy, policies)
    check("critic", critic_name, CRITICS)
    check("operator", operator, OPERATORS)

    def build(spec: EnvSpec | None, preset: str) -> Recipe:
        recipe = policies[policy](spec, preset)
        make_stage, algorithm = CRITICS[critic_name]
        stage = make_stage(spec, preset)
        stages = tuple(s for s in recipe.stages if s.name != "gradient_norm")
        known = {s.name: s for s in stages}
        if stage.name not in known:
            stages = (*stages, stage)
        elif known[stage.name].algorithm is not algorithm:
            stage = dataclasses.replace(stage, name=f"{stage.name}_critic")
            stages = (*stages, stage)
        norm = None
        if operator == "action_gradient":
            stages = (*stages, gradient_norm_stage(stage))
            norm = "gradient_norm"
        return dataclasses.replace(
            recipe,
            name=name,
            stages=stages,
            improve=improvement(operator),
            q_function=critic(stage.name, algorithm, norm),
            link=link_critics,
        )

    return build


def check(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises `UserError` with near names where `name` is not known."""
    known = list(known)
    if name in known:
        return
    # Papers write TD3-BC or TD3+BC for td3_bc.
    plain = {re.sub("[^a-z0-9]+", "_", each.lower()): each for each in known}
    typed = re.sub("[^a-z0-9]+", "_", name.lower())
    close = [plain[n] for n in difflib.get_close_matches(typed, plain, 3, 0.4)]
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UserError(f"there is no {kind} {name!r}.{hint} Known: {', '.join(known)}.")
