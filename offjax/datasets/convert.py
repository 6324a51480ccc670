"""From recorded episodes to what training reads, vectorized, on the host.

Terminals mask bootstrapping; time-outs never do. The next action is the one that
was recorded next in the same episode, and never the first of another.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import Statistics, Transitions


def to_transitions(dataset: Dataset, numbers: bool = False) -> Transitions:
    """One-step experience with the true next action.

    Where the data hold `next_observations`, every row is kept: at a time-out it has
    its own next observation and no next action. Where they do not, the next
    observation is that of row i + 1, and the last row and those at a time-out are
    dropped, as in D4RL's Q-learning view of its files; the row before a dropped one
    has the dropped row's action as its next.

    A row without a next action (`has_next_action` false) repeats its own there.

    With `numbers`, of data without `next_observations`, both observations are row
    numbers [N] of the dataset's, i32: pixels are copied for nobody.
    """
    last = np.zeros(len(dataset), bool)
    last[dataset.episode_ends - 1] = True
    if dataset.next_observations is None:
        seen = np.arange(len(dataset), dtype=np.int32) if numbers else None
        return _following_rows(
            dataset, last, dataset.observations if seen is None else seen
        )
    next_actions = np.concatenate([dataset.actions[1:], dataset.actions[-1:]])
    next_actions[last] = dataset.actions[last]
    return Transitions(
        observations=dataset.observations,
        actions=dataset.actions,
        rewards=dataset.rewards,
        next_observations=dataset.next_observations,
        next_actions=next_actions,
        terminals=dataset.terminals.astype(np.float32),
        has_next_action=~last,
    )


def _following_rows(
    dataset: Dataset, last: np.ndarray, observations: np.ndarray
) -> Transitions:
    """Transitions whose next observation is row i + 1; `last` [N] ends an episode."""
    keep = ~dataset.timeouts
    keep[-1] = False
    kept = np.flatnonzero(keep)
    if not kept.size:
        raise UserError(
            f"Dataset {dataset.card.id!r} holds no transition: all of its "
            f"{len(dataset)} rows are the last of their episode and it has no "
            "`next_observations`. Pass them, or record longer episodes."
        )
    has_next_action = ~last[kept]
    return Transitions(
        observations=np.take(observations, kept, axis=0),
        actions=np.take(dataset.actions, kept, axis=0),
        rewards=dataset.rewards[kept],
        next_observations=np.take(observations, kept + 1, axis=0),
        next_actions=np.take(dataset.actions, kept + has_next_action, axis=0),
        terminals=dataset.terminals[kept].astype(np.float32),
        has_next_action=has_next_action,
    )


def returns_to_go(
    rewards: np.ndarray, starts: np.ndarray, ends: np.ndarray, discount: float
) -> np.ndarray:
    """Discounted sum of the rewards from each row to its episode's end, [N] f64.

    R_t = r_t + discount · R_{t+1}, summed backwards in float64.

    Args:
      rewards: [N].
      starts: first row of each episode, [E]; the episodes cover all rows.
      ends: one past the last row of each, [E].
      discount: γ in [0, 1].
    """
    rewards = np.asarray(rewards, np.float64)
    order = np.argsort(starts - ends, kind="stable")  # the longest episodes first
    last, lengths = ends[order] - 1, (ends - starts)[order]
    # Number of episodes with more than t steps, t = 0, 1…: those still summed.
    active = len(lengths) - np.searchsorted(
        lengths[::-1], np.arange(lengths[0]), "right"
    )
    result = np.empty_like(rewards)
    total = np.zeros(len(ends))
    for back, count in enumerate(active):
        rows = last[:count] - back
        total = rewards[rows] + discount * total[:count]
        result[rows] = total
    return result


def top_fraction(dataset: Dataset, fraction: float) -> Dataset:
    """The best ⌈fraction · E⌉ episodes by undiscounted return, in recorded order.

    Of equal ones the earlier recorded are kept; `fraction` is in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise UserError(
            f"fraction={fraction} is no share of the episodes; pass a number above 0 "
            "and at most 1 (0.1 keeps the best tenth)."
        )
    returns = dataset.episode_returns
    # Guards products such as 0.07 · 100 = 7.000000000000001 against an extra episode.
    count = math.ceil(fraction * len(returns) - 1e-9)
    best = np.argsort(-returns, kind="stable")[: max(count, 1)]
    chosen = np.zeros(len(returns), bool)
    chosen[best] = True
    rows = np.flatnonzero(np.repeat(chosen, dataset.episode_lengths))
    following = dataset.next_observations
    text = f"{dataset.card.identity} best {fraction!r}"
    note = f"best {len(best):,} of {len(returns):,} episodes by return"
    return Dataset.from_arrays(
        dataset.observations[rows],
        dataset.actions[rows],
        dataset.rewards[rows],
        dataset.terminals[rows],
        dataset.timeouts[rows],
        None if following is None else following[rows],
        spec=dataset.spec,
        id=dataset.card.id,
        source=dataset.card.source,
        identity=hashlib.sha256(text.encode()).hexdigest(),
        notes=(*dataset.card.notes, note),
        infos={key: value[rows] for key, value in dataset.infos.items()},
    )


HALF = 127.5
"""Half of the range of a byte."""
BULK = 0.999
"""Share of the actions that the box "bulk" reaches up to."""


def statistics(
    dataset: Dataset,
    normalize_observations: bool = True,
    action_box: Literal["env", "data", "bulk"] = "env",
    epsilon: float = 1e-3,
) -> Statistics:
    """What a model must know of its data to take raw observations and actions.

    Args:
      dataset: any dataset.
      normalize_observations: whether mean and deviation are those of all rows, not 0
        and 1, which change nothing.
      action_box: the box that models map to [-1, 1]: the environment's bounds, the
        smallest around the recorded actions (also where the environment is unknown),
        or the smallest around all but the largest thousandth of each coordinate
        ("bulk"). A constant action gets a box of width 2 around it.
      epsilon: added to every deviation.

    Pixels have the mean and deviation 127.5, which make them -1 to 1.
    """
    width = dataset.observations.shape[1]
    mean: np.ndarray = np.zeros(width, np.float32)
    std: np.ndarray = np.ones(width, np.float32)
    if dataset.observations.dtype == np.uint8:
        mean = std = np.full(width, HALF, np.float32)
    elif normalize_observations:
        mean = dataset.observations.mean(axis=0, dtype=np.float64)
        std = _deviation(dataset.observations, mean) + epsilon
    if action_box == "env" and dataset.spec is not None:
        low = np.asarray(dataset.spec.action_low)
        high = np.asarray(dataset.spec.action_high)
    else:
        low, high = dataset.actions.min(axis=0), dataset.actions.max(axis=0)
        if action_box == "bulk":
            high = np.quantile(dataset.actions, BULK, axis=0)
        constant = high - low < 1e-6
        low, high = low - constant, high + constant
    return Statistics(*(np.asarray(x, np.float32) for x in (mean, std, low, high)))


BLOCK = 65_536
"""Rows whose deviations are in memory at once."""


def _deviation(values: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """`values.std(axis=0, dtype=np.float64)` of [N, D], without a copy of all rows.

    NumPy adds the rows one after another where there are several columns, and so does
    this: the bits are the same.
    """
    if values.shape[1] == 1:  # whose rows NumPy adds in pairs
        return values.std(axis=0, dtype=np.float64)
    total = np.zeros((1, values.shape[1]))
    for first in range(0, len(values), BLOCK):
        squares = np.square(values[first : first + BLOCK] - mean)
        total = np.concatenate([total, squares]).sum(axis=0, keepdims=True)
    return np.sqrt(total[0] / len(values))
