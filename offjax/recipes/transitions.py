"""Pieces of the recipes that learn from single transitions: data, acting, critics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import chex
import numpy as np

from offjax.algorithms import gradient_norm
from offjax.datasets import convert, sampling
from offjax.datasets.dataset import Dataset
from offjax.distributions import Distribution, point
from offjax.errors import UserError
from offjax.improvement import OPERATORS
from offjax.recipes.common import (
    TransitionData,
    action_box,
    sample_transitions,
    within_box,
)
from offjax.types import (
    EnvSpec,
    Improvement,
    Key,
    Params,
    Policy,
    Pytree,
    QFunction,
    Recipe,
    Stage,
    Transitions,
)


def domain(spec: EnvSpec | None) -> str:
    """The dataset's domain, "" where it is unknown."""
    return spec.domain if spec is not None else ""


def kind_of(dataset: str) -> tuple[str, str]:
    """(environment, kind) of a dataset id: ("hopper", "medium-replay"), or "" each."""
    environments = ("halfcheetah", "hopper", "walker2d")
    environment = next((e for e in environments if e in dataset.lower()), "")
    kinds = ("medium-replay", "medium-expert", "medium")
    return environment, next((k for k in kinds if k in dataset.lower()), "")


def prepare_rows(
    dataset: Dataset,
    config: Any,
    context: Mapping[str, Pytree],
    *,
    normalize: bool = True,
    reward: tuple[float, float] = (1.0, 0.0),
    unit_returns: bool = False,
    next_actions: bool = False,
) -> TransitionData:
    """Transitions as a paper wants them.

    Args:
      dataset: any dataset.
      config: not read.
      context: not read.
      normalize: standardise observations.
      reward: factor and offset.
      unit_returns: first divide rewards by the range of the episodes' returns, times
        1000 (IQL on locomotion).
      next_actions: keep only rows that end the MDP or have a next action (SARSA).

    Raises:
      UserError: no row is left.
    """
    del config, context
    statistics = convert.statistics(
        dataset, normalize, action_box=action_box(dataset.spec)
    )
    rows = within_box(convert.to_transitions(dataset), dataset.spec, statistics)
    rewards = rows.rewards
    if unit_returns:
        spread = np.ptp(dataset.episode_returns)
        rewards = rewards * (1000.0 / spread if spread > 0 else 1.0)
    rewards = np.asarray(reward[0] * rewards + reward[1], np.float32)
    rows = rows._replace(rewards=rewards)
    if next_actions:
        keep = np.asarray(rows.has_next_action) | (np.asarray(rows.terminals) > 0)
        if not keep.any():
            raise UserError(
                f"Dataset {dataset.card.id!r} has no row with a next action, which "
                "SARSA needs: record episodes of two steps or more."
            )
        if not keep.all():
            rows = Transitions(*(np.asarray(x)[keep] for x in rows))
    return TransitionData(rows, statistics)


def sample_group(data: TransitionData, key: Key, config: Any) -> Transitions:
    """Rows for `config.policy_freq` critic steps of `config.batch_size` each."""
    return sampling.uniform(data.rows, key, config.policy_freq * config.batch_size)


@dataclasses.dataclass(frozen=True)
class LearntPolicy(Policy):
    """Acts with the distribution that `algorithm` has learnt in stage `stage`.

    With `sample` the distribution is a point: one action drawn from what was learnt.
    """

    stage: str
    algorithm: ModuleType
    sample: bool = False

    def propose(
        self,
        params: Params,
        carry: Pytree,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, Pytree]:
        """The learnt distribution; the carry is empty."""
        del reward
        state, config = params.states[self.stage], params.configs[self.stage]
        distribution = self.algorithm.distribution(state, observation, config)
        if self.sample:
            action = distribution.sample(key)
            distribution = point(action, distribution.shift, distribution.scale)
        return distribution, carry


@dataclasses.dataclass(frozen=True)
class DecodingPolicy(Policy):
    """Proposes `num` actions of a generative model, of which an operator picks one."""

    stage: str
    algorithm: ModuleType
    num: int = 1

    def propose(
        self,
        params: Params,
        carry: Pytree,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, Pytree]:
        """Decoded actions as atoms; the carry is empty."""
        del reward
        state, config = params.states[self.stage], params.configs[self.stage]
        atoms = self.algorithm.distribution(state, observation, config, key, self.num)
        return atoms, carry


def critic(
    stage: str, algorithm: ModuleType, norm: str | None = None
) -> Callable[[Params], QFunction]:
    """`Recipe.q_function` that reads the stage's critic.

    Where the operator's steps are normalised the critic is divided by its median
    gradient, which the stage `norm` has measured.

    Raises:
      UserError: normalised steps, but no such stage.
    """

    def q_function(params: Params) -> QFunction:
        state, config = params.states[stage], params.configs[stage]
        unit: chex.Numeric = 1.0
        if getattr(params.improve, "step_mode", "raw") == "normalised":
            if norm is None:
                raise UserError(
                    f"step_mode=normalised needs the size of the gradients of {stage}, "
                    "which this run has not measured: take step_mode=raw, or train "
                    "with --method=compose --improve=action_gradient."
                )
            unit = params.states[norm].norm
        return lambda observation, action: (
            algorithm.q_value(state, observation, action, config) / unit
        )

    return q_function


def gradient_norm_stage(critic: Stage) -> Stage:
    """Stage `gradient_norm`: the unit of Action Gradient's normalised step sizes."""
    return Stage(
        "gradient_norm",
        gradient_norm,
        gradient_norm.Config(critic=critic.config),
        num_steps=1,
        prepare=critic.prepare,
        sampler=sample_transitions,
        reads=(critic.name,),
    )


def link_critics(recipe: Recipe) -> Recipe:
    """`Recipe.link`: stages that read a critic know the settings it is trained with."""
    configs = {stage.name: stage.config for stage in recipe.stages}

    def linked(stage: Stage) -> Stage:
        if not (stage.reads and hasattr(stage.config, "critic")):
            return stage
        config = dataclasses.replace(stage.config, critic=configs[stage.reads[0]])
        return dataclasses.replace(stage, config=config)

    return dataclasses.replace(recipe, stages=tuple(map(linked, recipe.stages)))


def improvement(name: str, **settings: Any) -> Improvement:
    """The operator `name` of `offjax.improvement.OPERATORS` with these settings."""
    operator, config = OPERATORS[name]
    return Improvement(name, operator, config(**settings))
