"""Decision Transformer and Reinformer, alone, with Action Gradient, and its rivals.

Lin et al., "Adjusting the Output of Decision Transformer with Action Gradient", 2025
(https://arxiv.org/abs/2510.05285). `dt_ag` and `reinformer_ag` refine each action on an
IQL critic; `reinformer_pg` and `reinformer_awac` train against the same critic.

The paper gives neither the sizes of its networks nor η and n; the settings here are
those of the published Decision Transformer and Reinformer, η is relative (see
`offjax.improvement.action_gradient`): 0.01, and n = 10. Return targets are those of the
published Decision Transformer and of CORL.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from offjax.algorithms import (
    decision_transformer,
    iql,
    reinformer,
    reinformer_original,
)
from offjax.datasets import convert, trajectories
from offjax.datasets.dataset import Dataset
from offjax.recipes.common import action_box, pick
from offjax.recipes.sequence_policies import MaxReturnPolicy, ReturnConditionedPolicy
from offjax.recipes.transitions import (
    critic,
    domain,
    gradient_norm_stage,
    improvement,
    link_critics,
)
from offjax.recipes.value_based import iql_stage
from offjax.types import (
    EnvSpec,
    Key,
    Policy,
    Pytree,
    Recipe,
    Stage,
)

RETURN_TARGETS = {
    "hopper": 3600.0,
    "halfcheetah": 12_000.0,
    "walker2d": 5000.0,
    "reacher": 76.0,
    "maze2d": 280.0,
    "antmaze": 1.0,
    "pen": 3100.0,
    "door": 2900.0,
    "hammer": 12_800.0,
    "relocate": 4300.0,
}
"""Part of an environment's id → the larger of its published return targets."""
MAZE_RETURN_SCALE = 10.0
"""In maze2d the return of an episode that comes to the goal is a tenth of the largest,
that of one which leaves it; presets for few updates scale by the former."""


def prepare_trajectories(
    dataset: Dataset, config: Any, context: Mapping[str, Pytree]
) -> trajectories.Trajectories:
    """Episodes with returns-to-go; the deviations' epsilon is 1e-6, as published."""
    del context
    statistics = convert.statistics(
        dataset, action_box=action_box(dataset.spec), epsilon=1e-6
    )
    return trajectories.from_dataset(
        dataset,
        statistics,
        config.max_timesteps,
        config.return_scale,
        config.reward_scale,
        config.reward_shift,
        config.episode_length,
        getattr(config, "discount", 1.0),
        config.rare_timesteps,
    )


def sample_windows(
    data: trajectories.Trajectories, key: Key, config: Any
) -> trajectories.Segments:
    """`config.batch_size` windows of `config.context_length` steps."""
    return trajectories.sample(
        data, key, config.batch_size, config.context_length, config.weighting
    )


def return_target(spec: EnvSpec | None) -> float:
    """The published return target of an environment; NaN where there is none."""
    name = spec.id.lower() if spec is not None else ""
    known = (target for part, target in RETURN_TARGETS.items() if part in name)
    return next(known, math.nan)


def _sizes(spec: EnvSpec | None, preset: str, paper: dict[str, Any]) -> dict[str, Any]:
    """Settings of a sequence model; `paper` are the published ones.

    The other presets are for two cores: many windows of a single step. These
    environments are Markov, the steps of a long window nearly one, and a policy that
    reads its last action learns to repeat it (docs/results/action_gradient.md).
    """
    horizon = max(spec.horizon if spec is not None else 1000, 1000)
    small: dict[str, Any] = {
        "num_layers": 1,
        "num_heads": 2,
        "width": 64,
        "dropout": 0.0,
        "batch_size": 256,
        "context_length": 1,
        "warmup_steps": 100.0,
        "lr": 1e-3,
        "rare_timesteps": 0.1,
    }
    demo = small | {"width": 32, "batch_size": 128, "lr": 2e-3}
    return {"max_timesteps": horizon} | pick(
        preset, paper=paper, small=small, demo=demo
    )


def _stage(
    name: str, algorithm: ModuleType, config: Any, preset: str, paper_steps: int
) -> Stage:
    return Stage(
        name,
        algorithm,
        config,
        num_steps=pick(preset, paper=paper_steps, small=10_000, demo=5_000),
        prepare=prepare_trajectories,
        sampler=sample_windows,
        acting=("return_target",) if algorithm is decision_transformer else (),
    )


def dt_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `decision_transformer`; returns over 1000 on locomotion, else raw.

    Off preset paper, the embeddings begin as small as the blocks' weights: PyTorch's
    embeddings of time, ten times an embedded return, are unlearnt first.
    """
    settings = _sizes(spec, preset, {"batch_size": 64})
    settings["return_scale"] = 1000.0 if domain(spec) == "locomotion" else 1.0
    if preset != "paper":
        settings["initialization"] = "normal"
        if domain(spec) == "maze2d":
            settings["return_scale"] = MAZE_RETURN_SCALE
    settings["return_target"] = return_target(spec)
    config = decision_transformer.Config(**settings)
    return _stage("decision_transformer", decision_transformer, config, preset, 100_000)


def _quick(spec: EnvSpec | None, preset: str) -> dict[str, Any]:
    """What lets Reinformer with separate networks learn in a few thousand updates."""
    if preset == "paper":
        return {}
    settings = {"optimizer": "adamw", "return_history": "none", "time_std": 0.02}
    scale = {"return_scale": MAZE_RETURN_SCALE} if domain(spec) == "maze2d" else {}
    return settings | scale


def reinformer_stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `reinformer`: one set of hyperparameters for all environments."""
    settings = _sizes(spec, preset, {}) | _quick(spec, preset) | settings
    config = reinformer.Config(**settings)
    stage = _stage("reinformer", reinformer, config, preset, 50_000)
    reads = ("critic",) if config.extra != "none" else ()
    return dataclasses.replace(stage, reads=reads)


def critic_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `critic`: IQL's value functions, without its policy.

    Few updates with the published target networks (0.005) look some tens of steps
    ahead; in mazes the goal is hundreds away.
    """
    settings: dict[str, Any] = {}
    if preset != "paper":
        settings["hidden_dims"] = (128, 128)
        if domain(spec) == "maze2d":
            settings["polyak"] = 0.05
    stage = iql_stage(spec, preset, critic_only=True, **settings)
    steps = pick(preset, paper=stage.num_steps, small=10_000, demo=8_000)
    return dataclasses.replace(stage, name="critic", num_steps=steps)


def _with_action_gradient(recipe: Recipe, name: str, spec: Any, preset: str) -> Recipe:
    values = critic_stage(spec, preset)
    return dataclasses.replace(
        recipe,
        name=name,
        stages=(*recipe.stages, values, gradient_norm_stage(values)),
        improve=improvement(
            "action_gradient", step_size=0.01, ascent_steps=10, step_mode="normalised"
        ),
        q_function=critic("critic", iql, "gradient_norm"),
        link=link_critics,
    )


def dt(spec: EnvSpec | None, preset: str) -> Recipe:
    """Decision Transformer, asking for the larger published return."""
    name = "decision_transformer"
    return Recipe(
        name,
        (dt_stage(spec, preset),),
        lambda configs: ReturnConditionedPolicy(
            name, decision_transformer, configs[name]
        ),
    )


def dt_ag(spec: EnvSpec | None, preset: str) -> Recipe:
    """Decision Transformer with Action Gradient."""
    return _with_action_gradient(dt(spec, preset), "dt_ag", spec, preset)


def _reinformer_policy(configs: Mapping[str, Any]) -> Policy:
    return MaxReturnPolicy("reinformer", reinformer, configs["reinformer"])


def reinformer_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer as the Action Gradient paper has it: two networks, n = 0."""
    stages = (reinformer_stage(spec, preset),)
    return Recipe("reinformer", stages, _reinformer_policy)


def reinformer_ag(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer with Action Gradient, the paper's method."""
    base = reinformer_recipe(spec, preset)
    return _with_action_gradient(base, "reinformer_ag", spec, preset)


def _rival(name: str, spec: EnvSpec | None, preset: str, **settings: Any) -> Recipe:
    values = critic_stage(spec, preset)
    policy = reinformer_stage(spec, preset, critic=values.config, **settings)
    return Recipe(name, (values, policy), _reinformer_policy, link=link_critics)


def reinformer_pg(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer trained with the policy gradient of the critic, too (eq. 9)."""
    return _rival("reinformer_pg", spec, preset, extra="pg")


def reinformer_awac(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer whose likelihood is weighted by the advantage (eq. 10)."""
    temperature = 1 / 3 if domain(spec) == "locomotion" else 0.1
    return _rival(
        "reinformer_awac", spec, preset, extra="awac", extra_temperature=temperature
    )


def reinformer_original_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer as its own authors' code: one network, per-domain scales, K = 5."""
    scales = {"locomotion": 1000.0, "maze2d": 100.0, "kitchen": 100.0}
    scales |= {"adroit": 10_000.0, "antmaze": 1.0}
    halfcheetah = spec is not None and "halfcheetah" in spec.id.lower()
    settings = _sizes(spec, preset, {}) | {
        "context_length": 5,
        "return_scale": 5000.0 if halfcheetah else scales.get(domain(spec), 0.0),
    }
    if domain(spec) == "antmaze":
        settings |= {"reward_scale": 100.0, "reward_shift": 1.0}
    name = "reinformer_original"
    config = reinformer_original.Config(**settings)
    return Recipe(
        name,
        (_stage(name, reinformer_original, config, preset, 50_000),),
        lambda configs: MaxReturnPolicy(name, reinformer_original, configs[name]),
    )


RECIPES = {
    "decision_transformer": dt,
    "dt_ag": dt_ag,
    "reinformer": reinformer_recipe,
    "reinformer_ag": reinformer_ag,
    "reinformer_pg": reinformer_pg,
    "reinformer_awac": reinformer_awac,
    "reinformer_original": reinformer_original_recipe,
}
"""Method name → `(spec, preset) → Recipe`."""
