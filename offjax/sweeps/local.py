"""Jobs as processes on this machine, one at a time or several side by side."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple

from offjax.errors import UserError
from offjax.runner import interrupts
from offjax.sweeps import engine, plan
from offjax.sweeps.engine import Outcome, Place, Report
from offjax.sweeps.plan import Job, Team


class _Running(NamedTuple):
    team: Team
    process: subprocess.Popen
    begun: float
    lane: int


def run(
    jobs: Sequence[Job],
    place: Place,
    report: Report,
    max_parallel: int = 1,
    gpus: Sequence[str] = (),
    together: bool = False,
) -> dict[str, Outcome]:
    """Runs all jobs; their outcomes by hash.

    Args:
      jobs: those that are not finished yet.
      place: where they write.
      report: told of changes.
      max_parallel: jobs side by side.
      gpus: ids of GPUs, one to each of the parallel jobs; empty: every job sees all.
      together: one process trains jobs that differ in nothing but the dataset, of equal
        shapes. If it fails, they are tried again one by one.

    Raises:
      UserError: no jobs side by side, or too few GPUs.
    """
    if max_parallel < 1:
        raise UserError(f"--max_parallel={max_parallel}: at least 1 is needed.")
    if gpus and len(gpus) < max_parallel:
        raise UserError(
            f"--max_parallel={max_parallel} jobs cannot have a GPU each of {len(gpus)}."
        )
    outcomes = {job.hash: Outcome("waiting") for job in jobs}
    waiting = plan.teams(jobs, together)
    running: list[_Running] = []
    told, stopped = 0.0, False
    try:
        while waiting or running:
            while waiting and len(running) < max_parallel:
                lane = _free_lane(running)
                env = None
                if gpus:
                    env = {**os.environ, "CUDA_VISIBLE_DEVICES": gpus[lane]}
                running.append(_begin(waiting.pop(0), place, lane, env, outcomes))
                told = 0.0
            for ended in [r for r in running if _has_ended(r, place)]:
                running.remove(ended)
                status = _judge(ended, place, outcomes)
                if status == "waiting" and not stopped:
                    waiting += [(job,) for job in ended.team]
                elif status == "interrupted":
                    waiting.clear()
                told = 0.0
            if time.monotonic() - told > 1.0:
                report(outcomes)
                told = time.monotonic()
            if interrupts.requested() and not stopped:  # a second one would not save
                _stop(running)
                waiting.clear()
                stopped = True
            time.sleep(0.05)
    except KeyboardInterrupt:
        _stop(running)
        for rest in running:
            rest.process.wait()
            _judge(rest, place, outcomes)
    report(outcomes)
    return outcomes


def _free_lane(running: Sequence[_Running]) -> int:
    taken = {r.lane for r in running}
    return next(i for i in range(len(running) + 1) if i not in taken)


def _begin(
    team: Team,
    place: Place,
    lane: int,
    env: dict[str, str] | None,
    outcomes: dict[str, Outcome],
) -> _Running:
    for job in team:
        outcome = outcomes[job.hash]
        outcome.status, outcome.attempts = "running", outcome.attempts + 1
    process = engine.start(engine.job_file(team, place), place.log(team[0]), env)
    return _Running(team, process, time.monotonic(), lane)


def _has_ended(running: _Running, place: Place) -> bool:
    if running.process.poll() is None and engine.stalled(
        place.log(running.team[0]), place.stall_seconds
    ):
        running.process.kill()
    return running.process.poll() is not None


def _judge(ended: _Running, place: Place, outcomes: dict[str, Outcome]) -> str:
    """Notes what became of the team's jobs; their status."""
    seconds, code = time.monotonic() - ended.begun, ended.process.returncode
    return engine.judge_all(outcomes, code, ended.team, place, seconds)


def _stop(running: Sequence[_Running]) -> None:
    """Asks the workers to save and exit."""
    for each in running:
        if each.process.poll() is None:
            each.process.terminate()
