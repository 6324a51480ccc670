"""When a stage's chunks end, and what is due there."""

from __future__ import annotations

import dataclasses

from offjax.runner.options import Options


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Steps of a stage at which the host has something to do."""

    num_steps: int  # of the stage; at the last one everything is due
    log_every: int  # updates between rows of metrics
    eval_every: int  # between evaluations; 0: none before the end
    save_every: int  # between checkpoints
    evaluated: bool  # whether the stage is evaluated: the last one of a run is

    @classmethod
    def of(cls, num_steps: int, options: Options, evaluated: bool) -> Schedule:
        """As the options say; where they are silent, twenty logs, ten checkpoints."""
        return cls(
            num_steps,
            options.log_every or -(-num_steps // 20),
            options.eval_every,
            options.checkpoint_every or -(-num_steps // 10),
            evaluated,
        )

    def next_stop(self, step: int) -> int:
        """The next step after `step` at which something is due: a window's end."""
        intervals = [self.log_every, self.save_every]
        if self.evaluated and self.eval_every:
            intervals.append(self.eval_every)
        return min(self.num_steps, *((step // n + 1) * n for n in intervals))

    def evaluates(self, step: int) -> bool:
        """Whether an evaluation is due."""
        return self.evaluated and self._due(step, self.eval_every)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due."""
        return self._due(step, self.save_every)

    def _due(self, step: int, every: int) -> bool:
        return step == self.num_steps or (every > 0 and step % every == 0)


class Pace:
    """How many updates fit a chunk of a few seconds, by those that were timed."""

    def __init__(self, seconds: float, first: int = 32) -> None:
        """The first chunk has `first` updates, later ones take about `seconds`."""
        self._seconds, self._most = seconds, first

    def note(self, updates: int, seconds: float) -> None:
        """Takes a chunk that was timed."""
        rate = updates / max(seconds, 1e-6)
        # Short chunks are timed badly: no more than tenfold at once.
        self._most = max(1, min(int(rate * self._seconds), 10 * updates))

    def stop(self, step: int, due: int) -> int:
        """Where the chunk from `step` ends: at `due`, or before."""
        return min(due, step + self._most)
