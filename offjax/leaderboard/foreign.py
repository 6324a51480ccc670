"""Result files of other projects → evaluations, one record each.

Read are

- `.npz` of unifloral's `final_returns/`;
- `history.jsonl` with `config.json` beside it, as `python -m offjax.compat` logs;
- `.csv`: W&B's exports (a panel's, a run's history, the table of runs), or any table
  with a header;
- `.json`: a list of objects, or one object.

Names differ between projects; `NAMES` lists those that are understood.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from offjax.errors import UserError

NAMES = {
    "method": ("method", "algorithm", "algo", "agent"),
    "dataset": ("dataset", "env", "env_name", "dataset_name", "task"),
    "seed": ("seed", "train_seed"),
    "step": ("step", "_step", "num_updates", "global_step"),
    "name": ("name", "run"),
}
"""What a record tells → names of the fields that tell it, in any case."""

_SPREAD = re.compile(r"(^|[_/ .-])(std|min|max)($|[_/ .-])")
_PANEL = re.compile(r"(?P<run>.+) - (?P<metric>.+)")


@dataclass(frozen=True)
class Record:
    """One line of results, or one cell of a panel.

    Attributes:
      where: file, and line where there are lines; for messages.
      file: file.
      fields: name in lower case → value, with the settings of its run.
    """

    where: str
    file: str
    fields: Mapping[str, Any]

    def get(self, what: str) -> Any:
        """The field that tells `what`, a key of `NAMES`; None if there is none."""
        found = (self.fields.get(name) for name in NAMES[what])
        return next((value for value in found if value not in (None, "")), None)


def files(paths: Iterable[str]) -> list[Path]:
    """The files named; of a folder every `.npz` and `history.jsonl` below it.

    Raises:
      UserError: there is no such file, or the folder holds none.
    """
    chosen: list[Path] = []
    for path in map(Path, paths):
        inside = [path]
        if path.is_dir():
            inside = sorted([*path.rglob("*.npz"), *path.rglob("history.jsonl")])
        elif not path.is_file():
            raise UserError(f"There is no file {path}. Correct --files.")
        if not inside:
            raise UserError(
                f"The folder {path} holds no .npz and no history.jsonl. Name the CSV "
                "or JSON files themselves with --files."
            )
        chosen += inside
    return chosen


def read(path: Path) -> list[Record]:
    """All records of a file.

    Raises:
      UserError: a kind of file that is not known, or one that is damaged or empty.
    """
    readers = {".npz": _npz, ".jsonl": _jsonl, ".csv": _csv, ".json": _json}
    if path.suffix not in readers:
        raise UserError(
            f"{path} is of a kind that is not read: {', '.join(readers)} are. Export "
            "the results as one of these."
        )
    try:
        records = list(readers[path.suffix](path))
    except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path} cannot be read ({error}). Export it again, or correct it."
        ) from error
    if not records and path.suffix != ".jsonl":  # a run that was stopped early
        raise UserError(f"{path} holds no results. Leave it out of --files.")
    return records


def value_field(records: Sequence[Record], metric: str | None) -> str | None:
    """The field of a file with the result; None where it has none.

    That is `metric`, else the only score, else the only return. `final_` in front and
    a path before it, as in `hopper-medium-v2/final_score`, make no other metric;
    spreads over episodes are none.

    Args:
      records: of one file.
      metric: a field's name; None to look for one.

    Returns:
      Its name in lower case, as `value` takes it.

    Raises:
      UserError: there are several.
    """
    names = {name for record in records for name in record.fields}
    if metric is not None:
        known = names | {_stem(name) for name in names}
        return metric.lower() if metric.lower() in known else None
    for kind in ("score", "return"):
        found = {_stem(n) for n in names if kind in n and not _SPREAD.search(n)}
        if len(found) > 1:
            raise UserError(
                f"Several fields of {records[0].file} may be the result: "
                f"{', '.join(sorted(found))}. Choose one with --metric."
            )
        if found:
            return found.pop()
    return None


def value(record: Record, field: str) -> np.ndarray | None:
    """The record's results under a field, [episodes] f64; None where it has none.

    Raises:
      UserError: it is not a number or a list of numbers.
    """
    for name, found in record.fields.items():
        if field not in (name, _stem(name)) or found in (None, "", []):
            continue
        try:
            return np.asarray(found, np.float64).ravel()
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{record.where}: {name} is {str(found)[:40]!r}, which is not a "
                "number. Correct it, or leave it empty."
            ) from error
    return None


def _stem(name: str) -> str:
    return re.sub(r"^fin[ae]l_", "", name.rsplit("/", 1)[-1])  # JAX-CORL's CQL: finel


def _lower(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key).strip().lower(): value for key, value in fields.items()}


def _npz(path: Path) -> Iterator[Record]:
    from offjax.datasets import untrusted  # datasets bring JAX along

    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    keys = [key for key in ("final_scores", "final_returns") if key in names]
    if not keys:
        raise ValueError(f"it has no final_scores, only {', '.join(names)}")
    values = untrusted.read_npz(path, keys[:1], str(path))[keys[0]].ravel().tolist()
    packed = zipfile.Path(path, "args.npy")
    settings = untrusted.read_pickle(packed) if "args" in names else {}
    yield Record(str(path), str(path), {**_lower(settings), keys[0]: values})


def _jsonl(path: Path) -> Iterator[Record]:
    beside = path.with_name("config.json")
    settings = _lower(_object(beside.read_text())) if beside.is_file() else {}
    *lines, last = path.read_text(encoding="utf-8").split("\n")
    if last:
        raise ValueError(f"line {len(lines) + 1} is half-written")
    for number, line in enumerate(lines, start=1):
        try:
            fields = _object(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        yield Record(
            f"{path}, line {number}", str(path), {**settings, **_lower(fields)}
        )


def _json(path: Path) -> Iterator[Record]:
    content = json.loads(path.read_text(encoding="utf-8"))
    entries = content if isinstance(content, list) else [content]
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise ValueError(f"entry {number} is no JSON object")
        yield Record(f"{path}, entry {number}", str(path), _lower(entry))


def _csv(path: Path) -> Iterator[Record]:
    text = path.read_text(encoding="utf-8-sig")
    reader = csv.reader(io.StringIO(text), strict=True)
    header = [name.strip() for name in next(reader, [])]
    if len(set(header)) != len(header):
        raise ValueError("its header names a column twice")
    panel = {
        i: match
        for i, name in enumerate(header)
        if (match := _PANEL.fullmatch(name)) and not name.endswith(("__MIN", "__MAX"))
    }
    steps = bool(header) and header[0].lower() in NAMES["step"]
    for number, cells in enumerate(reader):
        where = f"{path}, line {reader.line_num}"
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"line {reader.line_num} has {len(cells)} cells under {len(header)} "
                "headings"
            )
        if not panel:
            row = dict(zip(header, cells, strict=True))
            yield Record(where, str(path), _lower(row))
            continue
        for i, match in panel.items():
            step = cells[0] if steps else number  # the first column may be a time
            cell = {"name": match["run"], "step": step, match["metric"]: cells[i]}
            yield Record(where, str(path), _lower(cell))


def _object(text: str) -> dict[str, Any]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    return content
