"""Pieces of the recipes that learn from single transitions: data, acting, critics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import chex
import numpy as np

from offjax.datasets import convert, sampling
from offjax.datasets.dataset import Dataset
from offjax.distributions import Distribution, point
from offjax.errors import UserError
from offjax.improvement import OPERATORS
from offjax.recipes.common import TransitionData, action_box
from offjax.types import (
    EnvSpec,
    Improvement,
    Key,
    Params,
    Policy,
    Pytree,
    QFunction,
    Transitions,
)


def domain(spec: EnvSpec | None) -> str:
    """The dataset's domain, "" where it is unknown."""
    return spec.domain if spec is not None else ""


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
    rows = convert.to_transitions(dataset)
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


def critic(stage: str, algorithm: ModuleType) -> Callable[[Params], QFunction]:
    """`Recipe.q_function` that reads the stage's critic."""

    def q_function(params: Params) -> QFunction:
        state, config = params.states[stage], params.configs[stage]
        return lambda observation, action: algorithm.q_value(
            state, observation, action, config
        )

    return q_function


def improvement(name: str, **settings: Any) -> Improvement:
    """The operator `name` of `offjax.improvement.OPERATORS` with these settings."""
    operator, config = OPERATORS[name]
    return Improvement(name, operator, config(**settings))
