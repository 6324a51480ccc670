"""Chunks of updates: when they end, how they are dispatched, and traces of one."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offjax.devices.layout import Layout, Program
from offjax.errors import UserError
from offjax.runner.options import Options
from offjax.runner.programs import CARRIED
from offjax.types import Pytree


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

    def __init__(
        self, seconds: float, first: int = 32, limit: float = math.inf
    ) -> None:
        """The first chunk has `first` updates, later ones take about `seconds`.

        None has more than `limit`.
        """
        self._seconds, self._limit = seconds, limit
        self._most = min(first, limit)

    def note(self, updates: int, seconds: float) -> None:
        """Takes a chunk that was timed."""
        rate = updates / max(seconds, 1e-6)
        # Short chunks are timed badly: no more than tenfold at once.
        wanted = min(int(rate * self._seconds), 10 * updates, self._limit)
        self._most = max(1, wanted)

    def stop(self, step: int, due: int) -> int:
        """Where the chunk from `step` ends: at `due`, or before."""
        return int(min(due, step + self._most))


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Updates of all slots that have been dispatched."""

    updates: int  # of each slot
    end: int  # the stage's step after them
    window: int  # updates since the last end of a window, these included
    closing: bool  # whether it ends a window, over which metrics are averaged
    carried: dict[str, Pytree]  # `programs.CARRIED` on the devices, as they will be
    was_alive: np.ndarray  # [slots] before
    metrics: Pytree  # means over the window so far, on the devices
    compiled: bool  # whether the program was compiled for it
    _seconds: Future[float]

    def wait(self) -> float:
        """Returns when it is done: the seconds that it took, compiling excluded."""
        return self._seconds.result()


def dispatch(
    program: Program,
    layout: Layout,
    slots: dict[str, Pytree],
    shared: dict[str, Pytree],
    step: int,
    end: int,
    window: int,
    closing: bool,
) -> Chunk:
    """Begins the updates `step` … `end` − 1, and does not wait for them.

    What will be carried takes its place in `slots`. The chunk before must be done, and
    what is still wanted of its states gathered: their memory may be reused.
    """
    was_alive = layout.gather(slots["alive"])
    counts = {
        "num_updates": np.int32(end - step),
        "window_updates": np.int32(window),
        "closing": np.bool_(closing),
    }
    arguments = shared | layout.replicate(counts)
    compiled = program.compile_seconds
    begin = time.perf_counter()
    *values, metrics = program(slots, arguments)
    compiled = program.compile_seconds - compiled
    carried = dict(zip(CARRIED, values, strict=True))
    slots.update(carried)

    def watch() -> float:
        jax.block_until_ready(carried["state"])
        return time.perf_counter() - begin - compiled

    watcher = ThreadPoolExecutor(1)
    seconds = watcher.submit(watch)
    watcher.shutdown(wait=False)
    return Chunk(
        end - step, end, window, closing, carried, was_alive, metrics, compiled > 0,
        seconds,
    )  # fmt: skip


Begin = Callable[..., Chunk]


def profiled(begin: Begin, num_steps: int, folder: str) -> Begin:
    """`begin`, with a trace of the second chunk: the first one compiles.

    Args:
      begin: `(step, end, …)` → the chunk that updates from `step` to `end`.
      num_steps: of the stage; where the first chunk is all there is, it is traced.
      folder: where the trace goes; empty: no trace, and `begin` as it is.

    Raises:
      UserError: a folder that cannot be written.
    """
    if not folder:
        return begin
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--profile={folder} cannot be written ({error}): name another folder."
        ) from error
    chunks = itertools.count(1)

    def traced(step: int, end: int, *more: Any) -> Chunk:
        number = next(chunks)
        if number != 2 and not (number == 1 and end == num_steps):
            return begin(step, end, *more)
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            chunk = begin(step, end, *more)
            chunk.wait()
        traces = sorted(Path(folder).rglob("perfetto_trace.json.gz"))
        print(f"profile of {chunk.updates:,} updates: {traces[-1]} (ui.perfetto.dev)")
        return chunk

    return traced
