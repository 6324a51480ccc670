"""Windows of k steps with returns-to-go, for planners of action sequences."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.datasets.views import action_box
from offjax.types import Key, Statistics, Upstream, View

EPSILON = 1e-5  # added to the deviation of returns


class Windows(NamedTuple):
    """Segments cut in W windows of k steps; steps beyond the episode are masked."""

    observations: chex.Array  # [B, W, O] at window starts
    times: chex.Array  # [B, W] steps since the episode began
    actions: chex.Array  # [B, W, k, A]
    returns: chex.Array  # [B, W, k] returns-to-go
    standard: chex.Array  # [B, W, k] standardized over the dataset, per time step
    ranks: chex.Array  # [B, W, k] share of that time's returns below; ties by row
    mask: chex.Array  # [B, W, k] 1 within the episode


class WindowData(NamedTuple):
    """Rows of the dataset, with what a window that begins there must know."""

    observations: chex.Array  # [N, O]
    actions: chex.Array  # [N, A]
    returns: chex.Array  # [N] returns-to-go
    standard: chex.Array  # [N]
    ranks: chex.Array  # [N]
    times: chex.Array  # [N] steps since the episode's first
    remaining: chex.Array  # [N] steps to the episode's end, this one included
    starts: chex.Array  # [M] rows at which windows may begin
    statistics: Statistics


@dataclasses.dataclass(frozen=True)
class WindowView(View):
    """Segments of W windows of k steps.

    Of the config it reads `k`, `windows` (W), `discount`, `random_phase` and
    `batch_size`.
    """

    by_rows: ClassVar[bool] = True

    def arrays(self, dataset: Dataset, config: Any, upstream: Upstream) -> WindowData:
        """Returns-to-go, their rank among those of the same time step, and starts.

        Where episodes have unequal lengths there is no common clock: returns are then
        standardized over all rows.
        """
        del upstream
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
        standard = ((table - table.mean(0)) / (spread + EPSILON)).reshape(-1)
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

    def sample(self, arrays: WindowData, key: Key, config: Any) -> Windows:
        """`batch_size` segments of `windows` × k steps, their starts uniform."""
        which = jax.random.randint(key, (config.batch_size,), 0, arrays.starts.shape[0])
        first = arrays.starts[which]
        offsets = jnp.arange(config.windows * config.k)
        mask = offsets < arrays.remaining[first][:, None]
        rows = jnp.minimum(first[:, None] + offsets, arrays.times.shape[0] - 1)
        rows = rows.reshape(config.batch_size, config.windows, config.k)
        heads = rows[..., 0]
        return Windows(
            arrays.observations[heads],
            arrays.times[heads],
            arrays.actions[rows],
            arrays.returns[rows],
            arrays.standard[rows],
            arrays.ranks[rows],
            mask.reshape(rows.shape).astype(jnp.float32),
        )
