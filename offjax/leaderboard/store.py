"""Run folders → runs, checked; nothing that was found is dropped without a note.

A run folder holds config.json, run.json, scores.csv and perhaps episodes.csv; an
exported one (`offjax.leaderboard.export`) also checksums.json, which is verified.
Later evaluations of the run, in evaluations/, add variants of other operators and
settings; the run's own variants are always those that the run recorded. Reading never
imports JAX.
"""

from __future__ import annotations

import csv
import math
import operator
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from offjax.errors import UserError
from offjax.leaderboard.files import damaged as find_damaged
from offjax.leaderboard.files import read_json

SCHEMA = 1
EVALUATIONS = "evaluations"
"""Folder of a run with its later evaluations, each in a folder of its own."""
BESIDE = ("stages", "sweeps", "tuning")
"""Folders of a run store that hold no runs to be ranked."""
MARKERS = ("run.json", "config.json", "scores.csv")
SCORE_COLUMNS = ("variant", "seed", "step", "episodes", "return_mean", "score")
ALL_SCORE_COLUMNS = {*SCORE_COLUMNS, "method", "dataset", "return_std"}


@dataclass(frozen=True)
class Note:
    """Something the reader of the numbers should know.

    Attributes:
      kind: unfinished, diverged, duplicate, malformed, schema, checksum, missing
        or caution.
      where: the run folder, or what the note is about.
      text: one sentence.
    """

    kind: str
    where: str
    text: str

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
    text = str(text)
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else "�" for c in text)
    )


def find(root: Path) -> Iterator[Path]:
    """Run folders below `root`, in order of their paths; those of `BESIDE` are none.

    Does not look inside a run folder: its checkpoints hold many small files.
    """
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name, reverse=True)
        except OSError:
            continue
        if any(entry.name in MARKERS for entry in entries):
            yield folder
            continue
        pending += [
            Path(entry.path)
            for entry in entries
            if entry.is_dir(follow_symlinks=False)
            and not entry.name.startswith(".")
            and not (folder == root and entry.name in BESIDE)
        ]


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


def _read_run(folder: Path, notes: list[Note]) -> Run | None:
    """One run, or None with a note that says why not."""
    where = clean(folder)
    try:
        config = read_json(folder / "config.json")
        info = read_json(folder / "run.json")
        damaged = find_damaged(folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        name = Path(getattr(error, "filename", None) or "").name
        text = f"{name}: {reason}" if name else str(reason)
        notes.append(Note("malformed", where, f"left out: {clean(text)}."))
        return None
    for name, content in (("config.json", config), ("run.json", info)):
        if content.get("schema") != SCHEMA:
            found = clean(content.get("schema"))
            text = (
                f"left out: {name} has schema {found}, this offjax reads {SCHEMA}; "
                "read it with the offjax that wrote it."
            )
            notes.append(Note("schema", where, text))
            return None
    if damaged:
        text = f"left out: {damaged} differs from checksums.json; export it again."
        notes.append(Note("checksum", where, text))
        return None
    method, dataset = config.get("method"), config.get("dataset")
    if not (
        isinstance(method, str) and method and isinstance(dataset, str) and dataset
    ):
        text = "left out: config.json does not name a method and a dataset."
        notes.append(Note("malformed", where, text))
        return None
    run = Run(folder, clean(folder.name), clean(method), clean(dataset), config, info)
    try:
        run.curves = _read_scores(folder / "scores.csv", run, notes)
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        notes.append(Note("malformed", where, f"left out: scores.csv: {reason}."))
        return None
    notes += _status_notes(run)
    run.curves += _evaluated_later(run, notes)
    return run


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
        raise csv.Error(f"no column {', '.join(missing)}")
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

    Where a variant was evaluated several times: on the run's own set of episodes if
    that is among them, and with the most episodes.
    """
    own = {curve.variant for curve in run.curves}
    found: dict[tuple[str, int], list[tuple[bool, int, str, Curve]]] = {}
    for folder in evaluations(run.path):
        try:
            facts = read_json(folder / "evaluation.json")
            curves = _read_scores(folder / "scores.csv", run, notes)
        except (OSError, ValueError, csv.Error) as error:
            reason = getattr(error, "strerror", None) or error
            notes.append(Note("malformed", clean(folder), f"left out: {reason}."))
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
    pick = operator.itemgetter(*(header.index(name) for name in SCORE_COLUMNS))
    named = [name for name in ("method", "dataset") if name in header]
    identity = operator.itemgetter(*(header.index(name) for name in named), 0, 0)
    expected = (*(run.config[name] for name in named),)
    width = len(header)
    rows: dict[tuple[str, int], dict[int, Row]] = {}
    foreign = 0
    for number, row in enumerate(reader, start=2):
        try:
            variant, seed, step, episodes, mean, score = pick(row)
            if len(row) != width:
                raise ValueError
            values = (
                int(step),
                float(episodes or 0),
                float(mean or "nan"),
                float(score or "nan"),
            )
            key = (variant, int(seed))
        except (IndexError, ValueError):
            if row:
                bad.append(number)
            continue
        if identity(row)[:-2] != expected:
            foreign += 1
            continue
        # A resumed run may evaluate a step again: the later row holds.
        rows.setdefault(key, {})[values[0]] = values
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
        status = clean(run.info.get("status", "unknown"))
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
