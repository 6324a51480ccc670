"""Statistics over seeds and tasks, in NumPy, seeded.

The metrics are those of Agarwal et al. (2021), "Deep Reinforcement Learning at the
Edge of the Statistical Precipice" (https://arxiv.org/abs/2108.13264), and equal
`rliable`'s; here tasks may have different numbers of seeds, and one resampling serves
every metric and every method.

`scores` is always a sequence with one array of seeds' scores per task. A bootstrap
replicate is represented by how often each seed was drawn: every metric is then a
weighted sum of the pooled scores, which are sorted once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

Scores = Sequence[np.ndarray]
METRICS = ("mean", "median", "iqm", "optimality_gap")
TARGET = 100.0
TAILS = (50.0 * (1.0 - 0.95), 100.0 - 50.0 * (1.0 - 0.95))
"""Percents that a 95 % interval lies between."""
CHUNK = 200_000  # elements at a time: what stays in a core's cache


class Estimate(NamedTuple):
    """A value with its interval; NaN bounds where a single seed allows none."""

    value: float
    low: float = math.nan
    high: float = math.nan


def aggregate(scores: Scores) -> dict[str, float]:
    """The four metrics of one method.

    mean, median: of the tasks' means. iqm: mean of the middle half of all scores.
    optimality_gap: how far below 100 the scores lie on average; those above it count
    as 100.
    """
    scores = _checked(scores)
    values = _metrics(np.ones((1, sum(map(len, scores)))), scores)
    return {name: float(value[0]) for name, value in values.items()}


def intervals(
    scores: Scores, replicates: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """The four metrics with 95 % percentile intervals of the stratified bootstrap.

    Seeds are drawn with replacement within each task. The same seed gives the same
    interval, whatever else is computed.
    """
    scores = _checked(scores)
    values = aggregate(scores)
    if max(map(len, scores)) < 2:
        return {name: Estimate(value) for name, value in values.items()}
    sizes = tuple(map(len, scores))
    step = max(1, CHUNK // sum(sizes))
    drawn = draw_counts(sizes, replicates, seed)
    parts = [_metrics(drawn[i : i + step], scores) for i in range(0, replicates, step)]
    samples = {name: np.concatenate([part[name] for part in parts]) for name in METRICS}
    return {
        name: Estimate(values[name], *percentiles(samples[name]).tolist())
        for name in METRICS
    }


def percentiles(samples: np.ndarray) -> np.ndarray:
    """Bounds that leave out 2.5 % of `samples` [B, …] on each side, [2, …]."""
    return np.percentile(samples, TAILS, axis=0)


@lru_cache(maxsize=8)
def draw_counts(
    sizes: tuple[int, ...], replicates: int, seed: int, role: int = 0
) -> np.ndarray:
    """How often each seed is drawn in each replicate, [replicates, sum(sizes)].

    `role` tells independent draws apart (the two sides of a comparison).
    """
    rng = np.random.default_rng([seed, role])
    row = np.arange(replicates)[:, None]
    counts = [
        np.bincount(
            (rng.integers(n, size=(replicates, n)) + row * n).ravel(),
            minlength=replicates * n,
        ).reshape(replicates, n)
        for n in sizes
    ]
    drawn = np.concatenate(counts, 1).astype(np.float32)
    drawn.flags.writeable = False
    return drawn


def _checked(scores: Scores) -> list[np.ndarray]:
    # Sorted, so that an interval does not depend on the order of the seeds.
    arrays = [np.sort(np.asarray(s, np.float64), axis=-1) for s in scores]
    if not arrays or any(a.ndim != 1 or not a.size for a in arrays):
        shapes = [a.shape for a in arrays]
        raise ValueError(f"one non-empty array [seeds] per task is needed: {shapes}")
    return arrays


def _metrics(counts: np.ndarray, scores: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics of replicates [B] given by their counts [B, pooled seeds]."""
    # No products of matrices here: they are small and many, and the threads of a
    # BLAS would mostly wait for each other.
    sizes = [len(s) for s in scores]
    starts = np.cumsum([0, *sizes[:-1]])
    pooled = np.concatenate(scores)
    means = np.add.reduceat(counts * pooled, starts, axis=1) / sizes
    capped = np.add.reduceat(counts * np.minimum(pooled, TARGET), starts, axis=1)
    return {
        "mean": means.mean(1),
        "median": np.median(means, 1),
        "iqm": _iqm(counts, scores),
        "optimality_gap": TARGET - (capped / sizes).mean(1),
    }


def _iqm(counts: np.ndarray, scores: list[np.ndarray]) -> np.ndarray:
    """Interquartile means [B] of replicates given by counts [B, pooled seeds].

    With equal numbers of seeds ⌊N/4⌋ whole scores are trimmed on each side, as by
    `scipy.stats.trim_mean` and `rliable`. With unequal ones each task weighs the same,
    and a quarter of the weight goes on each side.
    """
    sizes = np.array([len(s) for s in scores])
    pooled = np.concatenate(scores)
    order = np.argsort(pooled, kind="stable")
    if len(set(sizes)) == 1:
        mass, trim = counts[:, order], float(len(pooled) // 4)
        total = float(len(pooled))
    else:
        weights = np.repeat(1.0 / sizes, sizes)
        mass, trim = (counts * weights)[:, order], len(sizes) / 4
        total = float(len(sizes))
    below = np.clip(np.cumsum(mass, 1), trim, total - trim)
    # Summation by parts: Σ v_i (below_i − below_{i−1}), without the differences.
    ordered = pooled[order]
    steps = np.append(ordered[:-1] - ordered[1:], ordered[-1])
    kept = np.einsum("bn,n->b", below, steps)
    return (kept - trim * ordered[0]) / (total - 2 * trim)


def cell_intervals(
    cells: Sequence[np.ndarray], replicates: int = 2000, seed: int = 0
) -> list[Estimate]:
    """`intervals([cell])["iqm"]` of each array of seeds' scores, many at once.

    Cells with the same number of seeds share the resampling: one matrix product.
    """
    result: list[Estimate] = [Estimate(math.nan)] * len(cells)
    for size in {len(cell) for cell in cells}:
        index = [i for i, cell in enumerate(cells) if len(cell) == size]
        values = np.sort(np.stack([np.asarray(cells[i], np.float64) for i in index]))
        trim = size // 4
        center = values[:, trim : size - trim].mean(1)
        interval = np.full((2, len(index)), np.nan)
        if size > 1:
            counts = draw_counts((size,), replicates, seed)
            below = np.clip(np.cumsum(counts, 1), trim, size - trim)
            weights = np.diff(below, axis=1, prepend=trim) / (size - 2 * trim)
            interval = percentiles(weights @ values.T)
        for place, value, low, high in zip(index, center, *interval, strict=True):
            result[place] = Estimate(float(value), float(low), float(high))
    return result


def probability_of_improvement(
    x: Scores, y: Scores, replicates: int = 0, seed: int = 0
) -> Estimate:
    """P(a random run of X scores above one of Y), averaged over tasks; ties half.

    X and Y list the same tasks in the same order. An interval is computed where
    `replicates` > 0; the two sides are drawn independently.
    """
    return improvement_matrix([x, y], replicates, seed)[0, 1]


def improvement_matrix(
    methods: Sequence[Scores], replicates: int = 0, seed: int = 0
) -> dict[tuple[int, int], Estimate]:
    """`probability_of_improvement` of method i over method j, for all i ≠ j."""
    checked = [_checked(scores) for scores in methods]
    tasks = {len(scores) for scores in checked}
    if len(tasks) > 1:
        raise ValueError(f"the methods have {sorted(tasks)} tasks, not the same ones")
    sizes = [tuple(map(len, scores)) for scores in checked]
    left, right = (
        [_split(draw_counts(s, replicates, seed, role), s) for s in sizes]
        for role in (1, 2)
    )
    result = {}
    for i in range(len(checked) - 1):
        others = range(i + 1, len(checked))
        value = np.zeros(len(others))
        samples = np.zeros((replicates, len(others)), np.float32)
        for t, x in enumerate(checked[i]):
            y = np.concatenate([checked[j][t] for j in others])
            number = [sizes[j][t] for j in others]
            starts = np.cumsum([0, *number[:-1]])
            wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
            wins /= np.repeat(number, number) * len(x) * len(sizes[i])
            value += np.add.reduceat(wins.sum(0), starts)
            drawn = left[i][t] @ wins.astype(np.float32)
            drawn *= np.concatenate([right[j][t] for j in others], 1)
            samples += np.add.reduceat(drawn, starts, axis=1)
        for k, j in enumerate(others):
            low = high = math.nan
            if replicates and max(*sizes[i], *sizes[j]) > 1:
                low, high = percentiles(samples[:, k]).tolist()
            result[i, j] = Estimate(float(value[k]), low, high)
            result[j, i] = Estimate(1 - float(value[k]), 1 - high, 1 - low)
    return result


def _split(counts: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Counts [B, pooled seeds] by task."""
    return np.split(counts, np.cumsum(sizes)[:-1], axis=1)


class Profile(NamedTuple):
    """Performance profile: arrays over thresholds, [K]."""

    thresholds: np.ndarray
    fraction: np.ndarray
    low: np.ndarray
    high: np.ndarray


def performance_profile(
    scores: Scores, thresholds: np.ndarray, replicates: int = 2000, seed: int = 0
) -> Profile:
    """Fraction of runs above each threshold, averaged over tasks, with its band."""
    scores = _checked(scores)
    thresholds = np.asarray(thresholds, np.float64)
    above = [s[:, None] > thresholds for s in scores]
    fraction = np.mean([a.mean(0) for a in above], 0)
    if max(map(len, scores)) < 2:
        nothing = np.full_like(fraction, np.nan)
        return Profile(thresholds, fraction, nothing, nothing)
    sizes = [len(s) for s in scores]
    weights = np.repeat(1.0 / np.multiply(sizes, len(sizes)), sizes)
    stacked = (np.concatenate(above) * weights[:, None]).astype(np.float32)
    samples = draw_counts(tuple(sizes), replicates, seed) @ stacked
    return Profile(thresholds, fraction, *percentiles(samples))


def expected_online_performance(values: np.ndarray) -> np.ndarray:
    """Expected best of k of n configurations' scores, for k = 1…n, [n].

    The k are tried in random order without repetition (Kurenkov & Kolesnikov 2022,
    https://arxiv.org/abs/2110.04156): Σ_i v_(i) · C(i−1, k−1)/C(n, k) over the
    sorted scores v_(1) ≤ … ≤ v_(n).
    """
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    ks = np.arange(1, n + 1)
    # weight[i, k]: C(i, k−1)/C(n, k) with i counted from 0, by a stable recursion
    # downwards from the largest score, whose weight is k/n.
    weight = ks / n
    result = np.zeros(n)
    for i in range(n - 1, -1, -1):
        result += weight * ordered[i]
        weight = weight * np.maximum(i - (ks - 1), 0) / max(i, 1)
    return result
