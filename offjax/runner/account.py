"""Where a run is, what it costs, what became of its seeds: parts of run.json."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

from offjax.devices import hosts
from offjax.devices.layout import Layout
from offjax.devices.program import Program
from offjax.runner.settings import Job
from offjax.runner.stages import StageRun

CARD = ("id", "identity", "rows", "episodes")
"""What run.json has of a dataset's card."""


@dataclasses.dataclass
class Account:
    """Seconds and steps of a run, over all its interruptions.

    Attributes:
      start: when the run first began.
      earlier_seconds: spent before the newest interruption.
      begun: of this process' part, on `time.perf_counter`.
      training_seconds: of chunks, compiling apart.
      compile_seconds: of training's programs.
      seed_steps: updates of all slots.
      compilations: number by program.
    """

    start: str
    earlier_seconds: float = 0.0
    begun: float = dataclasses.field(default_factory=time.perf_counter)
    training_seconds: float = 0.0
    compile_seconds: float = 0.0
    seed_steps: int = 0
    compilations: dict[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def begin(cls, record: Mapping[str, Any]) -> Account:
        """Of a new run, or that goes on from the `record` of an interrupted one."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(record.get("start", now), record.get("duration_seconds", 0.0))

    def compiled(self, name: str, program: Program) -> None:
        """Adds a program that was compiled now."""
        count = self.compilations.get(name, 0) + program.compilations
        self.compilations[name] = count
        self.compile_seconds += program.compile_seconds

    def trained(self, updates: int, num_slots: int, seconds: float) -> None:
        """Adds a chunk."""
        self.training_seconds += seconds
        self.seed_steps += updates * num_slots

    def costs(self) -> dict[str, Any]:
        """Start, duration and rate."""
        duration = self.earlier_seconds + time.perf_counter() - self.begun
        rate = self.seed_steps / max(self.training_seconds, 1e-9)
        return {
            "start": self.start,
            "duration_seconds": round(duration, 3),
            "seed_steps_per_second": round(rate, 1),
        }


def place(layout: Layout) -> dict[str, Any]:
    """Hosts, devices and layout of the seeds."""
    return {
        "hosts": hosts.count(),
        "devices": {
            "platform": layout.devices[0].platform,
            "kind": layout.devices[0].device_kind,
            "count": layout.active,
        },
        "seed_layout": layout.kind,
    }


def diverged(job: Job, runs: Sequence[StageRun], num_seeds: int) -> list[dict]:
    """Seeds that were frozen, with their variant, stage and step."""
    found = []
    for run in runs:
        for slot, step in run.diverged:
            for variant, first in zip(job.variants, run.slots.of_setting, strict=True):
                if first <= slot < first + num_seeds:
                    seed = run.slots.seeds[slot]
                    where = {"stage": run.stage.name, "step": step}
                    found.append({"seed": seed, "variant": variant, **where})
    return found
