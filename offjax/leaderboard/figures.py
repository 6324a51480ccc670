"""The board's figures: which numbers go into which chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from offjax.leaderboard import charts, statistics
from offjax.leaderboard.board import Board, Cell, Column, Group, domain
from offjax.leaderboard.charts import Point, Series, Style
from offjax.leaderboard.statistics import Estimate

CURVE_POINTS = 50
CURVE_REPLICATES = 500
METRIC_NAMES = {
    "iqm": ("IQM", "Higher is better."),
    "median": ("Median", "Of the datasets' means. Higher is better."),
    "mean": ("Mean", "Higher is better."),
    "optimality_gap": ("Optimality gap", "Mean shortfall from 100. Lower is better."),
}

Styles = dict[Column, Style]


class Figure(NamedTuple):
    """A chart with its heading and caption; `dataset` if it shows a single one."""

    title: str
    caption: str
    svg: Markup
    dataset: str = ""


class Comparison(NamedTuple):
    """P(row > column) for every pair of methods, [n][n]; None on the diagonal."""

    styles: list[Style]
    values: list[list[Estimate | None]]


def metric_figures(group: Group, styles: Styles) -> list[Figure]:
    """One interval plot per metric, methods ordered by the IQM."""
    columns = by_iqm(group)
    if not columns:
        return []
    return [
        Figure(
            title,
            caption,
            charts.interval_rows(
                [(styles[c], group.totals[c].metrics[name]) for c in columns],
                f"{title} with 95 % intervals, {group.name}",
            ),
        )
        for name, (title, caption) in METRIC_NAMES.items()
    ]


def by_iqm(group: Group) -> list[Column]:
    """Measured columns that have every dataset, the best IQM first."""
    columns = [c for c in group.complete if not c.source]
    return sorted(columns, key=lambda c: -group.totals[c].metrics["iqm"].value)


def profile_figure(group: Group, styles: Styles, board: Board) -> Figure | None:
    """Performance profiles of the methods that have every dataset."""
    columns = by_iqm(group)
    if not columns:
        return None
    scores = {column: group.scores(column) for column in columns}
    pooled = np.concatenate([s for several in scores.values() for s in several])
    thresholds = np.linspace(min(0.0, pooled.min()), max(100.0, pooled.max()), 101)
    series = []
    for column in columns:
        profile = statistics.performance_profile(
            scores[column], thresholds, CURVE_REPLICATES, board.seed
        )
        series.append(Series(styles[column], *profile))
    title = "Performance profile"
    svg = charts.lines(
        series, f"{title}, {group.name}", "score τ", "runs above τ", (0.0, 1.0)
    )
    return Figure(title, "Share of runs that score above τ; bands are 95 %.", svg)


def comparison(group: Group, styles: Styles, board: Board) -> Comparison | None:
    """Probability of improvement between all pairs, best IQM first."""
    columns = by_iqm(group)
    if len(columns) < 2:
        return None
    found = statistics.improvement_matrix(
        [group.scores(column) for column in columns], CURVE_REPLICATES, board.seed
    )
    n = range(len(columns))
    values = [[found.get((i, j)) for j in n] for i in n]
    return Comparison([styles[column] for column in columns], values)


def curve_figures(group: Group, styles: Styles, board: Board) -> list[Figure]:
    """Learning curves of each dataset: mean over seeds with its interval."""
    figures = []
    for dataset in group.datasets:
        series = []
        unit = "score"
        for column in group.columns:
            cell = group.cells.get((dataset, column))
            if cell and cell.curves:
                unit = cell.unit
                made = learning_curve(cell, styles[column], board.seed)
                series += [made] if made else []
        if series:
            svg = charts.lines(series, f"Learning curves, {dataset}", "updates", unit)
            figures.append(Figure(short_name(dataset), "", svg, dataset))
    return figures


def learning_curve(cell: Cell, style: Style, seed: int) -> Series | None:
    """Mean over the seeds that were evaluated at a step, with a 95 % interval."""
    curves = cell.curves
    sequences = [c.scores if cell.unit == "score" else c.returns for c in curves]
    steps = np.unique(np.concatenate([c.steps for c in curves]))
    table = np.full((len(curves), len(steps)), np.nan)
    for row, curve, values in zip(table, curves, sequences, strict=True):
        row[np.searchsorted(steps, curve.steps)] = values
    known = np.isfinite(table)
    steps, table, known = (a[..., known.any(0)] for a in (steps, table, known))
    if not steps.size:
        return None
    if len(steps) > CURVE_POINTS:
        kept = np.unique(np.linspace(0, len(steps) - 1, CURVE_POINTS).astype(int))
        steps, table, known = steps[kept], table[:, kept], known[:, kept]
    filled = np.where(known, table, 0.0)
    mean = filled.sum(0) / known.sum(0)
    low = high = np.full_like(mean, np.nan)
    if len(curves) > 1:
        counts = statistics.draw_counts((len(curves),), CURVE_REPLICATES, seed)
        drawn = np.einsum("bs,se->be", counts, known.astype(np.float32))
        sums = np.einsum("bs,se->be", counts, filled.astype(np.float32))
        means = np.where(drawn > 0, sums / np.maximum(drawn, 1), mean)
        low, high = np.percentile(means, [2.5, 97.5], axis=0)
        low, high = (np.where(known.sum(0) > 1, bound, np.nan) for bound in (low, high))
    return Series(style, steps.astype(np.float64), mean, low, high)


def time_figure(group: Group, styles: Styles) -> Figure | None:
    """Score against training time, one dot per method and dataset."""
    points = []
    for (dataset, column), cell in group.cells.items():
        seconds = seconds_per_seed(cell)
        if cell.unit == "score" and cell.seeds and seconds > 0:
            text = (
                f"{column.label}, {dataset}: {cell.mean:.1f} in "
                f"{charts.duration(seconds)} per seed"
            )
            points.append(Point(styles[column], seconds, cell.mean, text))
    if not points:
        return None
    title = "Score against time"
    svg = charts.scatter(points, f"{title}, {group.name}", "time per seed", "score")
    caption = (
        "A run's wall time divided by its seeds; one dot per method and dataset. "
        "Compare only runs of one machine."
    )
    return Figure(title, caption, svg)


def seconds_per_seed(cell: Cell) -> float:
    """Mean over the cell's runs of wall time per seed; NaN if not recorded."""
    shares = []
    for run in cell.runs:
        seconds = run.describe("duration_seconds")
        seeds = len({curve.seed for curve in run.curves})
        if isinstance(seconds, (int, float)) and math.isfinite(seconds) and seeds:
            shares.append(seconds / seeds)
    return float(np.mean(shares)) if shares else math.nan


def tuning_figures(group: Group, styles: Styles) -> list[Figure]:
    """Expected best score after k of a method's variants were tried."""
    figures = []
    for dataset in group.scored:
        means: dict[str, list[tuple[Column, float]]] = {}
        for column in group.columns:
            cell = group.cells.get((dataset, column))
            if cell and cell.seeds and not column.source:
                means.setdefault(column.method, []).append((column, cell.mean))
        series = []
        for variants in means.values():
            if len(variants) > 1:
                expected = statistics.expected_online_performance(
                    np.array([mean for _, mean in variants])
                )
                ks = np.arange(1.0, len(expected) + 1)
                nothing = np.full_like(expected, np.nan)
                style = styles[variants[0][0]]._replace(label=variants[0][0].method)
                series.append(Series(style, ks, expected, nothing, nothing))
        if series:
            title = f"Tuning budget, {short_name(dataset)}"
            svg = charts.lines(series, title, "variants tried", "expected best")
            caption = (
                "Expected best mean score after trying k of the method's variants "
                "in random order; a method with fewer points was tuned less."
            )
            figures.append(Figure(title, caption, svg, dataset))
    return figures


def short_name(dataset: str) -> str:
    """The part of a dataset id that its group does not tell.

    `umaze-v0` in maze2d's group, but `hopper/medium-v0` among Gym's robots.
    """
    *folders, name = dataset.split("/")
    if len(folders) > 1 and not domain(dataset).endswith(f"/{folders[-1]}"):
        return f"{folders[-1]}/{name}"
    return name


def make_styles(columns: Sequence[Column]) -> Styles:
    """A fixed color for every column of the page, measured ones first."""
    ordered = sorted(set(columns), key=lambda c: (c.source, c.label))
    return {c: Style(f"m{i}", c.label, i) for i, c in enumerate(ordered)}
