"""Which runs go on the board: those of some methods, datasets, or one sweep.

Variants are never pooled, except in one place: where a sweep chose a method's settings
for each dataset anew, its runs have another variant on each, and belong side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from offjax.errors import UserError
from offjax.leaderboard.store import Run, clean


def select(
    runs: Sequence[Run], methods: Sequence[str], datasets: Sequence[str], sweep: str
) -> list[Run]:
    """The runs that match; empty patterns match all.

    Raises:
      UserError: a pattern matches nothing, no run is of `sweep`, or it has several
        variants of a method on a dataset.
    """
    wanted_methods = _matches(methods, (r.method for r in runs), "methods")
    wanted_datasets = _matches(datasets, (r.dataset for r in runs), "datasets")
    chosen = [
        r for r in runs if r.method in wanted_methods and r.dataset in wanted_datasets
    ]
    return of_sweep(chosen, sweep) if sweep else chosen


def _matches(patterns: Sequence[str], names: Iterable[str], what: str) -> set[str]:
    """Names that match one of the patterns (all if there are none)."""
    names = set(names)
    if not patterns:
        return names
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatchcase(name, pattern)}
        if not matched:
            known = ", ".join(sorted(names)[:20])
            raise UserError(
                f"--{what}={pattern} matches none of the {what} in these runs; "
                f"there are: {known}."
            )
        chosen |= matched
    return chosen


def of_sweep(runs: list[Run], sweep: str) -> list[Run]:
    """The runs of a sweep, their variants called by its name.

    Raises:
      UserError: there is none, or a method has several variants on a dataset.
    """
    found = [run for run in runs if run.describe("sweep") == sweep]
    if not found:
        known = {str(run.describe("sweep") or "") for run in runs} - {""}
        raise UserError(
            f"--sweep={sweep}: no run here is of that sweep; there are: "
            f"{', '.join(sorted(known)) or 'none'}."
        )
    made: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(found, key=lambda run: run.start):
        made.setdefault((run.method, run.dataset), []).append(run)
    for (method, dataset), runs in made.items():
        variants = sorted({curve.variant for run in runs for curve in run.curves})
        if len(variants) > 1:
            raise UserError(
                f"--sweep={sweep}: {method} has {len(variants)} variants on {dataset} "
                f"({'; '.join(variants)}); a column can show one of them. {_way(runs)}"
            )
    return [_renamed(run, f"sweep={sweep}") for run in found]


def _way(runs: list[Run]) -> str:
    """What to do about several variants; `runs` are in the order of their start."""
    shown = {curve.variant for curve in runs[-1].curves}
    if len(shown) > 1:
        return "Leave --sweep out: this one did not choose among them."
    older = [run for run in runs if {c.variant for c in run.curves} != shown]
    where = ", ".join(clean(run.path) for run in older)
    return f"If the newest replaces the others, move these out of --runs_dir: {where}."


def _renamed(run: Run, variant: str) -> Run:
    """The run with another name for its only variant."""
    diverged = [{"variant": variant, "seed": seed} for _, seed in run.diverged]
    made = replace(run, curves=[], info={**run.info, "diverged": diverged})
    made.curves.extend(replace(c, run=made, variant=variant) for c in run.curves)
    return made
