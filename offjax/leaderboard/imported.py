"""Results of other projects as a reported source beside the measured ones.

A source is a folder `<runs_dir>/reported/<name>/`: `sources.toml` and `<name>.csv` in
the format of the packaged ones (`offjax.leaderboard.reported`), and `values.csv` with
the value of each seed.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from offjax.errors import UserError
from offjax.leaderboard import foreign
from offjax.leaderboard.board import CHECKPOINTS, at_checkpoint, mean_std
from offjax.leaderboard.foreign import Record

FOLDER = "reported"


@dataclasses.dataclass
class Series:
    """The evaluations of one seed.

    Attributes:
      method: as its project calls it.
      dataset: id.
      seed: its own, or a number in the order of the runs where that is not recorded.
      file: the results' file.
      origin: file and name of its run.
      points: step → (score, episodes).
    """

    method: str
    dataset: str
    seed: int
    file: str
    origin: str
    points: dict[float, tuple[float, int]] = dataclasses.field(default_factory=dict)

    def score(self, checkpoint: str) -> float:
        """At the checkpoint, a key of `CHECKPOINTS`."""
        values = [self.points[step][0] for step in sorted(self.points)]
        return at_checkpoint(np.array(values), checkpoint)


@dataclasses.dataclass(frozen=True)
class Source:
    """What is said of the numbers.

    Attributes:
      name: shown behind ‡ at every number; names the folder.
      url: where they come from, or "".
      protocol: how they were made, in a sentence, or "".
      checkpoint: key of `CHECKPOINTS`.
    """

    name: str
    url: str = ""
    protocol: str = ""
    checkpoint: str = "last"


def collect(
    records: Iterable[Record],
    *,
    method: str | None = None,
    dataset: str | None = None,
    metric: str | None = None,
    scale: float = 1.0,
) -> list[Series]:
    """Records → seeds, in the order in which they were found.

    Args:
      records: of all files.
      method: in place of what the records say.
      dataset: likewise.
      metric: name of the field with the result; None where it is the only one.
      scale: factor on scores, 100 for shares. Returns are normalized by the dataset's
        reference scores and take no factor.

    Raises:
      UserError: a method, dataset or result cannot be told, is no number, or is there
        twice; the dataset of a return has no reference scores.
    """
    records = list(records)
    found: dict[tuple[str, str, object], Series] = {}
    for record, values, is_return in _results(records, metric):
        id = dataset or _dataset(record)
        name = method or _method(record, id)
        scores = _normalized(id, values, record) if is_return else scale * values
        run, origin = _run(record)
        seed = _whole(record, "seed")
        if seed is None:  # only used where the run is new
            seed = sum(key[:2] == (name, id) for key in found)
        series = found.setdefault(
            (name, id, run), Series(name, id, seed, record.file, origin)
        )
        step = _whole(record, "step") or 0
        _add(series, step, (float(scores.mean()), scores.size), record, origin)
    if not found:
        names = sorted({name for record in records for name in record.fields})
        wanted = metric or "with `score` or `return` in its name"
        raise UserError(
            f"The files hold no results: no field {wanted} has a value. The fields are "
            f"{', '.join(names[:30]) or 'none'}. Choose one with --metric."
        )
    return list(found.values())


def _results(
    records: Iterable[Record], metric: str | None
) -> Iterator[tuple[Record, np.ndarray, bool]]:
    """Records with their values, and whether these are returns."""
    for _, group in itertools.groupby(records, key=lambda record: record.file):
        inside = list(group)
        field = foreign.value_field(inside, metric)
        if field is None:
            continue
        is_return = "return" in field and "score" not in field
        for record in inside:
            values = foreign.value(record, field)
            if values is not None:
                yield record, values, is_return


def write(series: list[Series], source: Source, runs_dir: str | Path) -> Path:
    """Writes a reported source, in place of one of the same name.

    Returns:
      Its folder.

    Raises:
      UserError: the name has no letter or digit, or the folder cannot be written.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", source.name.lower()).strip("-")
    if not slug:
        raise UserError(
            f"--source={source.name!r} has no letter or digit. Name the project that "
            "the results come from."
        )
    folder = Path(runs_dir) / FOLDER / slug
    unfinished = folder.with_name(f".{slug}")
    texts = {
        "values.csv": _values(series),
        f"{slug}.csv": _means(series, source.checkpoint),
        "sources.toml": _description(series, source, slug),
    }
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for name, text in texts.items():
            (unfinished / name).write_text(text, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(
            f"Cannot write {folder} ({error.strerror}). Give --runs_dir a folder that "
            "you may write to and that has room."
        ) from error
    return folder


def means(
    series: list[Series], checkpoint: str
) -> dict[tuple[str, str], tuple[float, float, int]]:
    """(dataset, method) → mean, population std over seeds (NaN for one), seeds."""
    groups: dict[tuple[str, str], list[float]] = {}
    for each in series:
        groups.setdefault((each.dataset, each.method), []).append(
            each.score(checkpoint)
        )
    return {
        key: (*mean_std(np.array(values)), len(values))
        for key, values in sorted(groups.items())
    }


def _add(
    series: Series, step: int, point: tuple[float, int], record: Record, origin: str
) -> None:
    if origin != series.origin or step in series.points:
        raise UserError(
            f"{record.where}: seed {series.seed} of {series.method} on "
            f"{series.dataset} has a second result at step {step}; the first is in "
            f"{series.origin}. Leave one out of --files, or import them "
            "separately, each with its own --method."
        )
    series.points[step] = point


def _run(record: Record) -> tuple[object, str]:
    """What tells a seed's records from those of others, and where they come from."""
    name, seed = record.get("name"), _whole(record, "seed")
    origin = record.file if name is None else f"{record.file} ({name})"
    if seed is not None:
        return seed, origin
    if name is None and record.get("step") is None:
        return record.where, record.where  # every row is a seed
    return origin, origin


def _whole(record: Record, what: str) -> int | None:
    found = record.get(what)
    if found is None:
        return None
    try:
        number = float(found)
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError):
        pass
    raise UserError(
        f"{record.where}: the {what} is {str(found)[:40]!r}, which is not a whole "
        "number. Correct it."
    )


def _dataset(record: Record) -> str:
    from offjax.catalog import collected
    from offjax.datasets import legacy

    told = record.get("dataset")
    if told is not None:
        return collected.with_slashes(str(told))
    text = " ".join([str(record.get("name")), *record.fields])
    own = re.search(r"offjax[/-][a-z0-9]+[/-][a-z0-9.-]*?-v\d+", text)
    if own is not None:
        return collected.with_slashes(own[0])
    inside = [name for name in legacy.table() if name in text]
    if inside:
        return max(inside, key=len)
    raise UserError(
        f"{record.where} names no dataset: it has no field "
        f"{', '.join(foreign.NAMES['dataset'])}, and no id of D4RL or offjax in its "
        "name. Give it with --dataset."
    )


def _method(record: Record, dataset: str) -> str:
    told = record.get("method")
    if told is not None:
        return str(told)
    name = str(record.get("name") or "")
    for spelling in (dataset, dataset.replace("/", "-")):
        before, there, _ = name.partition(spelling)
        if there and before.strip("-_/ "):
            return before.strip("-_/ ")
    raise UserError(
        f"{record.where} names no method: it has no field "
        f"{', '.join(foreign.NAMES['method'])}, and its run is not called "
        "METHOD-DATASET. Give it with --method."
    )


def _normalized(dataset: str, returns: np.ndarray, record: Record) -> np.ndarray:
    from offjax.catalog import collected
    from offjax.datasets import legacy

    if dataset in legacy.table():
        entry = legacy.table()[dataset]
        span = entry.ref_max_score - entry.ref_min_score
        return 100.0 * (returns - entry.ref_min_score) / span
    if dataset.startswith("offjax/"):
        return collected.parse(dataset).spec().score(returns)
    raise UserError(
        f"{record.where} holds returns of {dataset}, whose reference scores are not "
        "known. Give normalized scores."
    )


def _text(rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _values(series: list[Series]) -> str:
    head = ["method", "dataset", "seed", "step", "episodes", "score", "origin"]
    rows: list[list[object]] = [
        [each.method, each.dataset, each.seed, step, episodes, score, each.origin]
        for each in series
        for step, (score, episodes) in sorted(each.points.items())
    ]
    return _text([head, *rows])


def _means(series: list[Series], checkpoint: str) -> str:
    rows: list[list[object]] = [["table", "dataset", "method", "mean", "std"]]
    for (dataset, method), (mean, std, seeds) in means(series, checkpoint).items():
        spread = f"{std:.2f}" if seeds > 1 else ""
        rows.append([checkpoint, dataset, method, f"{mean:.2f}", spread])
    return _text(rows)


def _description(series: list[Series], source: Source, slug: str) -> str:
    counts = {seeds for *_, seeds in means(series, source.checkpoint).values()}
    seeds = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{min(counts)}"
    protocol = [
        f"{seeds} seeds; {CHECKPOINTS[source.checkpoint]}; ± is the population "
        "standard deviation over seeds.",
        source.protocol,
    ]
    files = sorted({Path(each.file).name for each in series})
    note = f"Imported from {len(files)} files: {', '.join(files[:5])}" + (
        ", …" if len(files) > 5 else ""
    )
    facts = {
        "caption": "Normalized scores",
        "protocol": " ".join(filter(None, protocol)),
        "checkpoint": source.checkpoint,
        "seeds": min(counts),
        "beside": ["*"],
        "notes": [note],
    }
    head = {"title": source.name, "url": source.url, "label": source.name}
    lines = [f"[{slug}]", *_pairs(head), "", f"[{slug}.tables.{source.checkpoint}]"]
    return "\n".join([*lines, *_pairs(facts)]) + "\n"


def _pairs(entries: Mapping[str, object]) -> list[str]:
    """TOML: JSON writes strings, numbers and lists in the same way."""
    return [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in entries.items()]
