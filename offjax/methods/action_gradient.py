"""Decision Transformer and Reinformer with Action Gradient, and its rivals.

Lin et al., "Adjusting the Output of Decision Transformer with Action Gradient", 2025
(https://arxiv.org/abs/2510.05285). `dt_ag` and `reinformer_ag` refine each action on an
IQL critic (`offjax.improvement.action_gradient`); `reinformer_pg` and `reinformer_awac`
train against the same critic.

The paper gives neither the sizes of its networks nor η and n; the settings here are
those of the published Decision Transformer and Reinformer, η is relative: 0.01, and
n = 10.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from offjax.improvement import improvement
from offjax.methods import decision_transformer, gradient_norm, iql, reinformer
from offjax.methods.common import domain, pick, reads_critic
from offjax.types import EnvSpec, Recipe, Stage


def critic_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `critic`: IQL's value functions, without its policy.

    Preset demo has few updates, and the goal of a maze is hundreds of steps away: there
    the target networks follow faster than published, and batches are large.
    """
    settings: dict[str, Any] = {}
    if preset == "demo":
        settings = {"hidden_dims": (128, 128), "batch_size": 256}
        if domain(spec) == "maze2d":
            settings["tau"] = 0.05
    stage = iql.stage(spec, preset, critic_only=True, **settings)
    steps = pick(preset, paper=stage.num_steps, small=stage.num_steps, demo=8_000)
    return dataclasses.replace(stage, name="critic", num_steps=steps)


def _refined(recipe: Recipe, name: str, spec: EnvSpec | None, preset: str) -> Recipe:
    critic = critic_stage(spec, preset)
    return dataclasses.replace(
        recipe,
        name=name,
        stages=(*recipe.stages, critic, gradient_norm.stage(critic)),
        improve=improvement(
            "action_gradient", step_size=0.01, ascent_steps=10, step_mode="normalized"
        ),
        critic=reads_critic("critic"),
    )


def dt_ag(spec: EnvSpec | None, preset: str) -> Recipe:
    """Decision Transformer with Action Gradient."""
    return _refined(decision_transformer.recipe(spec, preset), "dt_ag", spec, preset)


def reinformer_ag(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer with Action Gradient, the paper's method."""
    return _refined(reinformer.recipe(spec, preset), "reinformer_ag", spec, preset)


def _rival(name: str, spec: EnvSpec | None, preset: str, **settings: Any) -> Recipe:
    policy = reinformer.stage(spec, preset, **settings)
    return Recipe(name, (critic_stage(spec, preset), policy), reinformer.actor)


def reinformer_pg(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer trained with the policy gradient of the critic, too (eq. 9)."""
    return _rival("reinformer_pg", spec, preset, extra="pg")


def reinformer_awac(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer whose likelihood is weighted by the advantage (eq. 10)."""
    awac_lambda = 1 / 3 if domain(spec) == "locomotion" else 0.1
    return _rival(
        "reinformer_awac", spec, preset, extra="awac", awac_lambda=awac_lambda
    )
