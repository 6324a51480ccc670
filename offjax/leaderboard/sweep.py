"""The runs of one sweep as a column for each method.

Elsewhere variants are never pooled. Where a sweep chose a method's settings for each
dataset anew, its runs have a variant of their own on each, and belong side by side.
"""

from __future__ import annotations

from dataclasses import replace

from offjax.errors import UserError
from offjax.leaderboard.store import Run


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
    variants: dict[tuple[str, str], set[str]] = {}
    for run in found:
        mine = {curve.variant for curve in run.curves}
        variants.setdefault((run.method, run.dataset), set()).update(mine)
    for (method, dataset), several in variants.items():
        if len(several) > 1:
            raise UserError(
                f"--sweep={sweep}: {method} has {len(several)} variants on {dataset} "
                f"({'; '.join(sorted(several))}); a column can show one of them."
            )
    return [_renamed(run, f"sweep={sweep}") for run in found]


def _renamed(run: Run, variant: str) -> Run:
    """The run with another name for its only variant."""
    diverged = [{"variant": variant, "seed": seed} for _, seed in run.diverged]
    made = replace(run, curves=[], info={**run.info, "diverged": diverged})
    made.curves.extend(replace(c, run=made, variant=variant) for c in run.curves)
    return made
