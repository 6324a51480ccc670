"""Prints or writes the leaderboard of one or more folders of runs.

offjax leaderboard --runs_dir=runs
offjax leaderboard --runs_dir=runs --format=html [--watch]
offjax leaderboard --runs_dir=runs --format=html --screenshot=docs/board.png
offjax leaderboard --runs_dir=runs --export=contributed
offjax leaderboard --runs_dir=runs --export=contributed --parameters
offjax leaderboard --runs_dir=contributed --check
offjax leaderboard --runs_dir=contributed --verify [--rows='iql/*'] [--retrain=runs]
offjax leaderboard --runs_dir=runs --tuning
offjax leaderboard --runs_dir=runs/asp --sweep=asp_table2
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.leaderboard import board

FLAGS = flags.FLAGS
FORMATS = ("terminal", "markdown", "csv", "latex", "html")
SELECTION = ("methods", "datasets", "sweep")
LOOKS = (
    "format", "out", "checkpoint", "seed", "replicates", "reported", "rank_reported",
)  # fmt: skip


def define_flags() -> None:
    """The command's flags."""
    with cli.section("What is shown"):
        flags.DEFINE_list("runs_dir", ["runs"], "Folders of runs, comma-separated.")
        flags.DEFINE_list("methods", [], "Only these methods; * and ? match.")
        flags.DEFINE_list("datasets", [], "Only these datasets; * and ? match.")
        flags.DEFINE_string(
            "sweep", "",
            "Only the runs of this sweep, a column for each method, whose settings may "
            "differ between datasets.",
        )  # fmt: skip
        flags.DEFINE_enum(
            "checkpoint", "last", ["last", "best", "ten"],
            "Headline: last evaluation, best of each seed, or mean of the last ten.",
        )  # fmt: skip
        flags.DEFINE_bool(
            "reported", False,
            "Show papers' and imported numbers beside measured ones; html always does.",
        )  # fmt: skip
        flags.DEFINE_bool(
            "rank_reported",
            False,
            "Let papers' numbers be called best and have totals.",
        )
        flags.DEFINE_integer("seed", 0, "Seed of the bootstrap.", lower_bound=0)
        flags.DEFINE_integer(
            "replicates", 2000, "Bootstrap replicates.",
            lower_bound=100, upper_bound=200_000,
        )  # fmt: skip
    with cli.section("Where to"):
        flags.DEFINE_enum("format", "terminal", FORMATS, "What to write.")
        flags.DEFINE_string(
            "out", None,
            "File to write to; by default the screen, for html leaderboard.html in the "
            "first folder of runs.",
        )  # fmt: skip
        flags.DEFINE_bool("watch", False, "Write the page again while runs go on.")
        flags.DEFINE_integer(
            "interval", 30, "Seconds between two pages of --watch.", lower_bound=1
        )
        flags.DEFINE_string(
            "screenshot", None,
            "PNG of the page to write; the page itself goes to --out.",
        )  # fmt: skip
    with cli.section("In place of the leaderboard"):
        flags.DEFINE_bool("check", False, "Check runs that are meant to be shared.")
        flags.DEFINE_bool(
            "tuning", False, "Scores after k evaluations of tuned methods, as markdown."
        )
        flags.DEFINE_string("export", None, "Folder to export finished runs to.")
        flags.DEFINE_bool(
            "parameters", False,
            "Export the final parameters of what acts as well: parameters.npz.",
        )  # fmt: skip
        flags.DEFINE_integer(
            "parameter_seeds", 0, "Of the first so many seeds only; 0: of all.",
            lower_bound=0,
        )  # fmt: skip
        flags.DEFINE_bool(
            "verify",
            False,
            "Play the last episodes of exported runs again from their parameters.",
        )
        flags.DEFINE_list(
            "rows", [], "Verify only these, METHOD/DATASET/RUN_ID; * and ? match."
        )
        flags.DEFINE_string(
            "retrain", None,
            "Folder of the runs that were exported: verify by training a part again.",
        )  # fmt: skip
        cli.define_data_dir()


def main(argv: list[str]) -> None:
    """Does what the flags ask for."""
    del argv
    # The bootstrap's products are small and many: on a busy machine a BLAS with several
    # threads spends most of its time waiting for them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if (FLAGS.watch or FLAGS.screenshot) and FLAGS.format != "html":
        refuse("watch" if FLAGS.watch else "screenshot", "format")
    if not FLAGS.verify:
        require("verify", "rows", "retrain")
    if not FLAGS.parameters:
        require("parameters", "parameter_seeds")
        if not FLAGS.verify:
            require("parameters or --verify", "data_dir")
    elif FLAGS.export is None:
        require("export", "parameters")
    if FLAGS.watch:
        refuse("watch", "check", "verify", "tuning", "export", "screenshot")
        watch()
    elif FLAGS.check:
        refuse("check", "verify", *SELECTION, *LOOKS)
        check()
    elif FLAGS.verify:
        from offjax.cli import proofs

        refuse("verify", "export", *SELECTION, *LOOKS)
        proofs.verify(FLAGS.runs_dir, FLAGS.rows, FLAGS.retrain, FLAGS.data_dir)
    elif FLAGS.tuning:
        refuse("tuning", *SELECTION, *LOOKS)
        tuning()
    elif FLAGS.export is not None:
        refuse("export", *LOOKS)
        export_runs(Path(FLAGS.export))
    elif FLAGS.screenshot is not None:
        picture(Path(FLAGS.screenshot))
    elif FLAGS.format == "html":
        from offjax.leaderboard import page

        path = page_path()
        page.write(path, render())
        print(path)
    else:
        write(build())


def refuse(mode: str, *others: str) -> None:
    """Raises `UserError` for flags that a mode would ignore."""
    given = [f"--{name}" for name in others if FLAGS[name].present]
    if given:
        raise UserError(f"--{mode} does not use {', '.join(given)}; leave that out.")


def require(mode: str, *others: str) -> None:
    """Raises `UserError` for flags that are read with a mode alone."""
    given = [f"--{name}" for name in others if FLAGS[name].present]
    if given:
        raise UserError(f"{', '.join(given)} is read with --{mode} alone; add that.")


def tuning() -> None:
    """Prints what tuning took, and brought."""
    from offjax.leaderboard import effort

    print(effort.markdown(effort.read(FLAGS.runs_dir)), end="")


def options() -> dict[str, Any]:
    """The flags that `board.build` takes."""
    return {
        "checkpoint": FLAGS.checkpoint,
        "seed": FLAGS.seed,
        "replicates": FLAGS.replicates,
        "methods": FLAGS.methods,
        "datasets": FLAGS.datasets,
        "sweep": FLAGS.sweep,
    }


def build() -> board.Board:
    """The board that the flags describe."""
    from offjax.leaderboard import board, reported, store

    built = board.build(store.read(FLAGS.runs_dir), **options())
    if FLAGS.reported or FLAGS.rank_reported:
        built = reported.beside(
            built, reported.load(FLAGS.runs_dir), FLAGS.rank_reported
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
    from offjax.leaderboard import page, reported, store

    return page.render(
        store.read(FLAGS.runs_dir),
        reported.load(FLAGS.runs_dir),
        refresh=refresh,
        rank_reported=FLAGS.rank_reported,
        **options(),
    )


def page_path() -> Path:
    """Where the page goes."""
    return Path(FLAGS.out or Path(FLAGS.runs_dir[0]) / "leaderboard.html")


def write(built: board.Board) -> None:
    """Writes the board as text, to --out or the screen."""
    from offjax.leaderboard import page, tables

    if FLAGS.format == "terminal" and FLAGS.out is None:
        from rich.console import Console

        tables.write_terminal(built, Console())
        return
    text = {
        "terminal": lambda b: "\n".join(tables.plain_lines(b)) + "\n",
        "markdown": tables.markdown,
        "csv": tables.csv_text,
        "latex": tables.latex,
    }[FLAGS.format](built)
    if FLAGS.out is None:
        print(text, end="")
        return
    page.write(Path(FLAGS.out), text)
    print(FLAGS.out)


def watch() -> None:
    """Writes the page every --interval seconds until interrupted."""
    from offjax.leaderboard import page

    path = page_path()
    print(f"{path}: written every {FLAGS.interval} s; end with Ctrl-C.", flush=True)
    waiting = ""
    try:
        while True:
            try:
                text = render(refresh=FLAGS.interval)
            except UserError as error:
                # Runs that are still to come are what one watches for.
                if str(error) != waiting:
                    waiting = str(error)
                    print(f"waiting: {waiting}", file=sys.stderr, flush=True)
            else:
                page.write(path, text)
            time.sleep(FLAGS.interval)
    except KeyboardInterrupt:
        print(path)


def check() -> None:
    """Prints what is wrong with the runs; exit code 1 if anything is."""
    from offjax.leaderboard import export, store

    found = store.read(FLAGS.runs_dir)
    problems = export.check(found)
    for note in problems:
        print(note)
    if problems:
        sys.exit(1)
    print(f"{len(found.runs)} runs, all sound.")


def export_runs(out: Path) -> None:
    """Exports the finished runs and prints their new folders."""
    from offjax.leaderboard import board, export, store

    chosen = options() | {"replicates": 100}  # no statistics are read
    runs = board.build(store.read(FLAGS.runs_dir), **chosen).runs
    add = None
    if FLAGS.parameters:
        from offjax.cli import proofs

        add = proofs.writer(FLAGS.parameter_seeds, FLAGS.data_dir)
    written, notes = export.write(runs, out, add)
    for folder in written:
        print(folder)
    for note in notes:
        print(note, file=sys.stderr)


def picture(out: Path) -> None:
    """Writes a screenshot of the page, and with --out the page."""
    from offjax.leaderboard import page, screenshot

    with tempfile.TemporaryDirectory() as folder:
        path = Path(FLAGS.out or Path(folder) / "page.html")
        page.write(path, render())
        screenshot.take(path, out)
    print(out)
