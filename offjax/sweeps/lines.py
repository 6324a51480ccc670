"""What a sweep says while its jobs run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from offjax.sweeps.engine import Outcome, Place
from offjax.sweeps.plan import Job, progress

SECONDS = 30.0
"""Between two lines about a job that only goes on."""


class Lines:
    """A line for every change, and the running jobs' progress now and then."""

    def __init__(
        self, jobs: Sequence[Job], where: Place, say: Callable[[str], None]
    ) -> None:
        self._jobs, self._where, self._say = jobs, where, say
        self._seen: dict[str, tuple[str, int]] = {}
        self._begun = self._told = time.monotonic()

    def __call__(self, outcomes: Mapping[str, Outcome]) -> None:
        """Says what changed; an `engine.Report`."""
        for job in self._jobs:
            outcome = outcomes[job.hash]
            now = (outcome.status, outcome.attempts)
            if self._seen.get(job.hash, ("waiting", 0)) != now:
                self._seen[job.hash] = now
                more = f" ({outcome.reason})" if outcome.reason else ""
                self._tell(outcomes, f"{outcome.status:11s} {job.label}{more}")
        if time.monotonic() - self._told > SECONDS:
            self._told = time.monotonic()
            for job in self._jobs:
                if outcomes[job.hash].status == "running":
                    at = progress(job, Path(self._where.runs_dir))
                    self._tell(outcomes, f"{at.step:,}/{at.total:,}  {job.label}")

    def _tell(self, outcomes: Mapping[str, Outcome], text: str) -> None:
        done = sum(o.status == "finished" for o in outcomes.values())
        passed = time.monotonic() - self._begun
        eta = passed / done * (len(outcomes) - done) if done else float("nan")
        rest = "" if done in (0, len(outcomes)) else f", ETA {eta:.0f} s"
        self._say(f"[{done}/{len(outcomes)} done, {passed:.0f} s{rest}] {text}")
