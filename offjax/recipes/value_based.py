"""Value-based baselines with their published settings per domain, and CFPI on them.

Settings are CORL's (TD3+BC, CQL, AWAC) or the authors' (IQL, BCQ); the small and demo
presets keep them and shorten training. What CORL does on a single dataset is in
`EXCEPTIONS`; of the methods here only CQL has one (its IQL has more, which the authors'
settings do without). On Budget Allocation, which none of them knows, all of them see
raw observations and rewards of about 1 a step: standardised, the last action, whose
spread is about 1/T, is an input as strong as the others, and their policies feed
their own errors back through it (docs/results/asp.md).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from types import ModuleType
from typing import Any

from offjax.algorithms import awac as awac_algorithm
from offjax.algorithms import bcq as bcq_algorithm
from offjax.algorithms import cql as cql_algorithm
from offjax.algorithms import iql as iql_algorithm
from offjax.algorithms import td3_bc as td3_bc_algorithm
from offjax.recipes.common import pick, sample_transitions, step_rewards
from offjax.recipes.transitions import (
    DecodingPolicy,
    LearntPolicy,
    critic,
    domain,
    improvement,
    kind_of,
    prepare_rows,
    sample_group,
)
from offjax.types import EnvSpec, Recipe, Stage


def _stage(
    name: str,
    algorithm: ModuleType,
    spec: EnvSpec | None,
    preset: str,
    settings: dict[str, Any],
    **data: Any,
) -> Stage:
    if domain(spec) == "budget":
        data = {"normalize": False, "reward": (step_rewards(spec), 0.0)}
    demo = {"hidden_dims": (128, 128)} if preset == "demo" else {}
    return Stage(
        name,
        algorithm,
        algorithm.Config(**(settings | demo)),
        num_steps=pick(preset, paper=1_000_000, small=20_000, demo=3_000),
        prepare=partial(prepare_rows, **data),
        sampler=sample_transitions,
    )


def _recipe(name: str, stage: Stage) -> Recipe:
    return Recipe(
        name,
        (stage,),
        lambda configs: LearntPolicy(stage.name, stage.algorithm),
        q_function=critic(stage.name, stage.algorithm),
    )


def iql_stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `iql` with the authors' settings; raw observations."""
    kind = domain(spec)
    settings = {
        "expectile": {"antmaze": 0.9, "adroit": 0.7}.get(kind, 0.7),
        "temperature": {"antmaze": 10.0, "adroit": 0.5, "kitchen": 0.5}.get(kind, 3.0),
        "actor_decay_steps": pick(preset, paper=1e6, small=2e4, demo=3e3),
        "dropout": 0.1 if kind in ("adroit", "kitchen") else 0.0,
    } | settings
    return _stage(
        "iql",
        iql_algorithm,
        spec,
        preset,
        settings,
        normalize=False,
        reward=(1.0, -1.0 if kind == "antmaze" else 0.0),
        unit_returns=kind == "locomotion",
    )


def iql(spec: EnvSpec | None, preset: str) -> Recipe:
    """Implicit Q-learning, acting with the policy's mean."""
    return _recipe("iql", iql_stage(spec, preset))


def iql_cfpi(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_SG on IQL's policy and critic; log τ is one of 0.1, 0.2, 2.0 per dataset."""
    return dataclasses.replace(
        iql(spec, preset),
        name="iql_cfpi",
        improve=improvement("closed_form_gaussian", log_tau=0.2),
        q_function=critic("iql", iql_algorithm),
    )


def cql_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `cql` with CORL's settings.

    Off preset paper, 5 random actions from each proposal instead of 10, in narrower
    nets on fewer rows: some 4 ms of one core per update.
    """
    kind = domain(spec)
    by_domain: dict[str, dict[str, Any]] = {
        "maze2d": {"lagrange": True},
        "antmaze": {
            "alpha": 5.0,
            "lagrange": True,
            "lagrange_gap": 0.8,
            "actor_lr": 1e-4,
            "max_target": True,
            "gap_min": -200.0,
            "hidden_dims": (256, 256, 256, 256, 256),
        },
        "adroit": {"alpha": 1.0, "actor_lr": 1e-4},
    }
    settings = by_domain.get(kind, {})
    if preset != "paper":  # the critic's passes per row are three for each action
        settings |= {
            "hidden_dims": (128, 128),
            "batch_size": 64,
            "actor_lr": 1e-4,
            "num_actions": 5,
        }
    antmaze = kind == "antmaze"
    return _stage(
        "cql",
        cql_algorithm,
        spec,
        preset,
        settings,
        normalize=not antmaze,
        reward=(10.0, -5.0) if antmaze else (1.0, 0.0),
    )


def cql(spec: EnvSpec | None, preset: str) -> Recipe:
    """Conservative Q-learning, acting with tanh of the policy's mean."""
    return _recipe("cql", cql_stage(spec, preset))


def cql_cfpi(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_SG on the policy and the critic of CQL, before tanh; log τ = 0.1."""
    return dataclasses.replace(
        cql(spec, preset),
        name="cql_cfpi",
        improve=improvement("closed_form_gaussian", log_tau=0.1),
        q_function=critic("cql", cql_algorithm),
    )


def td3_bc(spec: EnvSpec | None, preset: str) -> Recipe:
    """TD3+BC; one update is two critic steps, so 500,000 updates are the usual 1M."""
    offset = -1.0 if domain(spec) == "antmaze" else 0.0
    stage = _stage("td3_bc", td3_bc_algorithm, spec, preset, {}, reward=(1.0, offset))
    stage = dataclasses.replace(
        stage, num_steps=stage.num_steps // 2, sampler=sample_group
    )
    return _recipe("td3_bc", stage)


def awac(spec: EnvSpec | None, preset: str) -> Recipe:
    """AWAC offline, acting with the policy's mean."""
    kind = domain(spec)
    temperature = 0.3333 if kind in ("locomotion", "budget", "") else 0.1
    offset = -1.0 if kind == "antmaze" else 0.0
    settings = {"temperature": temperature}
    stage = _stage("awac", awac_algorithm, spec, preset, settings, reward=(1.0, offset))
    return _recipe("awac", stage)


def bcq(spec: EnvSpec | None, preset: str) -> Recipe:
    """BCQ, acting with the best of 100 decoded and moved actions by Q_1."""
    settings = {}
    if preset != "paper":
        settings = {"vae_hidden_dims": (128, 128), "hidden_dims": (128, 128)}
    stage = _stage("bcq", bcq_algorithm, spec, preset, settings, normalize=False)
    return Recipe(
        "bcq",
        (stage,),
        lambda configs: DecodingPolicy("bcq", bcq_algorithm, num=100),
        improvement("best_of_n", n=100),
        critic("bcq", bcq_algorithm),
    )


EXCEPTIONS: dict[tuple[str, str, str], dict[str, Any]] = {
    ("cql", "hopper", "medium"): {"unit_returns": True},
}
"""(stage, environment, kind of data) → arguments of `prepare_rows` that differ."""


def with_exceptions(recipe: Recipe, dataset: str) -> Recipe:
    """The recipe with what is published for this dataset alone, by its id."""
    stages = []
    for stage in recipe.stages:
        rows = EXCEPTIONS.get((stage.name, *kind_of(dataset)))
        if rows is not None:
            stage = dataclasses.replace(stage, prepare=partial(stage.prepare, **rows))
        stages.append(stage)
    return dataclasses.replace(recipe, stages=tuple(stages))


RECIPES = {
    "iql": iql,
    "iql_cfpi": iql_cfpi,
    "cql": cql,
    "cql_cfpi": cql_cfpi,
    "td3_bc": td3_bc,
    "awac": awac,
    "bcq": bcq,
}
"""Method name → `(spec, preset) → Recipe`."""
