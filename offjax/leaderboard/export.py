"""Compact copies of runs that can be committed or sent, and their check.

An export has the shape of a runs folder; each run keeps config.json, run.json,
scores.csv and its later evaluations, gets checksums.json, and has its episodes packed.
Beside them may lie its final parameters (`offjax.agents.archive`).
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from offjax.errors import UserError
from offjax.leaderboard import episodes
from offjax.leaderboard.store import (
    EVALUATIONS,
    Note,
    Run,
    Store,
    checksums,
    clean,
    evaluations,
)

PACKED = episodes.EPISODES[1]
COPIED = ("config.json", "run.json", "scores.csv")
PARAMETERS = "parameters.npz"
BROKEN = ("malformed", "schema", "checksum", "missing", "unfinished", "mismatch")


def write(
    runs: Sequence[Run],
    out: Path,
    add_parameters: Callable[[Run, Path], None] | None = None,
) -> tuple[list[Path], list[Note]]:
    """Exports finished runs: the folders written, and notes on the others.

    Args:
      runs: what is exported.
      out: the folder of the export.
      add_parameters: writes the parameters of a run into a file; `UserError` where
        they cannot be had, which becomes a note. None: those that there are.

    Raises:
      UserError: a file cannot be read or written.
    """
    written, notes = [], []
    for run in runs:
        if not run.finished or not run.curves:
            text = "not exported: it is not finished or has no score."
            notes.append(Note("unfinished", clean(run.path), text))
            continue
        parts = [run.method, *run.dataset.split("/"), run.id]
        folder = out.joinpath(*map(_file_name, parts))
        try:
            notes += _write_run(run, folder, add_parameters)
        except OSError as error:
            raise UserError(
                f"Cannot export {str(run.path)!r} to {str(folder)!r} "
                f"({error.strerror}). Give --export a folder that you may write to."
            ) from error
        written.append(folder)
    return written, notes


def _file_name(part: str) -> str:
    """A name that stays inside its folder, whatever the run calls itself."""
    name = re.sub(r"[^\w.=,+-]", "_", part)
    return name if name.strip(".") else "_"


def _write_run(
    run: Run, folder: Path, add_parameters: Callable[[Run, Path], None] | None
) -> list[Note]:
    """Writes all files of a run; notes on its parameters."""
    names, notes = _copy(run.path, folder, COPIED), []
    parameters = folder / PARAMETERS
    if add_parameters is not None:
        try:
            add_parameters(run, parameters)
        except UserError as error:
            notes.append(Note("missing", clean(run.path), f"no parameters: {error}"))
    elif (run.path / PARAMETERS).is_file() and run.path != folder:
        parameters.write_bytes((run.path / PARAMETERS).read_bytes())
    if parameters.is_file():
        names.append(PARAMETERS)
    for each in evaluations(run.path):
        inner = Path(EVALUATIONS, _file_name(each.name))
        copied = _copy(each, folder / inner, ("evaluation.json", "scores.csv"))
        names += [str(inner / name) for name in copied]
    text = json.dumps(checksums(folder, names), indent=1)
    (folder / "checksums.json").write_text(text + "\n")
    return notes


def _copy(source: Path, folder: Path, names: Sequence[str]) -> list[str]:
    """Copies files and packs the episodes; the names of what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes((source / name).read_bytes())
    recorded = episodes.text(source)
    if recorded is None:
        return list(names)
    # Without a time stamp the same run is always the same bytes.
    (folder / PACKED).write_bytes(gzip.compress(recorded.encode(), mtime=0))
    return [*names, PACKED]


def check(store: Store) -> list[Note]:
    """Everything that is wrong with runs that are meant to be shared.

    On top of what reading them finds: whether every mean of scores.csv is that of
    the recorded episodes.
    """
    problems = [note for note in store.notes if note.kind in BROKEN]
    for run in store.runs:
        for evaluation in sorted({"", *(curve.evaluation for curve in run.curves)}):
            problems += _check_episodes(run, evaluation)
    return problems


def _check_episodes(run: Run, evaluation: str) -> list[Note]:
    """Problems of the run's own episodes, or of those of a later evaluation."""
    folder = run.path / EVALUATIONS / evaluation if evaluation else run.path
    where = clean(folder)
    try:
        text = episodes.text(folder)
        if text is None:
            return [Note("missing", where, "there is no episodes.csv.")]
        recorded = {
            key: math.fsum(each.values()) / len(each)
            for key, each in episodes.parse(text).items()
        }
    except (OSError, EOFError, KeyError, ValueError, TypeError, csv.Error) as error:
        return [Note("malformed", where, f"episodes.csv: {clean(error)}.")]
    wrong = [
        f"{curve.variant}, seed {curve.seed}, step {step}"
        for curve in run.curves
        if curve.evaluation == evaluation
        for step, mean in zip(curve.steps.tolist(), curve.returns, strict=True)
        if not _same(recorded.get((curve.variant, curve.seed, step)), float(mean))
    ]
    if not wrong:
        return []
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    text = (
        f"return_mean is not the mean of the episodes for {'; '.join(wrong[:3])}{more}."
    )
    return [Note("mismatch", where, text)]


def _same(found: float | None, mean: float) -> bool:
    """Whether two means agree; NaN agrees with NaN alone."""
    if found is None:
        return False
    both_unknown = math.isnan(found) and math.isnan(mean)
    return both_unknown or math.isclose(found, mean, rel_tol=1e-3, abs_tol=1e-3)
