"""What recipes share: prepared transitions, their sampler, presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from offjax.datasets import convert, sampling
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec, Key, Pytree, Statistics, Transitions

PRESETS = ("paper", "small", "demo")


class TransitionData(NamedTuple):
    """Data of transition learners; leading axis of `rows` the row."""

    rows: Transitions
    statistics: Statistics


def action_box(spec: EnvSpec | None) -> Literal["env", "bulk"]:
    """Box that step-wise methods map to [-1, 1]: the data's where the env's is vast.

    A budget's shares are about 1/T of the environment's [0, 1]: noise of a usual
    size would drown them, so every step-wise method uses the range of the data, less
    the rare shares that are many times the usual ones.
    """
    return "bulk" if spec is not None and spec.domain == "budget" else "env"


def prepare_transitions(
    dataset: Dataset, config: Any, context: Mapping[str, Pytree]
) -> TransitionData:
    """All transitions, with the statistics for normalising."""
    del config, context
    statistics = convert.statistics(dataset, action_box=action_box(dataset.spec))
    rows = within_box(convert.to_transitions(dataset), dataset.spec, statistics)
    return TransitionData(rows, statistics)


def within_box(
    rows: Transitions, spec: EnvSpec | None, statistics: Statistics
) -> Transitions:
    """Rows whose actions beyond a box around the bulk of them are put on its edge."""
    if action_box(spec) == "env":
        return rows
    low, high = statistics.action_low, statistics.action_high
    return rows._replace(
        actions=np.clip(rows.actions, low, high),
        next_actions=np.clip(rows.next_actions, low, high),
    )


def step_rewards(spec: EnvSpec | None) -> float:
    """Factor on the rewards with which they are about 1 a step.

    Those of Budget Allocation are about 1/T; the published settings of value-based
    methods (temperatures, penalties, entropies, bins) presume the rewards of the usual
    benchmarks.
    """
    if spec is None or spec.domain != "budget":
        return 1.0
    return float(spec.horizon)


def sample_transitions(data: TransitionData, key: Key, config: Any) -> Transitions:
    """`config.batch_size` transitions, uniformly with replacement."""
    return sampling.uniform(data.rows, key, config.batch_size)


def hidden_dims(preset: str) -> tuple[int, ...]:
    """Widths of the usual networks of step-wise methods."""
    return pick(preset, paper=(256, 256), small=(256, 256), demo=(128, 128))


def pick(preset: str, **by_preset: Any) -> Any:
    """The value for a preset: `pick(preset, paper=…, small=…, demo=…)`."""
    if preset not in PRESETS:
        raise UserError(f"preset {preset!r} is not one of {', '.join(PRESETS)}.")
    return by_preset[preset]
