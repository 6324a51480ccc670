"""Fills and shows the project's own benchmark: one protocol, one board.

    offjax benchmark run [--hours=2] [--domains=maze2d] [--methods=iql,td3_bc]
    offjax benchmark status
    offjax benchmark table [--format=markdown]
    offjax benchmark page

`run` trains what is missing, dataset by dataset. It can be stopped and started again at
any moment. Its finished runs are exported to --export, from which `table` and `page`
are made. Exports of several machines merge by being copied into one folder.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

if TYPE_CHECKING:
    from offjax.sweeps.benchmark import Cell, Suite

FLAGS = flags.FLAGS
POSITIONAL = "action"
ACTIONS = ("run", "status", "table", "page")
FORMATS = ("terminal", "markdown", "csv", "latex")


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
        flags.DEFINE_string("runs_dir", "runs/benchmark", "The run store.")
        cli.define_data_dir()
        cli.define_host_devices()
    with cli.section("Results"):
        flags.DEFINE_string(
            "export", "docs/leaderboard/runs", "Exported runs: read, and written."
        )
        flags.DEFINE_enum("format", "terminal", FORMATS, "How `table` is written.")
        flags.DEFINE_string("out", None, "File for `table` or `page`.")


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
    from offjax.sweeps.engine import Place

    interrupts.listen()
    if FLAGS.hours is not None:
        timer = threading.Timer(3600 * FLAGS.hours, interrupts.request)
        timer.daemon = True
        timer.start()
    of = suite()
    place = Place(
        str(Path(FLAGS.runs_dir).resolve()), of.name, FLAGS.data_dir, FLAGS.host_devices
    )
    failed = benchmark.fill(
        of, place, FLAGS.max_parallel, [FLAGS.export], print, after=export
    )
    if failed:
        raise UserError(
            f"{len(failed)} runs failed: "
            + ", ".join(job.label for job in failed)
            + f". Their logs are in {place.folder / 'logs'}."
        )


def export() -> None:
    """Writes compact copies of the finished runs."""
    from offjax.leaderboard import export as exports
    from offjax.leaderboard import store

    if not any(store.find(Path(FLAGS.runs_dir))):
        return
    found = [run for run in store.read([FLAGS.runs_dir]).runs if run.finished]
    written, _ = exports.write(found, Path(FLAGS.export))
    print(f"{len(written)} runs in {FLAGS.export}", flush=True)


def status() -> None:
    """Prints what is finished, running and missing, dataset by dataset."""
    from offjax.sweeps import benchmark

    of, done, total = suite(), 0, 0
    for domain, name in of.columns():
        found = benchmark.column(
            of, domain, name, [FLAGS.runs_dir, FLAGS.export], FLAGS.data_dir
        )
        finished = sum(cell.finished for cell in found)
        done, total = done + finished, total + len(domain.methods)
        print(f"{name:36s} {finished:3d}/{len(domain.methods)}{_rest(found)}")
    print(f"{of.name} version {of.version}: {done} of {total} finished")


def _rest(found: list[Cell]) -> str:
    """What is left of a column, in words."""
    if not found:
        return "  not collected"
    rest = [cell for cell in found if not cell.finished]
    words = ", ".join(
        cell.job.method
        if cell.progress.status == "waiting"
        else f"{cell.job.method} ({cell.progress.status}, "
        f"{cell.progress.step:,}/{cell.progress.total:,})"
        for cell in rest
    )
    return f"  left: {words}" if rest else ""


def _selection() -> dict[str, Any]:
    of = suite()
    return {
        "methods": sorted({method for d in of.domains for method in d.methods}),
        "datasets": [name for _, name in of.columns()],
    }


def table() -> None:
    """Prints the board, or writes it to --out."""
    from offjax.cli.leaderboard import write
    from offjax.leaderboard import board, store

    write(board.build(store.read([FLAGS.export]), **_selection()))


def write_page() -> None:
    """Writes the page of the exported runs."""
    from offjax.leaderboard import page, reported, store

    text = page.render(store.read([FLAGS.export]), reported.load(), **_selection())
    path = Path(FLAGS.out or Path(FLAGS.export).parent / "leaderboard.html")
    page.write(path, text)
    print(path)


def main(argv: list[str]) -> None:
    """Does what --action says."""
    del argv
    if FLAGS.action is None:
        raise UserError(
            f"say what to do, one of {', '.join(ACTIONS)}: `offjax benchmark status`."
        )
    dict(zip(ACTIONS, (run, status, table, write_page), strict=True))[FLAGS.action]()
