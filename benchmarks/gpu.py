"""What an accelerator makes of training: one report, in less than eight minutes.

    python -m benchmarks.gpu [--json=gpu.json] [--minutes=8] [--fresh]
        [--sections=training,column,…] [--algorithms=td3_bc,lcd:planner,…]
        [--projects=jax_corl:PATH,unifloral:PATH] [--torch_python=/path/to/python]

Each measurement is a process of its own. Several prepare and compile at once; then each
has the device to itself while it is timed. A finished measurement is written to --json
at once, and a second call goes on with what is missing. What does not fit --minutes is
named as left out. Preset paper's sizes, random rows of HalfCheetah's shape. Sections:

    training    seed-steps per second of every stage at 1, 16, 64 and 256 seeds, their
                share of the card's peak (a product of 8192³, on CPUs of 256³, timed in
                the same turn), and the seconds of compiling
    column      nine datasets × 10 seeds of TD3+BC in one program, and in turn
    resume      runs that are interrupted and resumed: whether the states are equal
    evaluation  a run evaluated before the next chunk, and beside it
    peers       --projects' own files and PyTorch, as one process and as several
    flags       XLA's flags for repeatable results: whether they are, and their price
    memory      the estimate before a run beside the device's count
    precision   products in float32, TF32 and bfloat16

Without an accelerator it measures the CPU's cores as devices. --tiny has sizes with
which the script can be tried; its numbers mean nothing.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import gpu_jobs, gpu_tables, processes
from benchmarks.gpu_jobs import Job, Step
from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS
LEAST = 5.0
"""Seconds that must be left for a measurement to begin: a process starts so long."""
SAME = ("device", "devices", "versions", "commit")
"""What results of one file have in common, of `harness.machine`."""
Result = dict[str, Any]


class Report:
    """The results' file: section → name → result, and what is missing."""

    def __init__(self, path: str, fresh: bool, machine: Result, tiny: bool) -> None:
        """Goes on with a file that is there, unless a fresh one is wanted.

        Raises:
          UserError: the file is of another machine, commit or size, or is none of ours.
        """
        self.path = path
        self.content: Result = {"machine": machine, "tiny": tiny}
        if Path(path).exists() and not fresh:
            self.content = _read(path, self.content)
        self.content["left out"], self.content["failed"] = [], {}

    def has(self, job: Job) -> bool:
        """Whether a job was done before."""
        return job.name in self.content.get(job.section, {})

    def add(self, job: Job, outcome: Result | UserError) -> None:
        """Takes a result, or why there is none, and writes the file."""
        from benchmarks.harness import write

        if isinstance(outcome, processes.LateError):
            self.content["left out"].append(job.title)
            said = "left out, no time is left"
        elif isinstance(outcome, UserError):
            self.content["failed"][job.title] = str(outcome)
            said = f"failed: {outcome}"
        else:
            self.content.setdefault(job.section, {})[job.name] = outcome
            said = "measured"
        print(f"{job.title}: {said}", flush=True)
        write(self.path, self.content)


def _read(path: str, like: Result) -> Result:
    """A file's results; `UserError` where new ones cannot stand beside them."""
    remedy = "Use --fresh to begin anew, or another --json."
    try:
        found = json.loads(Path(path).read_text())
        then = {name: found["machine"][name] for name in SAME} | {"tiny": found["tiny"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--json={path} is no report of this script. {remedy}"
        ) from error
    now = {name: like["machine"][name] for name in SAME} | {"tiny": like["tiny"]}
    for name, value in then.items():
        if value != now[name]:
            raise UserError(
                f"--json={path} was measured with {name} {value}, now it is "
                f"{now[name]}. {remedy}"
            )
    return found


def batches(jobs: Sequence[Job], workers: int) -> Iterator[list[Job]]:
    """Jobs that prepare together, in their order: of so many processes, or one job."""
    batch: list[Job] = []
    for job in jobs:
        count = sum(len(each.steps) for each in [*batch, job])
        if batch and (job.alone != batch[-1].alone or count > workers):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def _start(step: Step, folder: str, seconds: float) -> processes.Process:
    command = [sys.executable, "-m", "benchmarks.gpu_worker", json.dumps(step.work)]
    variables = {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {step.flag}".strip(),
        "JAX_COMPILATION_CACHE_DIR": f"{folder}/programs",  # nothing compiled before
        "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",  # of which little is taken at first
    }
    return processes.Process(command, variables, seconds=seconds)


def measured(
    batch: Sequence[Job], folder: str, end: float
) -> Iterator[tuple[Job, Result | UserError]]:
    """Each job with its result, or why it has none; `end` by `time.monotonic`."""
    left = end - time.monotonic()
    if left < LEAST:
        yield from ((job, processes.LateError("no time is left")) for job in batch)
        return
    started = [[_start(step, folder, left) for step in job.steps] for job in batch]
    try:
        for process in (each for mine in started for each in mine):
            process.ready()
        for job, mine in zip(batch, started, strict=True):
            try:
                yield job, _outcome(job, mine, end)
            except UserError as error:
                yield job, error
    finally:
        for process in (each for mine in started for each in mine):
            process.close()


def _outcome(job: Job, mine: Sequence[processes.Process], end: float) -> Result:
    if job.peer:
        sharing, updates = FLAGS.peer_processes, _sizes().peer_updates
        left = (end - time.monotonic()) / 2  # for each of two arrangements
        return {**processes.rates(list(job.peer), updates, sharing, left)}
    found = []
    for process in mine:
        process.begin()
        found.append(json.loads(process.output().splitlines()[-1]))
    return job.join(found)


def _sizes() -> gpu_jobs.Sizes:
    return gpu_jobs.TINY if FLAGS.tiny else gpu_jobs.Sizes()


def _peers() -> dict[str, dict[str, list[str]]]:
    """Algorithm → name → command of a peer."""
    updates, given = _sizes().peer_updates, (FLAGS.torch_python, FLAGS.projects)
    return {
        algorithm: processes.peers(algorithm, updates, *given)
        for algorithm in processes.IN_PYTORCH
    }


def main(argv: list[str]) -> None:
    """Measures what is missing, for as long as there is time."""
    del argv
    end = time.monotonic() + 60 * FLAGS.minutes
    stages = gpu_jobs.stages_of(FLAGS.algorithms)
    with tempfile.TemporaryDirectory() as folder:
        jobs = gpu_jobs.plan(FLAGS.sections, stages, _sizes(), folder, _peers())
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        from benchmarks.harness import opening
        from offjax.devices.layout import prepare_host_devices

        given = os.environ.get("XLA_FLAGS", "")
        prepare_host_devices(None)
        report = Report(FLAGS.json, FLAGS.fresh, opening(), FLAGS.tiny)
        os.environ["XLA_FLAGS"] = given  # the processes choose for themselves
        missing = [job for job in jobs if not report.has(job)]
        if len(missing) < len(jobs):
            print(f"{len(jobs) - len(missing)} of {len(jobs)} are in {FLAGS.json}")
        workers = FLAGS.workers or max(1, len(processes.available_cores()) // 2)
        for batch in batches(missing, workers):
            for job, outcome in measured(batch, folder, end):
                report.add(job, outcome)
    print(gpu_tables.text(report.content))


if __name__ == "__main__":
    flags.DEFINE_list("sections", [*gpu_jobs.SECTIONS], "What to measure.")
    flags.DEFINE_list("algorithms", [*gpu_jobs.STAGES], "METHOD:STAGE of training.")
    flags.DEFINE_float("minutes", 8.0, "Time for all of it.", 0.0)
    flags.DEFINE_string("json", "gpu.json", "File for the results.")
    flags.DEFINE_bool("fresh", False, "Begin anew, whatever the file has.")
    flags.DEFINE_bool("tiny", False, "Sizes with which the script can be tried.")
    flags.DEFINE_integer("workers", 0, "Processes that compile; 0: half the cores.", 0)
    flags.DEFINE_list("projects", [], "Public projects' checkouts: NAME:FOLDER.")
    flags.DEFINE_string("torch_python", None, "Interpreter that has torch.")
    flags.DEFINE_integer("peer_processes", 4, "Of a peer, on one accelerator.", 1)
    cli.run(main)
