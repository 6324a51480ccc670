"""Simulators in plain processes, each with some of many places.

Processes are started as commands, not forked: the caller may hold threads (JAX's)
that a fork would not survive.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """Calls methods of simulators for places, in all processes at once.

    Place i is place i // W of process i % W, where W is the number of processes.

    Attributes:
      local: the simulator of all places, where this process simulates them; else None.
    """

    def __init__(
        self, simulator: str, arguments: Sequence[str], num_places: int, processes: int
    ) -> None:
        """Starts the processes.

        Args:
          simulator: "module:class"; made as `class(*arguments, places)`, and called as
            `method(place, value)`.
          arguments: strings that it is made with.
          num_places: in all.
          processes: W, at most `num_places` of them; 0 for none but this one.
        """
        count = min(processes, num_places)
        self.local = None if count else _made(simulator, arguments, num_places)
        self._workers = [
            _Worker(simulator, arguments, len(range(i, num_places, count)))
            for i in range(count)
        ]

    def call(self, method: str, indices: np.ndarray, values: Sequence[Any]) -> list:
        """The results of `method(place, value)` for places [n] with values [n]."""
        if self.local is not None:
            call = getattr(self.local, method)
            return [call(int(i), v) for i, v in zip(indices, values, strict=True)]
        count = len(self._workers)
        mine = [np.flatnonzero(indices % count == i) for i in range(count)]
        for worker, rows in zip(self._workers, mine, strict=True):
            if len(rows):
                places = (indices[rows] // count).tolist()
                worker.send((method, places, [values[row] for row in rows.tolist()]))
        results: list[Any] = [None] * len(indices)
        for worker, rows in zip(self._workers, mine, strict=True):
            if len(rows):
                for row, result in zip(rows, worker.receive(), strict=True):
                    results[row] = result
        return results

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.close()


def _made(simulator: str, arguments: Sequence[str], places: int) -> Any:
    module, name = simulator.split(":")
    return getattr(importlib.import_module(module), name)(*arguments, places)


class _Worker:
    def __init__(self, simulator: str, arguments: Sequence[str], places: int) -> None:
        self._pipe, theirs = Pipe()
        descriptor = theirs.fileno()
        command = [sys.executable, "-m", "offjax.envs.processes", str(descriptor)]
        self.process = subprocess.Popen(
            [*command, simulator, str(places), *arguments],
            pass_fds=[descriptor],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        theirs.close()

    def send(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._ended() from error

    def receive(self) -> list:
        try:
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def close(self) -> None:
        self._pipe.close()  # at which the process ends
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _ended(self) -> RuntimeError:
        return RuntimeError(
            "A process that simulates has ended, with exit code "
            f"{self.process.wait()}; its message stands above."
        )


def _serve(pipe: Connection, simulator: str, places: str, *arguments: str) -> None:
    made = _made(simulator, arguments, int(places))
    while True:
        try:
            method, indices, values = pipe.recv()
        except EOFError:
            return
        call = getattr(made, method)
        pipe.send([call(*pair) for pair in zip(indices, values, strict=True)])


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), *sys.argv[2:])
