"""Prints or writes the leaderboard of one or more folders of runs.

python -m experiments.leaderboard --runs_dir=runs
python -m experiments.leaderboard --runs_dir=runs --format=html [--watch]
python -m experiments.leaderboard --runs_dir=runs --screenshot=docs/board.png
python -m experiments.leaderboard --runs_dir=runs --export=contributed
python -m experiments.leaderboard --runs_dir=contributed --check
python -m experiments.leaderboard --runs_dir=runs --tuning
python -m experiments.leaderboard --runs_dir=runs/asp --sweep=asp_table2
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# The bootstrap's products are small and many: on a busy machine a BLAS with several
# threads spends most of its time waiting for them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from absl import flags
from rich.console import Console

from experiments import cli
from offjax.errors import UserError
from offjax.leaderboard import (
    board,
    effort,
    export,
    page,
    reported,
    screenshot,
    store,
    tables,
)

FORMATS = ("terminal", "markdown", "csv", "latex", "html")

RUNS_DIR = flags.DEFINE_list("runs_dir", ["runs"], "Folders of runs, comma-separated.")
FORMAT = flags.DEFINE_enum("format", "terminal", FORMATS, "What to write.")
OUT = flags.DEFINE_string(
    "out",
    None,
    "File to write to; by default the screen, for html leaderboard.html in the "
    "first folder of runs.",
)
METHODS = flags.DEFINE_list("methods", [], "Only these methods; * and ? match.")
DATASETS = flags.DEFINE_list("datasets", [], "Only these datasets; * and ? match.")
SWEEP = flags.DEFINE_string(
    "sweep",
    "",
    "Only the runs of this sweep, a column for each method, whose settings may differ "
    "between datasets.",
)
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "last",
    list(board.CHECKPOINTS),
    "Headline: last evaluation, best of each seed, or mean of the last ten.",
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the bootstrap.", lower_bound=0)
REPLICATES = flags.DEFINE_integer(
    "replicates", 2000, "Bootstrap replicates.", lower_bound=100, upper_bound=200_000
)
REPORTED = flags.DEFINE_bool(
    "reported",
    False,
    "Show papers' and imported numbers beside measured ones (html always does).",
)
RANK_REPORTED = flags.DEFINE_bool(
    "rank_reported", False, "Let papers' numbers be called best and have totals."
)
WATCH = flags.DEFINE_bool("watch", False, "Write the page again while runs go on.")
INTERVAL = flags.DEFINE_integer(
    "interval", 30, "Seconds between two pages of --watch.", lower_bound=1
)
CHECK = flags.DEFINE_bool("check", False, "Check runs that are meant to be shared.")
TUNING = flags.DEFINE_bool(
    "tuning", False, "Scores after k evaluations of tuned methods, as markdown."
)
EXPORT = flags.DEFINE_string("export", None, "Folder to export finished runs to.")
SCREENSHOT = flags.DEFINE_string(
    "screenshot", None, "PNG of the page to write; the page itself goes to --out."
)


SELECTION = (METHODS, DATASETS, SWEEP)
LOOKS = (FORMAT, OUT, CHECKPOINT, SEED, REPLICATES, REPORTED, RANK_REPORTED)


def main(argv: list[str]) -> None:
    """Does what the flags ask for."""
    del argv
    if (WATCH.value or SCREENSHOT.value) and FORMAT.value != "html":
        refuse("watch" if WATCH.value else "screenshot", FORMAT)
    if WATCH.value:
        watch()
    elif CHECK.value:
        refuse("check", *SELECTION, *LOOKS)
        check()
    elif TUNING.value:
        refuse("tuning", *SELECTION, *LOOKS)
        print(effort.markdown(effort.read(RUNS_DIR.value)), end="")
    elif EXPORT.value is not None:
        refuse("export", *LOOKS)
        export_runs(Path(EXPORT.value))
    elif SCREENSHOT.value is not None:
        picture(Path(SCREENSHOT.value))
    elif FORMAT.value == "html":
        path = page_path()
        page.write(path, render())
        print(path)
    else:
        write(build())


def refuse(mode: str, *others: flags.FlagHolder) -> None:
    """Raises `UserError` for flags that a mode would ignore."""
    given = [f"--{flag.name}" for flag in others if flag.present]
    if given:
        raise UserError(f"--{mode} does not use {', '.join(given)}; leave that out.")


def options() -> dict[str, Any]:
    """The flags that `board.build` takes."""
    return {
        "checkpoint": CHECKPOINT.value,
        "seed": SEED.value,
        "replicates": REPLICATES.value,
        "methods": METHODS.value,
        "datasets": DATASETS.value,
        "sweep": SWEEP.value,
    }


def build() -> board.Board:
    """The board that the flags describe."""
    built = board.build(store.read(RUNS_DIR.value), **options())
    if REPORTED.value or RANK_REPORTED.value:
        built = reported.beside(
            built, reported.load(RUNS_DIR.value), RANK_REPORTED.value
        )
        if not any(column.source for g in built.groups for column in g.columns):
            print(
                "No dataset of these runs has reported numbers; --format=html shows "
                "all tables of papers.",
                file=sys.stderr,
            )
    return built


def render(refresh: int = 0) -> str:
    """The page that the flags describe."""
    return page.render(
        store.read(RUNS_DIR.value),
        reported.load(RUNS_DIR.value),
        refresh=refresh,
        rank_reported=RANK_REPORTED.value,
        **options(),
    )


def page_path() -> Path:
    """Where the page goes."""
    return Path(OUT.value or Path(RUNS_DIR.value[0]) / "leaderboard.html")


def write(built: board.Board) -> None:
    """Writes the board as text, to --out or the screen."""
    if FORMAT.value == "terminal" and OUT.value is None:
        tables.write_terminal(built, Console())
        return
    text = {
        "terminal": lambda b: "\n".join(tables.plain_lines(b)) + "\n",
        "markdown": tables.markdown,
        "csv": tables.csv_text,
        "latex": tables.latex,
    }[FORMAT.value](built)
    if OUT.value is None:
        print(text, end="")
        return
    page.write(Path(OUT.value), text)
    print(OUT.value)


def watch() -> None:
    """Writes the page every --interval seconds until interrupted."""
    path = page_path()
    print(f"{path}: written every {INTERVAL.value} s; end with Ctrl-C.", flush=True)
    waiting = ""
    try:
        while True:
            try:
                text = render(refresh=INTERVAL.value)
            except UserError as error:
                # Runs that are still to come are what one watches for.
                if str(error) != waiting:
                    waiting = str(error)
                    print(f"waiting: {waiting}", file=sys.stderr, flush=True)
            else:
                page.write(path, text)
            time.sleep(INTERVAL.value)
    except KeyboardInterrupt:
        print(path)


def check() -> None:
    """Prints what is wrong with the runs; exit code 1 if anything is."""
    found = store.read(RUNS_DIR.value)
    problems = export.check(found)
    for note in problems:
        print(note)
    if problems:
        sys.exit(1)
    print(f"{len(found.runs)} runs, all sound.")


def export_runs(out: Path) -> None:
    """Exports the finished runs and prints their new folders."""
    chosen = options() | {"replicates": 100}  # no statistics are read
    runs = board.build(store.read(RUNS_DIR.value), **chosen).runs
    written, notes = export.write(runs, out)
    for folder in written:
        print(folder)
    for note in notes:
        print(note, file=sys.stderr)


def picture(out: Path) -> None:
    """Writes a screenshot of the page, and with --out the page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(OUT.value or Path(folder) / "page.html")
        page.write(path, render())
        screenshot.take(path, out)
    print(out)


if __name__ == "__main__":
    cli.run(main)
