"""TD-MPC2 on a fixed dataset: slices of the data, presets, planning and its prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.algorithms import mppi, tdmpc2_acting
from offjax.algorithms import tdmpc2 as algorithm
from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.distributions import Distribution, point
from offjax.errors import UserError
from offjax.recipes.common import action_box, pick, step_rewards
from offjax.recipes.transitions import LearntPolicy, domain
from offjax.types import (
    EnvSpec,
    Key,
    Params,
    Policy,
    Pytree,
    Recipe,
    Stage,
    Statistics,
)

ENDLESS = ("maze2d", "kitchen")
"""Domains whose episodes no state ends."""
SMALL_SEARCH = {"num_samples": 64, "num_elites": 8, "num_proposals": 4, "iterations": 4}
"""Some sixty times less to compute at each step than the published search."""


class SliceData(NamedTuple):
    """Rows of the dataset, and where slices of H steps may begin."""

    observations: chex.Array  # [N, O]
    next_observations: chex.Array  # [N, O]
    actions: chex.Array  # [N, A]
    rewards: chex.Array  # [N]
    terminals: chex.Array  # [N]
    starts: chex.Array  # [M] rows
    statistics: Statistics


def prepare_slices(
    dataset: Dataset,
    config: algorithm.Config,
    context: Mapping[str, Pytree],
    *,
    reward_scale: float = 1.0,
) -> SliceData:
    """All rows, and the starts of slices that stay within their episode.

    Where the data hold no next observations, a row's is that of the next row; the last
    row of an episode then has none, and is left out unless it ended the MDP, whose
    value needs no next observation (its own stands there).

    Raises:
      UserError: no episode is as long as a slice.
    """
    del context
    ends, lengths = dataset.episode_ends, dataset.episode_lengths
    following, last = dataset.next_observations, ends.copy()
    if following is None:
        following = np.concatenate([dataset.observations[1:], dataset.observations[:1]])
        following[ends - 1] = dataset.observations[ends - 1]
        last -= ~dataset.terminals[ends - 1]
    remaining = np.repeat(last, lengths) - np.arange(len(dataset))
    starts = np.flatnonzero(remaining >= config.horizon)
    if not starts.size:
        raise UserError(
            f"Dataset {dataset.card.id!r} has no episode of {config.horizon} steps, "
            "which TD-MPC2's model is trained on: choose a smaller horizon."
        )
    statistics = convert.statistics(dataset, action_box=action_box(dataset.spec))
    actions = dataset.actions
    if action_box(dataset.spec) != "env":
        actions = np.clip(actions, statistics.action_low, statistics.action_high)
    return SliceData(
        dataset.observations,
        following,
        actions,
        np.asarray(reward_scale * dataset.rewards, np.float32),
        dataset.terminals.astype(np.float32),
        starts.astype(np.int32),
        statistics,
    )


def sample_slices(
    data: SliceData, key: Key, config: algorithm.Config
) -> algorithm.Batch:
    """`batch_size` slices of `horizon` steps, their starts uniform."""
    which = jax.random.randint(key, (config.batch_size,), 0, data.starts.shape[0])
    rows = data.starts[which][:, None] + jnp.arange(config.horizon)
    here, last = data.observations[rows], data.next_observations[rows[:, -1:]]
    return algorithm.Batch(
        jnp.concatenate([here, last], axis=1),
        data.actions[rows],
        data.rewards[rows],
        data.terminals[rows],
    )


@dataclasses.dataclass(frozen=True)
class PlanningPolicy(Policy):
    """Searches at every step, from where the last search ended."""

    horizon: int = 3
    action_dim: int = 1

    def init(self, params: Params, task: Pytree, key: Key) -> chex.Array:
        """The mean [H, A] of no search."""
        return jnp.zeros((self.horizon, self.action_dim))

    def propose(
        self,
        params: Params,
        carry: chex.Array,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, chex.Array]:
        """The planned action as a point, and the search's mean."""
        state = params.states["tdmpc2"]
        settings, search = params.configs["tdmpc2"], params.configs["planning"]
        action, mean = tdmpc2_acting.plan(
            state, observation, carry, key, settings, search
        )
        box = state.action_box
        return point(action, box.shift, box.scale), mean


def discount(horizon: int) -> float:
    """The published rule: 1 − 5/T, between 0.95 and 0.995."""
    return min(max(1.0 - 5.0 / horizon, 0.95), 0.995)


def _prepare_nothing(
    dataset: Dataset, config: Any, context: Mapping[str, Pytree]
) -> tuple[()]:
    """No data."""
    del dataset, config, context
    return ()


def _sample_nothing(data: Any, key: Key, config: Any) -> tuple[()]:
    """No batch."""
    del data, key, config
    return ()


def _model_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `tdmpc2`.

    Observations are standardised, as the data's statistics are at hand.
    """
    horizon = spec.horizon if spec is not None else 1000
    config = algorithm.Config(
        size=pick(preset, paper="5M", small="small", demo="demo"),
        batch_size=pick(preset, paper=256, small=64, demo=32),
        discount=discount(horizon),
        episodic=domain(spec) not in ENDLESS,
    )
    return Stage(
        "tdmpc2",
        algorithm,
        config,
        num_steps=pick(preset, paper=1_000_000, small=10_000, demo=1_000),
        prepare=partial(prepare_slices, reward_scale=step_rewards(spec)),
        sampler=sample_slices,
    )


def _planning_stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `planning`: settings of the search; nothing is trained.

    As published, two iterations more where there are 20 action dimensions or more.
    """
    settings = pick(preset, paper={}, small=SMALL_SEARCH, demo=SMALL_SEARCH)
    config = mppi.Config(**settings)
    if spec is not None and spec.action_dim >= 20:
        config = dataclasses.replace(config, iterations=config.iterations + 2)
    return Stage(
        "planning",
        mppi,
        config,
        num_steps=1,
        prepare=_prepare_nothing,
        sampler=_sample_nothing,
        acting=("temperature", "std_min", "std_max"),
    )


def tdmpc2(spec: EnvSpec | None, preset: str) -> Recipe:
    """TD-MPC2's world model of the dataset, acting by planning in it."""
    action_dim = spec.action_dim if spec is not None else 1
    return Recipe(
        "tdmpc2",
        (_planning_stage(spec, preset), _model_stage(spec, preset)),
        lambda configs: PlanningPolicy(configs["tdmpc2"].horizon, action_dim),
    )


def tdmpc2_policy(spec: EnvSpec | None, preset: str) -> Recipe:
    """The same trained model, acting with the mean of its policy prior."""
    return Recipe(
        "tdmpc2_policy",
        (_model_stage(spec, preset),),
        lambda configs: LearntPolicy("tdmpc2", tdmpc2_acting),
    )


RECIPES = {"tdmpc2": tdmpc2, "tdmpc2_policy": tdmpc2_policy}
"""Method name → `(spec, preset) → Recipe`."""
