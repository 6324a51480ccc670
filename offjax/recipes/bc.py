"""Behaviour cloning, and cloning of the best episodes only."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from offjax.algorithms import bc as algorithm
from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.recipes.common import (
    TransitionData,
    hidden_dims,
    pick,
    prepare_transitions,
    sample_transitions,
)
from offjax.recipes.transitions import LearntPolicy
from offjax.types import (
    EnvSpec,
    Pytree,
    Recipe,
    Stage,
    config,
    static,
)


def bc_stage(preset: str, **settings: Any) -> Stage:
    """The stage `bc`, which many recipes begin with."""
    settings = {"hidden_dims": hidden_dims(preset)} | settings
    return Stage(
        "bc",
        algorithm,
        algorithm.Config(**settings),
        num_steps=pick(preset, paper=500_000, small=20_000, demo=3_000),
        prepare=prepare_transitions,
        sampler=sample_transitions,
    )


def bc(spec: EnvSpec | None, preset: str) -> Recipe:
    """Gaussian behaviour cloning (`--config.head=deterministic` for the other)."""
    del spec
    return Recipe(
        "bc", (bc_stage(preset),), lambda configs: LearntPolicy("bc", algorithm)
    )


@config
class PercentConfig(algorithm.Config):
    """`fraction` is the share of episodes, the best by return, that is cloned."""

    fraction: float = static(default=0.1)


def prepare_best(
    dataset: Dataset, config: PercentConfig, context: Mapping[str, Pytree]
) -> TransitionData:
    """Transitions of the best episodes."""
    best = convert.top_fraction(dataset, config.fraction)
    return prepare_transitions(best, config, context)


def percent_bc(spec: EnvSpec | None, preset: str) -> Recipe:
    """Cloning of the best tenth of the episodes (10 %-BC)."""
    del spec
    stage = bc_stage(preset)
    settings = PercentConfig(**dataclasses.asdict(stage.config))
    stage = dataclasses.replace(stage, config=settings, prepare=prepare_best)
    return Recipe("percent_bc", (stage,), lambda configs: LearntPolicy("bc", algorithm))
