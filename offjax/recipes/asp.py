"""Action Sequence Planner: windows of the data, presets, and open-loop acting."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.algorithms import asp as algorithm
from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.distributions import Distribution, point
from offjax.recipes.common import action_box, hidden_dims, pick
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


class WindowData(NamedTuple):
    """Rows of the dataset with what a window that begins there must know."""

    observations: chex.Array  # [N, O]
    actions: chex.Array  # [N, A]
    returns: chex.Array  # [N] returns-to-go
    standard: chex.Array  # [N]
    ranks: chex.Array  # [N]
    times: chex.Array  # [N] steps since the episode's first
    remaining: chex.Array  # [N] steps to the episode's end, this one included
    starts: chex.Array  # [M] rows at which windows may begin
    statistics: Statistics


def prepare_windows(
    dataset: Dataset, config: algorithm.Config, context: Mapping[str, Pytree]
) -> WindowData:
    """Returns-to-go, their standing among those of the same time step, and starts.

    Where episodes have unequal lengths there is no common clock: returns are then
    standardised over all rows.
    """
    del context
    starts, lengths = dataset.episode_starts, dataset.episode_lengths
    rows = len(dataset.rewards)
    times = np.arange(rows) - np.repeat(starts, lengths)
    remaining = np.repeat(lengths, lengths) - times
    returns = convert.returns_to_go(
        dataset.rewards, starts, dataset.episode_ends, config.discount
    )
    equal = np.all(lengths == lengths[0])
    table = returns.reshape(-1, lengths[0]) if equal else returns[:, None]
    spread = table.std(0, ddof=1) if len(table) > 1 else np.zeros(table.shape[1])
    standard = ((table - table.mean(0)) / (spread + algorithm.EPSILON)).reshape(-1)
    order = table.argsort(0, kind="stable")
    ranks = (order.argsort(0, kind="stable") / len(table)).reshape(-1)
    phase = times % (config.windows * config.k)
    begin = np.arange(rows) if config.random_phase else np.flatnonzero(phase == 0)
    return WindowData(
        dataset.observations,
        dataset.actions,
        returns.astype(np.float32),
        standard.astype(np.float32),
        ranks.astype(np.float32),
        times.astype(np.int32),
        remaining.astype(np.int32),
        begin.astype(np.int32),
        convert.statistics(dataset, action_box=action_box(dataset.spec)),
    )


def sample_windows(
    data: WindowData, key: Key, config: algorithm.Config
) -> algorithm.Batch:
    """`batch_size` segments of `windows` × k steps, their starts uniform."""
    which = jax.random.randint(key, (config.batch_size,), 0, data.starts.shape[0])
    first = data.starts[which]
    offsets = jnp.arange(config.windows * config.k)
    mask = offsets < data.remaining[first][:, None]
    rows = jnp.minimum(first[:, None] + offsets, data.times.shape[0] - 1)
    rows = rows.reshape(config.batch_size, config.windows, config.k)
    heads = rows[..., 0]
    return algorithm.Batch(
        data.observations[heads],
        data.times[heads],
        data.actions[rows],
        data.returns[rows],
        data.standard[rows],
        data.ranks[rows],
        mask.reshape(rows.shape).astype(jnp.float32),
    )


class Carry(NamedTuple):
    """The plan that is being executed and where it stands."""

    actions: chex.Array  # [k, A]
    index: chex.Array  # [] next action of the plan
    time: chex.Array  # [] steps since the episode began


@dataclasses.dataclass(frozen=True)
class PlanningPolicy(Policy):
    """Plans every `period` steps, executes open-loop in between."""

    period: int = 1
    action_dim: int = 1
    stage: str = "asp"

    def init(self, params: Params, task: Pytree, key: Key) -> Carry:
        """An empty plan at time 0."""
        plan = jnp.zeros((self.period, self.action_dim))
        return Carry(plan, jnp.int32(0), jnp.int32(0))

    def plan(
        self, params: Params, carry: Carry, observation: chex.Array, key: Key
    ) -> Carry:
        """A new window from the present observation."""
        state, settings = params.states[self.stage], params.configs[self.stage]
        actions = algorithm.plan(state, observation, carry.time, settings)
        return Carry(actions, jnp.int32(0), carry.time)

    def propose(
        self,
        params: Params,
        carry: Carry,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, Carry]:
        """The plan's next action, as a point."""
        box = params.states[self.stage].action_box
        return point(carry.actions[carry.index], box.shift, box.scale), carry

    def record(self, carry: Carry, action: chex.Array) -> Carry:
        """One step further in the plan."""
        return Carry(carry.actions, carry.index + 1, carry.time + 1)


def _settings(spec: EnvSpec | None, preset: str) -> dict[str, Any]:
    common = {"hidden_dims": hidden_dims(preset)}
    horizon = spec.horizon if spec is not None else 1000
    if spec is not None and spec.domain == "budget":
        budget = {"space": "simplex", "k": horizon, "segment_length": horizon}
        return common | budget | {"horizon": horizon}
    # Long streams have no common clock: none is encoded, and windows begin anywhere.
    return common | {
        "horizon": horizon,
        "k": min(10, horizon),
        "segment_length": min(100, horizon),
        "random_phase": True,
        "position_encoding": False,
        "discount": 0.99,
    }


def _recipe(name: str, spec: EnvSpec | None, preset: str, **changes: Any) -> Recipe:
    config = algorithm.Config(**(_settings(spec, preset) | changes))
    stage = Stage(
        "asp",
        algorithm,
        config,
        num_steps=pick(preset, paper=100_000, small=10_000, demo=3_000),
        prepare=prepare_windows,
        sampler=sample_windows,
    )
    action_dim = spec.action_dim if spec is not None else 1
    return Recipe(
        name, (stage,), lambda configs: PlanningPolicy(configs["asp"].k, action_dim)
    )


def asp(spec: EnvSpec | None, preset: str) -> Recipe:
    """ASPlanner: anchored cross-entropy; k = T on budgets, 10 elsewhere."""
    return _recipe("asp", spec, preset)


def asp_k1(spec: EnvSpec | None, preset: str) -> Recipe:
    """The ablation that plans one action at a time."""
    return _recipe("asp_k1", spec, preset, k=1)


def asp_mle(spec: EnvSpec | None, preset: str) -> Recipe:
    """The ablation with weighted Gaussian likelihood in place of cross-entropy."""
    return _recipe("asp_mle", spec, preset, mode="mle")
