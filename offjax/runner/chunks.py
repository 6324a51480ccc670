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
from offjax.types import Pytree


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Updates of all slots that have been dispatched.

    Attributes:
      updates: number of updates of each slot.
      end: the stage's step after them.
      states: on the devices, as they will be.
      alive: [slots] on the devices, likewise.
      was_alive: NumPy [slots] before.
      metrics: their means, on the devices.
      compiled: whether the program was compiled for it.
    """

    updates: int
    end: int
    states: Pytree
    alive: Pytree
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
) -> Chunk:
    """Begins the updates `step` … `end` − 1, and does not wait for them.

    What will be the states takes their place in `slots`. The chunk before must be
    done, and what is still wanted of its states gathered: their memory may be reused.
    """
    was_alive = layout.gather(slots["alive"])
    updates = layout.replicate({"num_updates": np.int32(end - step)})
    compiled = program.compile_seconds
    arguments: dict[str, Any] = {**shared, **updates}
    begin = time.perf_counter()
    states, alive, metrics = program(slots, arguments)
    compiled = program.compile_seconds - compiled
    slots["state"], slots["alive"] = states, alive

    def watch() -> float:
        jax.block_until_ready(states)
        return time.perf_counter() - begin - compiled

    watcher = ThreadPoolExecutor(1)
    seconds = watcher.submit(watch)
    watcher.shutdown(wait=False)
    return Chunk(
        end - step, end, states, alive, was_alive, metrics, compiled > 0, seconds
    )
