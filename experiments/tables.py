"""What the papers' tables share: calls of experiments.run, and files."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS
Table = TypeVar("Table")
Settings = tuple[tuple[str, str], ...]
"""(hyperparameter, values as a flag has them)."""


class Entry(NamedTuple):
    """One method of a table, with the settings in which it differs from its recipe."""

    method: str
    settings: Settings = ()


SHARED = ("num_seeds", "seed", "eval_episodes", "runs_dir", "data_dir")
"""Flags of `define_flags` that experiments.run has too."""


def define_flags(num_seeds: int, eval_episodes: int, preset: str = "small") -> None:
    """The flags that all tables have, with their defaults."""
    flags.DEFINE_string("table", None, "Name of the table, or `list`.")
    cli.define_preset(preset)
    flags.DEFINE_integer("num_seeds", num_seeds, "Seeds.")
    flags.DEFINE_integer("seed", 0, "First seed.")
    flags.DEFINE_integer("eval_episodes", eval_episodes, "Episodes per seed.")
    flags.DEFINE_string("runs_dir", "runs", "Where run folders go.")
    cli.define_data_dir()
    flags.DEFINE_bool("dry_run", False, "Print the commands and stop.")


def chosen(tables: Mapping[str, Table], titles: Mapping[str, str]) -> Table | None:
    """The table that --table names; None where the list was asked for, and printed.

    Raises:
      UserError: there is no such table.
    """
    if FLAGS.table in (None, "list"):
        print("\n".join(f"{name}: {titles[name]}" for name in tables))
        return None
    if FLAGS.table not in tables:
        raise UserError(f"There is no table {FLAGS.table!r}; known: {[*tables]}.")
    return tables[FLAGS.table]


def datasets() -> list[str]:
    """Those of --datasets.

    Raises:
      UserError: there are none.
    """
    if not FLAGS.datasets:
        raise UserError("--datasets is missing: name one or more, joined by commas.")
    return FLAGS.datasets


def arguments(
    method: str, dataset: str, preset: str, settings: Iterable[tuple[str, str]]
) -> list[str]:
    """Arguments of experiments.run for one method on one dataset."""
    given = [f"--method={method}", f"--dataset={dataset}", f"--preset={preset}"]
    return given + [f"--config.{name}={value}" for name, value in settings]


def carry_out(arguments: list[str], **more: Any) -> None:
    """Calls experiments.run, and prints the call; with --dry_run that is all.

    Args:
      arguments: of the call.
      more: further flags and their values, beside those of `SHARED`; what is None, 0,
        False or empty is omitted.
    """
    values = {name: FLAGS[name].value for name in SHARED} | more
    given = [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in values.items()
        if value
    ]
    call = ["-m", "experiments.run", *arguments, *given]
    print("python", *call, flush=True)
    if not FLAGS.dry_run:
        subprocess.run([sys.executable, *call], check=True)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table to a file, whose folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as lines:
        csv.writer(lines, lineterminator="\n").writerows([header, *rows])
