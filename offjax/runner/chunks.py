"""A chunk of training on its way on the devices, whatever the host does meanwhile."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from offjax.devices.layout import Layout
from offjax.devices.program import Program
from offjax.runner.programs import CARRIED
from offjax.types import Pytree


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Updates of all slots that have been dispatched.

    Attributes:
      updates: number of updates of each slot.
      end: the stage's step after them.
      window: updates since the last end of a window, these included.
      closing: whether it ends a window, over which metrics are averaged.
      carried: `programs.CARRIED` on the devices, as they will be.
      was_alive: NumPy [slots] before.
      metrics: their means over the window so far, on the devices.
      compiled: whether the program was compiled for it.
    """

    updates: int
    end: int
    window: int
    closing: bool
    carried: dict[str, Pytree]
    was_alive: np.ndarray
    metrics: Pytree
    compiled: bool
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
    arguments: dict[str, Any] = {
        **shared,
        **layout.replicate(
            {
                "num_updates": np.int32(end - step),
                "window_updates": np.int32(window),
                "closing": np.bool_(closing),
            }
        ),
    }
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
        end - step,
        end,
        window,
        closing,
        carried,
        was_alive,
        metrics,
        compiled > 0,
        seconds,
    )
