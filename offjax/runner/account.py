"""What a run costs, over all its interruptions."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Mapping
from typing import Any

from offjax.devices.program import Program


@dataclasses.dataclass
class Account:
    """Seconds and steps of a run."""

    start: str  # when the run first began
    earlier_seconds: float = 0.0  # spent before the newest interruption
    begun: float = dataclasses.field(default_factory=time.perf_counter)
    training_seconds: float = 0.0  # of chunks, without compiling
    compile_seconds: float = 0.0  # of training's programs
    seed_steps: int = 0  # updates of all slots
    compilations: dict[str, int] = dataclasses.field(default_factory=dict)  # by program

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
