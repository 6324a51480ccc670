"""How jobs are carried out; what the local and the Ray engine have in common."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import offjax
from offjax.runner import interrupts
from offjax.runner.records import environment, write_json
from offjax.sweeps.plan import Job, Team

BAD_INPUT = 2
"""Exit code of a worker that another try would not help."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a sweep's jobs run and write."""

    runs_dir: str  # the run store; seen by all nodes
    sweep: str  # name of the sweep
    data_dir: str | None = None  # root of the datasets, None for the default
    host_devices: int | None = None  # CPU devices of each job, None for one per core
    retries: int = 2  # further tries of a job whose process died
    stall_seconds: float = 0.0  # kill and retry a job so long silent; 0 = never

    @property
    def folder(self) -> Path:
        """The sweep's own folder: its record, its job files and their logs."""
        return Path(self.runs_dir).resolve() / "sweeps" / self.sweep

    def log(self, job: Job) -> Path:
        """What the job's processes print."""
        return self.folder / "logs" / f"{job.hash[:16]}.log"


@dataclasses.dataclass
class Outcome:
    """What became of a job: running, finished, failed or interrupted."""

    status: str
    attempts: int = 0
    seconds: float = 0.0
    reason: str = ""


Report = Callable[[dict[str, Outcome]], None]
"""Told of every change, and about once a second: outcomes by the job's hash."""


def cores_each(max_parallel: int) -> int:
    """CPU devices of each of so many jobs side by side."""
    return max(1, len(os.sched_getaffinity(0)) // max_parallel)


def job_file(team: Team, place: Place) -> Path:
    """Writes the file that `offjax.sweeps.worker` reads.

    What the team's process prints is the log of its first job, and of all others.
    """
    path = place.folder / "jobs" / f"{team[0].hash[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    jobs = [job.to_json() for job in team]
    write_json(path, {"jobs": jobs, "place": dataclasses.asdict(place)})
    first = place.log(team[0])
    first.parent.mkdir(parents=True, exist_ok=True)
    for job in team[1:]:
        log = place.log(job)
        log.unlink(missing_ok=True)
        log.symlink_to(first.name)
    return path


def start(
    path: Path, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen:
    """Starts a worker on a job file; it dies with the process that started it.

    Ctrl-C does not reach it: whoever started it asks it to stop, once.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()  # the silence of an earlier attempt is not this one's
    # JAX warns of forks in a process with threads. This child only asks for a signal
    # before it becomes another program.
    with log.open("ab") as out, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
        return subprocess.Popen(
            [sys.executable, "-m", "offjax.sweeps.worker", str(path)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            preexec_fn=_die_with_parent,
            start_new_session=True,
        )


def wait(process: subprocess.Popen, log: Path, stall_seconds: float) -> int:
    """Exit code of a worker; one that falls silent is killed."""
    while True:
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if stalled(log, stall_seconds):
                process.kill()


def stalled(log: Path, stall_seconds: float) -> bool:
    """Whether a job has said nothing for `stall_seconds`."""
    try:
        silent = time.time() - log.stat().st_mtime
    except OSError:
        return False
    return bool(stall_seconds) and silent > stall_seconds


def judge(
    outcome: Outcome, code: int, job: Job, place: Place, seconds: float
) -> Outcome:
    """The outcome after a worker ended with `code`; status "waiting" = try again."""
    outcome = dataclasses.replace(outcome, seconds=outcome.seconds + seconds)
    if code == 0:
        return dataclasses.replace(outcome, status="finished", reason="")
    if code in interrupts.EXIT_CODES:
        reason = signal.Signals(code - 128).name
        return dataclasses.replace(outcome, status="interrupted", reason=reason)
    reason = last_line(place.log(job)) if code > 0 else f"killed by signal {-code}"
    again = code != BAD_INPUT and outcome.attempts <= place.retries
    status = "waiting" if again else "failed"
    return dataclasses.replace(outcome, status=status, reason=reason)


def judge_all(
    outcomes: dict[str, Outcome], code: int, team: Team, place: Place, seconds: float
) -> str:
    """Notes the outcomes of a team whose worker ended with `code`; their status.

    They share its seconds. Where one of several may be to blame, all are to be tried
    again, one by one.
    """
    for job in team:
        before = outcomes[job.hash]
        after = judge(before, code, job, place, seconds / len(team))
        if after.status == "failed" and len(team) > 1:
            after = dataclasses.replace(after, status="waiting")
        outcomes[job.hash] = after
    return after.status


def last_line(log: Path) -> str:
    """The last line of a log that is not empty."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def code_identity() -> dict[str, Any]:
    """Hash of the package's code, and versions; equal on all nodes of a sweep."""
    root = Path(offjax.__file__).parent
    code = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        code.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return {"code": code.hexdigest()[:16], "versions": environment()["versions"]}


def _die_with_parent() -> None:
    """So that a killed engine or node leaves no worker behind to write on."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
