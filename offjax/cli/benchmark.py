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
TRAINING = ("hours", "max_parallel", "host_devices")
UNUSED = {
    "run": ("format", "out"),
    "status": (*TRAINING, "parameters", "format", "out"),
    "table": (*TRAINING, "parameters", "runs_dir", "data_dir"),
    "page": (*TRAINING, "parameters", "runs_dir", "data_dir", "format"),
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
    failed = benchmark.fill(
        of, place, FLAGS.max_parallel, [FLAGS.export], print, after=export
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


def _require_exports() -> None:
    """Raises `UserError` where nothing was exported yet."""
    from offjax.leaderboard import store

    if not any(store.find(Path(FLAGS.export))):
        raise UserError(
            f"--export={FLAGS.export} holds no runs: fill the benchmark first, with "
            "`offjax benchmark run`."
        )


def table() -> None:
    """Prints the board, or writes it to --out."""
    _require_exports()
    from offjax.cli.leaderboard import write
    from offjax.leaderboard import board, store

    write(board.build(store.read([FLAGS.export]), **_selection()))


def write_page() -> None:
    """Writes the page of the exported runs."""
    _require_exports()
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
    for name in UNUSED[FLAGS.action]:
        if FLAGS[name].present:
            raise UserError(f"{FLAGS.action} does not use --{name}; leave that out.")
    dict(zip(ACTIONS, (run, status, table, write_page), strict=True))[FLAGS.action]()
