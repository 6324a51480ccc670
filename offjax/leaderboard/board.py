"""Runs → the board: groups of datasets × columns of methods, with statistics.

Reported numbers become columns of their own (`offjax.leaderboard.reported`), and take
no part in ranks or totals unless asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from offjax.leaderboard import statistics
from offjax.leaderboard.selection import select
from offjax.leaderboard.statistics import Estimate
from offjax.leaderboard.store import Curve, Note, Run, Store, clean

CHECKPOINTS: dict[str, str] = {
    "last": "last evaluation",
    "best": "best evaluation of each seed",
    "ten": "mean of the last ten evaluations",
}
UNKNOWN = Estimate(math.nan)
GYM = ("halfcheetah", "hopper", "walker2d", "ant")
ADROIT = ("pen", "door", "hammer", "relocate")


@dataclass(frozen=True)
class Column:
    """A method's variant, measured here or reported elsewhere (`source`)."""

    method: str
    variant: str = "default"
    source: str = ""

    @property
    def label(self) -> str:
        """`method`, with what differs from its paper preset in brackets."""
        if self.source:
            return f"{self.method} ‡{self.source}"
        if self.variant == "default":
            return self.method
        return f"{self.method} ({self.variant})"


def settings(variant: str) -> list[str]:
    """What a variant changes, one by one: split at commas outside of brackets."""
    return re.split(r",(?![^(\[]*[)\]])", variant) if variant != "default" else []


@dataclass(frozen=True, eq=False)
class Cell:
    """One column on one dataset."""

    values: np.ndarray  # [seeds] headline value; NaN where a seed has none
    curves: list[Curve]  # of each seed
    mean: float  # of the finite values
    std: float  # of the population; NaN for one seed
    iqm: Estimate = UNKNOWN  # with its bootstrap interval
    unit: str = "score"  # or "return" where the dataset has no reference scores
    by_checkpoint: dict[str, tuple[float, float]] = field(default_factory=dict)
    marks: frozenset[str] = frozenset()  # of "unfinished", "diverged"
    best: bool = False  # whether it is the group's best finished mean on this dataset

    @property
    def seeds(self) -> int:
        """Number of seeds with a finite value."""
        return int(np.isfinite(self.values).sum())

    @property
    def finite(self) -> np.ndarray:
        """The finite values."""
        return self.values[np.isfinite(self.values)]

    @property
    def runs(self) -> list[Run]:
        """The runs that the seeds come from."""
        return list(dict.fromkeys(curve.run for curve in self.curves))


@dataclass(frozen=True)
class Total:
    """A column over all datasets of a group; metrics only if it has them all."""

    datasets: int
    total: float = math.nan
    metrics: dict[str, Estimate] = field(default_factory=dict)
    best: bool = False


@dataclass(frozen=True)
class Group:
    """Datasets of one domain."""

    name: str
    datasets: list[str]
    columns: list[Column]
    cells: dict[tuple[str, Column], Cell]
    totals: dict[Column, Total]

    def row(self, dataset: str, columns: Sequence[Column] = ()) -> list[Cell | None]:
        """The cells of a dataset: of some columns, or of all."""
        return [self.cells.get((dataset, c)) for c in columns or self.columns]

    def scores(self, column: Column) -> list[np.ndarray]:
        """Headline scores of a column, one array per dataset that it scores on."""
        cells = [self.cells.get((dataset, column)) for dataset in self.scored]
        return [c.finite for c in cells if c and c.seeds and c.unit == "score"]

    @property
    def scored(self) -> list[str]:
        """Datasets with reference scores: those that totals are made of."""
        unscored = {d for (d, _), cell in self.cells.items() if cell.unit != "score"}
        return [dataset for dataset in self.datasets if dataset not in unscored]

    @property
    def complete(self) -> list[Column]:
        """Columns with a score on every dataset that has reference scores."""
        return [c for c in self.columns if c in self.totals and self.totals[c].metrics]


@dataclass(frozen=True)
class Board:
    """All groups, the notes, and how the numbers were made."""

    groups: list[Group]
    notes: list[Note]
    checkpoint: str
    seed: int
    replicates: int
    runs: list[Run]


def domain(dataset: str) -> str:
    """Group of a dataset id: its folders, or for D4RL's bare names its family.

    Gym-MuJoCo's and Adroit's robots form one group each, as in papers' totals.
    """
    *folders, name = dataset.split("/")
    if folders:
        family = folders.pop() if len(folders) > 1 else name.split("-")[0]
        # Two-part ids keep their family inside the name (`mujoco/hopper-v0`).
        prefix = "/".join(folders) + "/"
    else:
        family, prefix = name.split("-")[0], "d4rl/"
    if family in GYM:
        family = "gym"
    elif family in ADROIT:
        family = "adroit"
    return prefix + family


def by_number(name: str) -> list[tuple[int, str]]:
    """Sort key that has `t20` before `t100`."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def build(
    store: Store,
    *,
    checkpoint: str = "last",
    seed: int = 0,
    replicates: int = 2000,
    methods: Sequence[str] = (),
    datasets: Sequence[str] = (),
    sweep: str = "",
) -> Board:
    """The board of measured runs.

    Args:
      store: what was found in the folders of runs.
      checkpoint: key of `CHECKPOINTS`.
      seed: of the bootstrap.
      replicates: of the bootstrap.
      methods: patterns of methods; all if there are none.
      datasets: patterns of datasets.
      sweep: only the runs of this sweep, a column for each method.

    Raises:
      UserError: as `selection.select` does.
    """
    runs = select(store.runs, methods, datasets, sweep)
    left = {clean(run.path) for run in store.runs} - {clean(run.path) for run in runs}
    told = [note for note in store.notes if not _is_about(note, left)]
    chosen, notes = _choose(runs)
    cells = {key: make_cell(curves, checkpoint) for key, curves in chosen.items()}
    notes += [n for key, cell in cells.items() for n in _cautions(*key, cell)]
    cells = _with_intervals(cells, replicates, seed)
    domains: dict[str, set[str]] = {}
    for dataset, _ in cells:
        domains.setdefault(domain(dataset), set()).add(dataset)
    groups = [
        make_group(name, domains[name], cells, replicates, seed)
        for name in sorted(domains)
    ]
    return Board(groups, told + notes, checkpoint, seed, replicates, runs)


def _is_about(note: Note, folders: set[str]) -> bool:
    """Whether a note is about one of these run folders, or something inside it."""
    where = Path(note.where)
    return not folders.isdisjoint({note.where, *map(str, where.parents)})


Key = tuple[str, Column]


def _choose(runs: list[Run]) -> tuple[dict[Key, list[Curve]], list[Note]]:
    """For each dataset and column one curve per seed: the newest finished one."""
    claims: dict[tuple[str, Column, int], list[Curve]] = {}
    for run in sorted(runs, key=lambda r: (r.finished, r.start, r.id)):
        for curve in run.curves:
            key = (run.dataset, Column(run.method, curve.variant), curve.seed)
            claims.setdefault(key, []).append(curve)
    chosen: dict[Key, list[Curve]] = {}
    replaced: dict[tuple[Run, Run], set[int]] = {}
    for key in sorted(claims, key=lambda k: (k[0], k[1].label, k[2])):
        dataset, column, seed = key
        *others, shown = claims[key]
        chosen.setdefault((dataset, column), []).append(shown)
        for other in others:
            replaced.setdefault((other.run, shown.run), set()).add(seed)
    return chosen, [_duplicate(*pair, seeds) for pair, seeds in replaced.items()]


def _duplicate(old: Run, new: Run, seeds: set[int]) -> Note:
    if old.id == new.id and old.info == new.info:
        text = f"the same run lies in {clean(new.path)}, which is shown."
    else:
        why = "newer" if old.finished == new.finished else "finished"
        text = (
            f"seeds {sorted(seeds)} were run again in {clean(new.path)} ({why}), "
            "which is shown."
        )
    return Note("duplicate", clean(old.path), text)


def at_checkpoint(values: np.ndarray, checkpoint: str) -> float:
    """Last, best, or mean of the last ten of a seed's values [evaluations]."""
    if checkpoint == "last":
        return float(values[-1])
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.nan
    return float(finite.max() if checkpoint == "best" else values[-10:].mean())


def make_cell(curves: list[Curve], checkpoint: str) -> Cell:
    """Statistics of the seeds of one column on one dataset, without intervals."""
    scored = any(np.isfinite(curve.scores).any() for curve in curves)
    sequences = [curve.scores if scored else curve.returns for curve in curves]
    values = {
        name: np.array([at_checkpoint(s, name) for s in sequences])
        for name in CHECKPOINTS
    }
    marks = {"unfinished" for curve in curves if not curve.run.finished}
    marks |= {"diverged" for curve in curves if curve.diverged}
    summary = {name: mean_std(v) for name, v in values.items()}
    return Cell(
        values[checkpoint],
        curves,
        *summary[checkpoint],
        unit="score" if scored else "return",
        by_checkpoint=summary,
        marks=frozenset(marks),
    )


def mean_std(values: np.ndarray) -> tuple[float, float]:
    """Mean and population std of the finite values; std NaN for a single one."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return math.nan, math.nan
    return float(finite.mean()), float(finite.std()) if finite.size > 1 else math.nan


def _cautions(dataset: str, column: Column, cell: Cell) -> list[Note]:
    """What makes the seeds of a cell less comparable than they look."""
    where = f"{column.label} on {dataset}"
    notes = []
    silent = [
        curve.seed
        for curve, value in zip(cell.curves, cell.values, strict=True)
        if not math.isfinite(value)
    ]
    if silent:
        text = f"seeds {silent} have no finite {cell.unit} and are left out of it."
        notes.append(Note("missing", where, text))
    ends = sorted({int(c.steps[-1]) for c in cell.curves if c.run.finished})
    if len(ends) > 1:
        text = f"its seeds end at different steps: {ends}."
        notes.append(Note("caution", where, text))
    for what, keys in (
        ("dataset identities", ("dataset", "identity")),
        ("score references", ("score_source",)),
        ("offjax versions", ("versions", "offjax")),
    ):
        found = {clean(run.describe(*keys)) for run in cell.runs}
        if len(found) > 1:
            text = f"its seeds come from different {what}: {sorted(found)}."
            notes.append(Note("caution", where, text))
    return notes


def _with_intervals(
    cells: dict[Key, Cell], replicates: int, seed: int
) -> dict[Key, Cell]:
    known = {key: cell for key, cell in cells.items() if cell.seeds}
    estimates = statistics.cell_intervals(
        [cell.finite for cell in known.values()], replicates, seed
    )
    found = dict(zip(known, estimates, strict=True))
    return {
        key: replace(cell, iqm=found[key]) if key in found else cell
        for key, cell in cells.items()
    }


def make_group(
    name: str,
    datasets: Iterable[str],
    cells: dict[Key, Cell],
    replicates: int = 2000,
    seed: int = 0,
    rank_reported: bool = False,
) -> Group:
    """The group of `datasets`, with its best marked and its totals.

    Reported columns have no total and are never best, unless `rank_reported`.
    """
    datasets = sorted(datasets, key=by_number)
    own = {
        key: replace(cell, best=False)
        for key, cell in cells.items()
        if key[0] in datasets
    }
    columns = sorted({column for _, column in own}, key=lambda c: (c.source, c.label))
    ranked = {
        key
        for key, cell in own.items()
        if cell.seeds
        and "unfinished" not in cell.marks
        and (rank_reported or not key[1].source)
    }
    for dataset in datasets:
        means = {c: own[d, c].mean for d, c in ranked if d == dataset}
        for column in best_of(means):
            own[dataset, column] = replace(own[dataset, column], best=True)
    group = Group(name, datasets, columns, own, {})
    for column in columns:
        group.totals[column] = _total(group, column, replicates, seed, rank_reported)
    unfit = {column for dataset, column in own if (dataset, column) not in ranked}
    fit = {c: t.total for c, t in group.totals.items() if c not in unfit}
    for column in best_of(fit):
        group.totals[column] = replace(group.totals[column], best=True)
    return group


def _total(
    group: Group, column: Column, replicates: int, seed: int, rank_reported: bool
) -> Total:
    scores = group.scores(column)
    if not scores or len(scores) != len(group.scored):
        return Total(len(scores))
    if column.source:
        # Single numbers per dataset: they have a sum, but no statistics over seeds.
        total = sum(float(s[0]) for s in scores)
        return Total(len(scores), total if rank_reported else math.nan)
    metrics = statistics.intervals(scores, replicates, seed)
    return Total(len(scores), metrics["mean"].value * len(scores), metrics)


def best_of(values: dict[Column, float]) -> list[Column]:
    """Columns with the largest value; none where there is nothing to compare."""
    finite = {c: v for c, v in values.items() if math.isfinite(v)}
    if len(finite) < 2:
        return []
    best = max(finite.values())
    return [c for c, v in finite.items() if v == best]
