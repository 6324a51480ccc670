"""Chunks of updates that are dispatched, and traces of what a device does in one."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offjax.devices.layout import Layout
from offjax.devices.program import Program
from offjax.errors import UserError
from offjax.runner.programs import CARRIED
from offjax.types import Pytree


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
