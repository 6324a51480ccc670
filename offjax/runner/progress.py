"""What a run tells while it goes on: how far each stage is, its rate, loss and score.

On a terminal a stage is one line, rewritten in place and never wider than the terminal.
Elsewhere a stage has a line when it begins, one when it ends, one for each evaluation,
and at most one a minute between.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from offjax import terminal

MINUTE = 60.0
"""Seconds between two lines of a stage off a terminal."""
BAR = 24
"""Columns of the bar at most; below `SHORTEST` it is omitted."""
SHORTEST = 8


class Progress:
    """The lines of one run.

    Args:
      seeds: seeds of the run, or of each of several that are trained together.
      quiet: print nothing.
      wave: goes before the names of stages.
      clock: seconds that have passed since some moment.
    """

    def __init__(
        self,
        seeds: int = 1,
        quiet: bool = False,
        wave: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seeds, self._quiet, self._clock = seeds, quiet, clock
        self.wave = wave
        self._datasets = 1
        self._live = terminal.is_terminal(sys.stdout)
        self._open = False  # a line is on the terminal without its end
        self._stage, self._first, self._total, self._slots = "", 0, 0, seeds
        self._step, self._updates, self._seconds = 0, 0, 0.0
        self._state = self._loss = self._score = ""
        self._said = clock()

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._quiet:
            return
        self._clear()
        print(text, flush=True)
        if self._stage:
            self._redraw()

    def begin(
        self,
        stage: str,
        first_step: int,
        num_steps: int,
        slots: int,
        done: int = 0,
        datasets: int = 1,
    ) -> None:
        """A stage begins; its program is compiled first.

        Args:
          stage: its name.
          first_step: total steps of the run before it.
          num_steps: its updates.
          slots: datasets × seeds × settings that are trained together.
          done: its updates that were done before an interruption.
          datasets: that are trained on together.
        """
        self.close()
        self._stage, self._first = self.wave + stage, first_step
        self._total, self._datasets = num_steps, datasets
        self._slots, self._step, self._updates, self._seconds = slots, done, 0, 0.0
        self._loss, self._state = "", "compiling"
        if self._live:
            self._redraw()
        else:
            left = (
                f"{num_steps - done:,} of {num_steps:,}" if done else f"{num_steps:,}"
            )
            self._print(f"{self._stage}: {left} updates{self._copies()}, compiling")

    def working(self, what: str) -> None:
        """Says what the run does in place of training, on a terminal."""
        self._state = what
        self._redraw()

    def chunk(
        self,
        step: int,
        updates: int,
        seconds: float,
        metrics: Mapping[str, np.ndarray],
    ) -> None:
        """Reports a chunk of updates.

        Args:
          step: total step of the run after it.
          updates: of each slot.
          seconds: that they took.
          metrics: name → values [slots]; the first loss among them is shown.
        """
        self._step, self._state = step - self._first, ""
        self._updates += updates
        self._seconds += seconds
        name = next((name for name in metrics if "loss" in name), None)
        if name is not None:
            self._loss = f"loss {_mean(metrics[name])}"
        due = self._clock() - self._said >= MINUTE
        if self._live:
            self._redraw()
        elif due or self._step == self._total:
            self._print(self._line())

    def scores(
        self, values: np.ndarray, step: int, name: str = "score", dataset: str = ""
    ) -> None:
        """Reports an evaluation.

        Args:
          values: scores or returns, [settings, seeds].
          step: total step of the run.
          name: of the values.
          dataset: is named where there are several.
        """
        of = f" on {dataset}" if self._datasets > 1 else ""
        self._score, self._state = f"{name} {_of_settings(values)}{of}", ""
        if self._live:
            self._redraw()
        else:
            self._print(f"evaluated at {step:,}: {self._score}")

    def close(self) -> None:
        """Ends the stage's line."""
        if self._open:
            print(flush=True)
        self._open, self._stage = False, ""

    # -- the line -----------------------------------------------------------

    def _print(self, text: str) -> None:
        self._said = self._clock()
        if not self._quiet:
            print(text, flush=True)

    def _clear(self) -> None:
        if self._open:
            print("\r\x1b[2K", end="")
        self._open = False

    def _redraw(self) -> None:
        if self._live and not self._quiet and self._stage:
            self._clear()
            print(self._fitted(terminal.columns() - 1), end="", flush=True)
            self._open = True

    def _copies(self) -> str:
        """` × 3 datasets × 5 seeds × 2 settings`, what there is one of left out."""
        counts = {
            "datasets": self._datasets,
            "seeds": self._seeds,
            "settings": self._slots // (self._seeds * self._datasets),
        }
        return "".join(f" × {n} {name}" for name, n in counts.items() if n > 1)

    def _parts(self, unit: str) -> list[str]:
        """The line from left to right; empty where nothing is known.

        Args:
          unit: of the rate of one slot.
        """
        rate = eta = ""
        if self._updates:
            each = self._updates / max(self._seconds, 1e-9)
            rate = (f"{each:,.0f}" if each >= 10 else f"{each:.2g}") + unit
            eta = f"ETA {_clock((self._total - self._step) / each)}"
        count = f"{self._step:,}/{self._total:,}"
        return [count, self._state, rate, eta, self._loss, self._score]

    def _line(self) -> str:
        """The line in full, for a file."""
        parts = self._parts(f" updates/s{self._copies()}")
        return "  ".join([self._stage, *filter(None, parts)])

    def _fitted(self, width: int) -> str:
        """The line in at most `width` columns: what matters least is omitted first."""
        parts = self._parts("/s")
        for i in (None, 4, 2, 0, 3, 5, 1):
            if i is not None:
                parts[i] = ""
            text = "  ".join(filter(None, parts))
            room = width - len(self._stage) - len(text) - 4
            if room >= 0:
                break
        bar = _bar(self._step / max(self._total, 1), min(BAR, room))
        return "  ".join(filter(None, [self._stage[:width], bar, text]))


def _bar(share: float, columns: int) -> str:
    """A bar of so many columns, or nothing where they are too few."""
    if columns < SHORTEST:
        return ""
    full = int(share * columns)
    done = terminal.styled("━" * full, "cyan", sys.stdout)
    return done + terminal.styled("─" * (columns - full), "dim", sys.stdout)


def _mean(values: np.ndarray) -> str:
    """Mean of what is finite: seeds that diverged do not count."""
    finite = _finite(values)
    return f"{finite.mean():.3g}" if len(finite) else "-"


def _of_settings(values: np.ndarray) -> str:
    """Mean over the seeds, or the range of the settings' means: [settings, seeds]."""
    means = [_finite(mine).mean() for mine in values if len(_finite(mine))]
    if len(means) < 2:
        return _mean(values)
    return f"{min(means):.3g} to {max(means):.3g} over {len(means)} settings"


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float).reshape(-1)
    return values[np.isfinite(values)]


def _clock(seconds: float) -> str:
    """`1:05`, or `2:01:05` from an hour on."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
