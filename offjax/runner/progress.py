"""What a run tells while it goes on: rate, ETA, and the range over the seeds."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

import numpy as np

SILENCE = 10.0
"""Seconds after which a run off a terminal says that it goes on."""


class Progress:
    """One line a report: rewritten in place on a terminal, appended elsewhere."""

    def __init__(self, label: str, total_steps: int, quiet: bool = False) -> None:
        self._label, self._total, self._quiet = label, total_steps, quiet
        self._terminal = sys.stdout.isatty()
        self._seconds, self._steps, self._slots = 0.0, 0, 1
        self._score = ""
        self._said = time.monotonic()

    def say(self, text: str) -> None:
        """A line of its own."""
        if not self._quiet:
            begin = "\r\x1b[2K" if self._terminal else ""  # in place of a report
            print(f"{begin}{self._label}  {text}", flush=True)

    def chunk(
        self, stage: str, step: int, updates: int, slots: int, seconds: float,
        metrics: Mapping[str, np.ndarray], due: bool = True,
    ) -> None:  # fmt: skip
        """Reports a chunk that ended at total step `step`.

        Off a terminal a chunk that is not `due` is told of only where nothing has been
        said for `SILENCE` seconds.
        """
        self._seconds += seconds
        self._steps += updates
        self._slots = slots
        now = time.monotonic()
        if not due and not self._terminal and now - self._said < SILENCE:
            return
        rate = self._steps / max(self._seconds, 1e-9)
        left = (self._total - step) / rate
        name, values = next(
            ((n, v) for n, v in metrics.items() if "loss" in n), ("", None)
        )
        shown = f"  {name} {_range(values)}" if values is not None else ""
        self._line(
            f"{stage} {step:,}/{self._total:,}  {rate * slots:,.0f} seed-steps/s  "
            f"ETA {_clock(left)}{shown}{self._score}"
        )

    def scores(self, scores: np.ndarray, step: int) -> None:
        """Reports the scores [seeds] of an evaluation."""
        self._score = f"  score {_range(scores)}"
        self._line(f"evaluated at {step:,}:{self._score}")

    def _line(self, text: str) -> None:
        self._said = time.monotonic()
        if self._quiet:
            return
        if self._terminal:
            print(f"\r\x1b[2K{self._label}  {text}", end="", flush=True)
        else:
            print(f"{self._label}  {text}", flush=True)

    def close(self) -> None:
        """Ends the line."""
        if self._terminal and not self._quiet:
            print(flush=True)


def _range(values: np.ndarray) -> str:
    values = np.asarray(values, float).reshape(-1)
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{values.mean():.3g} [{values.min():.3g}, {values.max():.3g}]"


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(max(0.0, seconds)))
