"""Any policy × any critic × any operator: `policy+critic+operator` is a method's name.

bc_mixture+sarsa_iqn+closed_form_mixture      is cfpi
td3_bc+iql+action_gradient                    is nobody's yet
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from offjax.errors import UserError
from offjax.improvement import OPERATORS, improvement
from offjax.methods import cql, gradient_norm, iql, sarsa
from offjax.methods.common import reads_critic
from offjax.types import EnvSpec, Params, QFunction, Recipe, Stage

Builder = Callable[[EnvSpec | None, str], Recipe]


class Critic(NamedTuple):
    """What a composition takes of a critic.

    Attributes:
      stage: `(spec, preset) → Stage` that learns it.
      read: name of the stage → `Recipe.critic`.
      acting: what acting with it reads.
    """

    stage: Callable[[EnvSpec | None, str], Stage]
    read: Callable[[str], Callable[[Params], QFunction]] = reads_critic
    acting: Mapping[str, Any] = {}


CRITICS = {
    "sarsa_iqn": Critic(sarsa.stage, sarsa.critic, {"ensemble": sarsa.Ensemble()}),
    "iql": Critic(iql.stage),
    "cql": Critic(cql.stage),
}


def compose(name: str, policies: Mapping[str, Builder]) -> Builder:
    """The recipe builder of a name `policy+critic+operator`.

    The stages are the policy's and the critic's; a stage that both have is one. Action
    Gradient's normalized steps need one more, which measures the critic's gradient.

    Raises:
      UserError: an unknown part.
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
        critic = CRITICS[critic_name]
        stage = critic.stage(spec, preset)
        stages = tuple(s for s in recipe.stages if s.name != "gradient_norm")
        known = {s.name: s.method for s in stages}
        if known.get(stage.name, stage.method) is not stage.method:
            stage = dataclasses.replace(stage, name=f"{stage.name}_critic")
        if stage.name not in known:
            stages = (*stages, stage)
        if operator == "action_gradient":
            stages = (*stages, gradient_norm.stage(stage))
        return dataclasses.replace(
            recipe,
            name=name,
            stages=stages,
            acting={**recipe.acting, **critic.acting},
            improve=improvement(operator),
            critic=critic.read(stage.name),
        )

    return build


def check(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises `UserError` with near names where `name` is not known."""
    known = list(known)
    if name in known:
        return
    close = difflib.get_close_matches(name, known, 3, 0.4)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    raise UserError(f"there is no {kind} {name!r}.{hint} Known: {', '.join(known)}.")
