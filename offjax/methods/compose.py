"""Any policy × any critic × any operator: `policy+critic+operator` is a method's name.

bc_mixture+sarsa_iqn+closed_form_mixture      is cfpi
td3_bc+iql+action_gradient                    is nobody's yet
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import LanguageDataset
from offjax.errors import UserError
from offjax.improvement import OPERATORS, improvement
from offjax.methods import cql, gradient_norm, iql, sarsa
from offjax.methods.common import reads_critic
from offjax.types import EnvSpec, Model, Params, QFunction, Recipe, Stage, Upstream

Builder = Callable[[EnvSpec | None, str], Recipe]


class Critic(NamedTuple):
    """What a composition takes of a critic; `acting` and `for_dataset` as in `Recipe`.

    `stage(spec, preset)` learns it, and `read(stage name)` is `Recipe.critic`.
    """

    stage: Callable[[EnvSpec | None, str], Stage]
    read: Callable[[str], Callable[[Params], QFunction]] = reads_critic
    acting: Mapping[str, Any] = {}
    for_dataset: Callable[[Recipe, str], Recipe] | None = None


CRITICS = {
    "sarsa_iqn": Critic(sarsa.stage, sarsa.critic, {"ensemble": sarsa.Ensemble()}),
    "iql": Critic(iql.stage),
    "cql": Critic(cql.stage, for_dataset=cql.for_dataset),
}


def compose(name: str, policies: Mapping[str, Builder]) -> Builder:
    """The recipe builder of a name `policy+critic+operator`; `UserError` if unknown.

    The stages are the policy's and the critic's; a stage that both have is one. Action
    Gradient's normalized steps need one more, which measures the critic's gradient.
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
            validate=partial(_validate, recipe.validate),
            for_dataset=recipe.for_dataset or critic.for_dataset,
        )

    return build


def _validate(
    own: Callable[[Recipe, Dataset | None], None] | None,
    recipe: Recipe,
    dataset: Dataset | None,
) -> None:
    """Raises `UserError` where policy, critic, operator and data do not fit together.

    The recipe is traced from data to action, on two episodes and without computing
    anything, so that what an operator says of a distribution is said before training.
    """
    if own is not None:
        own(recipe, dataset)
    if dataset is None:
        return
    if isinstance(dataset, LanguageDataset):
        raise UserError(
            f"{recipe.name} has a critic, which learns from rewards, but those of "
            f"{dataset.card.id!r} belong to no instruction: use the policy alone."
        )
    few = convert.top_fraction(dataset, min(1.0, 2 / dataset.card.episodes))
    models: dict[str, Model] = {}
    key = jax.random.PRNGKey(0)
    for stage in recipe.stages:
        upstream = {name: models[name] for name in stage.reads}
        config, init = jax.tree.map(jnp.float32, stage.config), stage.method.init
        arrays = stage.view.arrays(few, stage.config, _untrained(upstream))
        state = jax.eval_shape(init, key, arrays, config, upstream)
        models[stage.name] = Model(stage.method, config, state)
    assert recipe.improve is not None and recipe.critic is not None
    actor, operator = recipe.actor(recipe), recipe.improve.operator
    read = recipe.critic

    def act(params: Params, observation: jax.Array) -> jax.Array:
        carry = actor.begin(params, None, key)
        carry = actor.plan(params, carry, observation, key)
        distribution, _ = actor.act(params, carry, observation, jnp.float32(0), key)
        q = partial(read(params), observation)
        return operator(distribution, q, key, params.improve)

    params = Params(models, recipe.acting, recipe.improve.config)
    jax.eval_shape(act, params, few.observations[0])


def _untrained(upstream: Upstream) -> Upstream:
    """Models whose states are shapes, with zeros instead."""
    return {
        name: model.replace(
            state=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), model.state)
        )
        for name, model in upstream.items()
    }


def check(kind: str, name: str, known: Iterable[str]) -> None:
    """Raises `UserError` with near names where `name` is not known."""
    known = list(known)
    if name in known:
        return
    # Papers write TD3-BC or TD3+BC for td3_bc.
    plain = {re.sub("[^a-z0-9]+", "_", each.lower()): each for each in known}
    typed = re.sub("[^a-z0-9]+", "_", name.lower())
    near = difflib.get_close_matches(typed, plain, 3, 0.5)
    close = [plain[n] for n in ([typed] if typed in plain else near)]
    if close:
        raise UserError(f"there is no {kind} {name!r}. Did you mean {_or(close)}?")
    raise UserError(f"there is no {kind} {name!r}. Known: {', '.join(known)}.")


def _or(names: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
