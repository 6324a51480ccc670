"""Fills and shows the project's own benchmark: one protocol, one board.

    offjax benchmark run [--hours=2] [--domains=maze2d] [--methods=iql,td3_bc]
    offjax benchmark status
    offjax benchmark table [--format=markdown] [--into=README.md]
    offjax benchmark page
    offjax benchmark compare --a=td3_bc --b=bc

`run` trains what is missing, dataset by dataset. It can be stopped and started again at
any moment. Its finished runs are exported to --export, which the other actions read.
Exports of several machines merge by being copied into one folder. `table` prints the
matrix of datasets and methods. `page` writes the page and, where Chromium is installed,
a picture of the matrix. `compare` tells two methods apart: their difference, and how
many seeds would decide it.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.leaderboard.board import Board
    from offjax.leaderboard.store import Store
    from offjax.sweeps.benchmark import Cell, Suite

FLAGS = flags.FLAGS
POSITIONAL = "action"
ACTIONS = ("run", "status", "table", "page", "compare")
FORMATS = ("terminal", "markdown", "csv", "latex")
MARKS = ("<!-- board -->", "<!-- /board -->")
TRAINING = ("hours", "max_parallel", "host_devices", "parameters")
STORES = ("runs_dir", "data_dir")
UNUSED = {
    "run": ("format", "out", "into", "a", "b"),
    "status": (*TRAINING, "format", "out", "into", "a", "b"),
    "table": (*TRAINING, *STORES, "a", "b"),
    "page": (*TRAINING, *STORES, "format", "into", "a", "b"),
    "compare": (*TRAINING, *STORES, "into", "methods"),
}
"""Action → flags that it does not read."""


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_enum(
        "action", None, ACTIONS, "What to do; `--action=` may be omitted."
    )
    with cli.section("Which part of it"):
        flags.DEFINE_string("file", None, "The benchmark; by default the project's.")
        flags.DEFINE_list("domains", [], "Only these domains.")
        flags.DEFINE_list("datasets", [], "Only these datasets.")
        flags.DEFINE_list("methods", [], "Only these methods.")
    with cli.section("Training"):
        flags.DEFINE_float(
            "hours", None, "Stop after so many hours: save, and export.", lower_bound=0
        )
        flags.DEFINE_integer("max_parallel", 1, "Jobs at once.", lower_bound=1)
        flags.DEFINE_bool(
            "together", None,
            "Train datasets of one domain and shape in one job; by default where one "
            "job runs at a time.",
        )  # fmt: skip
        flags.DEFINE_string("runs_dir", "runs/benchmark", "The run store.")
        cli.define_data_dir()
        cli.define_host_devices()
    with cli.section("Results"):
        flags.DEFINE_string(
            "export", "docs/leaderboard/exports", "Exported runs: read, and written."
        )
        flags.DEFINE_bool(
            "parameters", False,
            "Export the final parameters of what acts as well: parameters.npz.",
        )  # fmt: skip
        flags.DEFINE_enum(
            "format", "terminal", FORMATS,
            "How `table` is written; `compare`: terminal or markdown.",
        )  # fmt: skip
        flags.DEFINE_string("out", None, "File for `table`, `page` or `compare`.")
        flags.DEFINE_string(
            "into", None,
            "Markdown file in which `table` replaces what stands between `<!-- board "
            "-->` and `<!-- /board -->`.",
        )  # fmt: skip
        flags.DEFINE_string("a", None, "First method of `compare`.")
        flags.DEFINE_string("b", None, "Second method of `compare`.")


def suite() -> Suite:
    """The part of the benchmark that the flags name."""
    from offjax.sweeps import benchmark

    whole = benchmark.read(FLAGS.file or benchmark.DEFAULT)
    return whole.only(FLAGS.domains, FLAGS.datasets, FLAGS.methods)


def run() -> None:
    """Trains what is missing until it is done, or time is over; then exports."""
    import jax

    # The planner computes nothing: accelerators are left to the jobs.
    jax.config.update("jax_platforms", "cpu")
    from offjax.runner import interrupts
    from offjax.sweeps import benchmark
    from offjax.sweeps.engine import Place, cores_each

    interrupts.listen()
    over = threading.Event()
    if FLAGS.hours is not None:
        timer = threading.Timer(3600 * FLAGS.hours, _stop, [over])
        timer.daemon = True
        timer.start()
    of = suite()
    devices = FLAGS.host_devices or cores_each(FLAGS.max_parallel)
    place = Place(str(Path(FLAGS.runs_dir).resolve()), of.name, FLAGS.data_dir, devices)
    together = FLAGS.max_parallel == 1 if FLAGS.together is None else FLAGS.together
    failed = benchmark.fill(
        of, place, FLAGS.max_parallel, [FLAGS.export], print, export, together=together
    )
    benchmark.require_none(failed, place)
    if interrupts.requested():
        print(f"stopped; `{cli.again()}` goes on where it was")
        if not over.is_set():
            raise interrupts.Interrupted


def _stop(over: threading.Event) -> None:
    """Ends the training as SIGTERM does, since its time is over."""
    from offjax.runner import interrupts

    over.set()
    interrupts.request()


def export() -> None:
    """Writes compact copies of the finished runs."""
    from offjax.leaderboard import export as exports
    from offjax.leaderboard import store

    if not any(store.find(Path(FLAGS.runs_dir))):
        return
    found = [run for run in store.read([FLAGS.runs_dir]).runs if run.finished]
    add = None
    if FLAGS.parameters:
        from offjax.cli import proofs

        add = proofs.writer(0, FLAGS.data_dir, again=False)
    written, notes = exports.write(found, Path(FLAGS.export), add)
    for note in notes:
        print(note, flush=True)
    print(f"{len(written)} runs in {FLAGS.export}", flush=True)


def status() -> None:
    """Prints what is finished, running and missing, dataset by dataset."""
    from offjax.sweeps import benchmark

    of, done, total = suite(), 0, 0
    exported = _exported()
    for domain, name in of.columns():
        found = benchmark.column(
            of, domain, name, [FLAGS.runs_dir, FLAGS.export], FLAGS.data_dir
        )
        finished = sum(cell.finished for cell in found)
        rest = _rest(found)
        if not found:  # which hash its runs have is known once its data are
            finished = sum((name, method) in exported for method in domain.methods)
            rest = f"  {'exported; ' if finished else ''}not collected here"
        done, total = done + finished, total + len(domain.methods)
        print(f"{name:36s} {finished:3d}/{len(domain.methods)}{rest}")
    print(f"{of.name} version {of.version}: {done} of {total} finished")


def _exported() -> set[tuple[str, str]]:
    """(dataset, method) of the finished runs in --export."""
    from offjax.leaderboard import store

    if not any(store.find(Path(FLAGS.export))):
        return set()
    runs = store.read([FLAGS.export]).runs
    return {(run.dataset, run.method) for run in runs if run.finished}


def _rest(found: list[Cell]) -> str:
    """What is left of a column, in words."""
    rest = [cell for cell in found if not cell.finished]
    words = ", ".join(
        cell.job.method
        if cell.progress.status == "waiting"
        else f"{cell.job.method} ({cell.progress.status}, "
        f"{cell.progress.step:,}/{cell.progress.total:,})"
        for cell in rest
    )
    return f"  left: {words}" if rest else ""


def _results() -> tuple[Store, dict[str, Any]]:
    """The exported runs, and the options of a board of the benchmark's part of them.

    Raises:
      UserError: there are none.
    """
    from offjax.leaderboard import store

    if not any(store.find(Path(FLAGS.export))):
        raise UserError(
            f"--export={FLAGS.export} holds no runs: fill the benchmark first, with "
            "`offjax benchmark run`."
        )
    found, planned = store.read([FLAGS.export]), suite().planned()
    there = [r for r in found.runs if (r.dataset, r.method) in planned]
    if not there:
        raise UserError(
            f"--export={FLAGS.export} holds no run of this part of the benchmark; "
            "`offjax benchmark status` says what is finished."
        )
    return found, {
        "methods": sorted({run.method for run in there}),
        "datasets": sorted({run.dataset for run in there}),
    }


def _board() -> Board:
    from offjax.leaderboard import board

    found, chosen = _results()
    return board.build(found, **chosen)


def table() -> None:
    """Prints the matrix, or writes it to --out or into --into."""
    from offjax.leaderboard import matrix, matrix_tables

    if FLAGS.into and (FLAGS.out or FLAGS.format not in ("terminal", "markdown")):
        raise UserError("--into takes markdown, and no --out; leave the other out.")
    made = matrix.build(_board(), suite().planned())
    if FLAGS.into:
        _replace(Path(FLAGS.into), matrix_tables.markdown(made))
    elif FLAGS.format == "terminal" and FLAGS.out is None:
        from rich.console import Console

        matrix_tables.write_terminal(made, Console())
    else:
        _write({
            "terminal": lambda m: "\n".join(matrix_tables.plain_lines(m)) + "\n",
            "markdown": matrix_tables.markdown,
            "csv": matrix_tables.csv_text,
            "latex": matrix_tables.latex,
        }[FLAGS.format](made))  # fmt: skip


def _write(text: str) -> None:
    """Prints a text, or writes it to --out."""
    from offjax.leaderboard import page

    if FLAGS.out is None:
        print(text, end="")
        return
    page.write(Path(FLAGS.out), text)
    print(FLAGS.out)


def _replace(path: Path, text: str) -> None:
    """Puts a text between the two marks of a file.

    Raises:
      UserError: the file cannot be read, or does not have each mark once, in order.
    """
    from offjax.leaderboard import page

    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"--into={path} cannot be read ({error}).") from error
    before, _, rest = old.partition(MARKS[0])
    between, _, after = rest.partition(MARKS[1])
    if [old.count(mark) for mark in MARKS] != [1, 1] or MARKS[1] in before:
        raise UserError(
            f"--into={path} needs a line {MARKS[0]} and, below it, a line {MARKS[1]}; "
            "add them where the table should stand."
        )
    if between.strip() != text.strip():
        page.write(path, f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}")
    print(path)


def write_page() -> None:
    """Writes the page of the exported runs, and a picture of its matrix."""
    from offjax.leaderboard import matrix, page, reported, screenshot

    found, chosen = _results()
    planned = suite().planned()
    text = page.render(found, reported.load(), planned=planned, **chosen)
    path = Path(FLAGS.out or Path(FLAGS.export).parent / "leaderboard.html")
    page.write(path, text)
    print(path)
    if screenshot.find_browser() is None:
        print("no picture of it: Chromium is not installed", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "matrix.html"
        page.write(alone, page.picture(matrix.build(_board(), planned)))
        screenshot.take_whole(alone, path.with_suffix(".png"))
    print(path.with_suffix(".png"))


def compare() -> None:
    """Prints how two methods differ, or writes it to --out."""
    from offjax.leaderboard import compare as comparison

    missing = [f"--{name}" for name in ("a", "b") if FLAGS[name].value is None]
    if missing:
        raise UserError(
            f"compare needs {' and '.join(missing)}: "
            "`offjax benchmark compare --a=td3_bc --b=bc`."
        )
    if FLAGS.format not in ("terminal", "markdown"):
        raise UserError(
            f"compare writes terminal or markdown, not --format={FLAGS.format}."
        )
    board = _board()
    a, b = (
        comparison.column(board, FLAGS.a, "a"),
        comparison.column(board, FLAGS.b, "b"),
    )
    plain = FLAGS.format == "terminal"
    _write((comparison.plain if plain else comparison.markdown)(board, a, b))


def main(argv: list[str]) -> None:
    """Does what --action says."""
    del argv
    if FLAGS.action is None:
        raise UserError(
            f"say what to do, one of {', '.join(ACTIONS)}: `offjax benchmark status`."
        )
    for name in UNUSED[FLAGS.action]:
        if FLAGS[name].present:
            raise UserError(f"{FLAGS.action} does not use --{name}; leave that out.")
    actions = (run, status, table, write_page, compare)
    dict(zip(ACTIONS, actions, strict=True))[FLAGS.action]()
