"""Run folders → runs, checked; nothing that was found is dropped without a note.

A run folder holds config.json, run.json, scores.csv and perhaps episodes.csv; an
exported one (`offjax.leaderboard.export`) also checksums.json. Its evaluations/ add
variants of other operators and settings. Reading never imports JAX.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from offjax import locks
from offjax.errors import UserError
from offjax.folders import BESIDE


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the named files of a folder, as hexadecimal digits."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names
    }


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; `ValueError` for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def damaged_file(folder: Path) -> str:
    """Name of a file that does not match the folder's checksums, or ""."""
    if not (folder / "checksums.json").exists():
        return ""
    claimed = read_json(folder / "checksums.json")
    names = [
        n for n in claimed if not Path(n).is_absolute() and ".." not in Path(n).parts
    ]
    present = checksums(folder, [n for n in names if (folder / n).is_file()])
    return next((n for n in claimed if claimed[n] != present.get(n)), "")


SCHEMA = 1
EVALUATIONS = "evaluations"
"""Folder of a run with its later evaluations, each in a folder of its own."""
MARKERS = ("run.json", "config.json", "scores.csv")
SCORE_COLUMNS = ("variant", "seed", "step", "episodes", "return_mean", "score")
ALL_SCORE_COLUMNS = {*SCORE_COLUMNS, "method", "dataset", "return_std"}


@dataclass(frozen=True)
class Note:
    """Something the reader of the numbers should know."""

    kind: str  # a key of `page.NOTE_TITLES`, or "mismatch"
    where: str  # the run folder, or what the note is about
    text: str  # one sentence

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.text}"


@dataclass(frozen=True, eq=False)
class Curve:
    """The evaluations of one seed of one variant; arrays are [evaluations]."""

    run: Run
    variant: str
    seed: int
    steps: np.ndarray  # int64, increasing
    returns: np.ndarray
    scores: np.ndarray  # NaN where no reference is known
    episodes: int  # episodes of the last evaluation
    evaluation: str = ""  # name of the later evaluation that it is from, if any

    @property
    def diverged(self) -> bool:
        """Whether training of this seed was frozen after a NaN."""
        return (self.variant, self.seed) in self.run.diverged


@dataclass(eq=False)
class Run:
    """One run folder: what it claims to be and what it measured."""

    path: Path
    id: str
    method: str
    dataset: str
    config: dict[str, Any]
    info: dict[str, Any]
    curves: list[Curve] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether the runner wrote `finished` into run.json."""
        return self.info.get("status") == "finished"

    @property
    def diverged(self) -> set[tuple[str, int]]:
        """(variant, seed) of every seed whose loss turned NaN."""
        entries = self.info.get("diverged")
        if not isinstance(entries, list):
            return set()
        return {
            (clean(entry.get("variant", "default")), entry["seed"])
            for entry in entries
            if isinstance(entry, dict) and isinstance(entry.get("seed"), int)
        }

    @property
    def start(self) -> float:
        """Start as a POSIX time; 0 if run.json does not say."""
        try:
            time = datetime.fromisoformat(str(self.info.get("start")))
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return 0.0

    def describe(self, *keys: str) -> Any:
        """Nested value of run.json, None where it is missing or misshapen."""
        value: Any = self.info
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value


@dataclass(frozen=True)
class Store:
    """All runs found, and the notes made while reading them."""

    runs: list[Run]
    notes: list[Note]


def clean(text: Any) -> str:
    """Text without control characters, so that no terminal obeys a name."""
    return "".join(c if c.isprintable() else "�" for c in str(text))


def find(root: Path) -> Iterator[Path]:
    """Run folders below `root`, in order of their paths; those of `BESIDE` are none.

    Does not look inside a run folder: its checkpoints hold many small files.
    """
    for place, inner, files in os.walk(root):
        folder = Path(place)
        if any(name in MARKERS for name in files):
            inner.clear()
            yield folder
        beside = BESIDE if folder == root else ()
        inner[:] = sorted(n for n in inner if not n.startswith(".") and n not in beside)


def read(roots: Iterable[str | Path]) -> Store:
    """Reads every run folder below `roots`.

    Raises:
      UserError: a root does not exist, or no root holds a single run folder.
    """
    runs: list[Run] = []
    notes: list[Note] = []
    found = False
    folders = [Path(root) for root in roots]
    for root in folders:
        if not root.is_dir():
            raise UserError(
                f"The runs folder {str(root)!r} does not exist. Point --runs_dir at a "
                "folder of runs, or make one with `offjax run`."
            )
        for folder in find(root):
            found = True
            run = _read_run(folder, notes)
            if run is not None:
                runs.append(run)
    if not found:
        names = ", ".join(repr(str(root)) for root in folders)
        raise UserError(
            f"No runs in {names}: no folder below has a run.json. Make a run with "
            "`offjax run`, or point --runs_dir somewhere else."
        )
    return Store(runs, notes)


class _LeftOut(Exception):
    """A run that cannot be shown: the kind of its note, and the reason."""


def _read_run(folder: Path, notes: list[Note]) -> Run | None:
    """One run, or None with a note that says why not."""
    try:
        run = _described(folder)
        run.curves = _read_scores(folder / "scores.csv", run, notes)
    except _LeftOut as error:
        kind, reason = error.args
    except (OSError, ValueError, csv.Error) as error:
        kind, reason = "malformed", _reason(error)
    else:
        notes += _status_notes(run)
        run.curves += _evaluated_later(run, notes)
        return run
    notes.append(Note(kind, clean(folder), f"left out: {reason}."))
    return None


def _described(folder: Path) -> Run:
    """A run as its JSON files have it, without scores."""
    config, info = read_json(folder / "config.json"), read_json(folder / "run.json")
    damaged = damaged_file(folder)
    for name, content in (("config.json", config), ("run.json", info)):
        if content.get("schema") != SCHEMA:
            raise _LeftOut(
                "schema",
                f"{name} has schema {clean(content.get('schema'))}, this offjax reads "
                f"{SCHEMA}; read it with the offjax that wrote it",
            )
    if damaged:
        reason = f"{damaged} differs from checksums.json; export it again"
        raise _LeftOut("checksum", reason)
    method, dataset = config.get("method"), config.get("dataset")
    if not all(isinstance(name, str) and name for name in (method, dataset)):
        raise _LeftOut("malformed", "config.json does not name a method and a dataset")
    info["status"] = locks.status(folder, info.get("status", "unknown"))
    return Run(folder, clean(folder.name), clean(method), clean(dataset), config, info)


def _reason(error: Exception) -> str:
    """What went wrong with a file, and which it is."""
    if isinstance(error, OSError) and error.filename:
        return clean(f"{Path(error.filename).name}: {error.strerror}")
    return clean(error)


def _read_scores(path: Path, run: Run, notes: list[Note]) -> list[Curve]:
    """Curves of scores.csv; unreadable lines become one note."""
    where = clean(path.parent)
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines(keepends=True)
    bad: list[int] = []
    if lines and not lines[-1].endswith("\n"):
        # The number at its end may have lost digits, and would look whole.
        bad.append(len(lines))
        lines.pop()
    reader = csv.reader(lines)
    header = next(reader, [])
    missing = [name for name in SCORE_COLUMNS if name not in header]
    if missing:
        raise csv.Error(f"scores.csv has no column {', '.join(missing)}")
    unknown = [clean(name) for name in header if name not in ALL_SCORE_COLUMNS]
    if unknown:
        notes.append(
            Note("caution", where, f"scores.csv: unknown columns {unknown} ignored.")
        )
    rows, foreign = _parse(reader, header, run, bad)
    if bad:
        shown = ", ".join(map(str, sorted(bad)[:10]))
        more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
        note = f"scores.csv: line {shown}{more} half-written or unreadable, skipped."
        notes.append(Note("malformed", where, note))
    if foreign:
        note = f"scores.csv: {foreign} rows name another method or dataset, skipped."
        notes.append(Note("malformed", where, note))
    return [_curve(run, *key, values) for key, values in sorted(rows.items())]


def evaluations(folder: Path) -> list[Path]:
    """Folders of the later evaluations of a run, by name."""
    return sorted(p.parent for p in folder.glob(f"{EVALUATIONS}/*/scores.csv"))


def _evaluated_later(run: Run, notes: list[Note]) -> list[Curve]:
    """Curves of variants that the run itself did not score.

    Of several evaluations of a variant: on the run's own set of episodes if there is
    one, and with the most episodes.
    """
    own = {curve.variant for curve in run.curves}
    found: dict[tuple[str, int], list[tuple[bool, int, str, Curve]]] = {}
    for folder in evaluations(run.path):
        try:
            facts = read_json(folder / "evaluation.json")
            curves = _read_scores(folder / "scores.csv", run, notes)
        except (OSError, ValueError, csv.Error) as error:
            text = f"left out: {_reason(error)}."
            notes.append(Note("malformed", clean(folder), text))
            continue
        same = facts.get("eval_seed") == run.config.get("eval_seed", 0)
        for curve in curves:
            if curve.variant not in own:
                curve = replace(curve, evaluation=folder.name)
                claim = (same, curve.episodes, folder.name, curve)
                found.setdefault((curve.variant, curve.seed), []).append(claim)
    for variant in sorted({v for (v, _), claims in found.items() if len(claims) > 1}):
        text = f"{variant} was evaluated several times; the most episodes are shown."
        notes.append(Note("duplicate", clean(run.path), text))
    return [max(claims, key=lambda c: c[:3])[3] for _, claims in sorted(found.items())]


Row = tuple[int, float, float, float]  # step, episodes, return, score


def _parse(
    reader: Iterable[list[str]], header: list[str], run: Run, bad: list[int]
) -> tuple[dict[tuple[str, int], dict[int, Row]], int]:
    """(variant, seed) → step → row, and the number of rows of other runs."""
    mine = {name: run.config[name] for name in ("method", "dataset")}
    rows: dict[tuple[str, int], dict[int, Row]] = {}
    foreign = 0
    for number, texts in enumerate(reader, start=2):
        if not texts:
            continue
        try:
            row = dict(zip(header, texts, strict=True))
            step, key = int(row["step"]), (row["variant"], int(row["seed"]))
            episodes = float(row["episodes"] or 0)
            mean, score = (float(row[n] or "nan") for n in ("return_mean", "score"))
        except ValueError:
            bad.append(number)
            continue
        if any(row.get(name, value) != value for name, value in mine.items()):
            foreign += 1
            continue
        # A resumed run may evaluate a step again: the later row holds.
        rows.setdefault(key, {})[step] = step, episodes, mean, score
    return rows, foreign


def _curve(run: Run, variant: str, seed: int, rows: dict[int, Row]) -> Curve:
    values = np.array([rows[step] for step in sorted(rows)], np.float64)
    return Curve(
        run,
        clean(variant),
        seed,
        values[:, 0].astype(np.int64),
        values[:, 2],
        values[:, 3],
        int(values[-1, 1]) if math.isfinite(values[-1, 1]) else 0,
    )


def _status_notes(run: Run) -> list[Note]:
    """Notes on an unfinished run, its diverged seeds and its missing seeds."""
    where = clean(run.path)
    notes = []
    last = max((int(c.steps[-1]) for c in run.curves), default=0)
    if not run.finished:
        status = clean(run.info["status"])
        total = run.info.get("total_steps")
        reached = f"step {last}" + (f" of {total}" if isinstance(total, int) else "")
        notes.append(
            Note("unfinished", where, f"status {status!r}, scored up to {reached}.")
        )
    for variant, seed in sorted(run.diverged):
        text = f"seed {seed} ({variant}) diverged and was frozen."
        notes.append(Note("diverged", where, text))
    if not run.curves:
        notes.append(Note("missing", where, "scores.csv has no row yet."))
        return notes
    seeds = run.config.get("seeds")
    if isinstance(seeds, list):
        for variant in sorted({curve.variant for curve in run.curves}):
            scored = {c.seed for c in run.curves if c.variant == variant}
            absent = [s for s in seeds if isinstance(s, int) and s not in scored]
            if absent:
                text = f"{variant}: no score for seeds {absent}."
                notes.append(Note("missing", where, text))
    return notes
