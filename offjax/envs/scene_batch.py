"""Many places of a scene side by side, simulated by plain processes.

A process holds one model and the physics of its places. Processes are started as
commands, not forked: the caller may hold threads (JAX's) that a fork would not
survive.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

import numpy as np

from offjax.envs import scene_instructions as language
from offjax.envs.scene import (
    SceneState,
    Simulator,
    Snapshot,
    decode,
    get,
    is_available,
)
from offjax.errors import UserError

Start = int | Snapshot
"""A seed, or a recorded state."""


class SceneBatch:
    """Places of a scene in which instructions are carried out.

    Place i's course depends on its start and actions alone, not on what the other
    places do or how many there are.

    Attributes:
      num_envs: places.
      observation_dim: O.
      simulator: of all places, where this process simulates them; else None.
    """

    def __init__(self, name: str, num_envs: int, processes: int | None = None) -> None:
        """Starts the processes.

        Args:
          name: scene.
          num_envs: places.
          processes: how many simulate them; by default one per available core, 0 for
            none but the caller's.

        Raises:
          UserError: OGBench is not installed.
        """
        self.scene = get(name)
        problem = is_available()
        if problem is not None:
            raise UserError(f"Scene {name!r} cannot be simulated: {problem}.")
        self.num_envs = num_envs
        self.observation_dim = self.scene.observation_dim
        self._known = language.all_instructions(name)
        self._now = np.zeros((num_envs, self.observation_dim), np.float32)
        self._given = np.zeros_like(self._now)
        self._told = np.zeros(num_envs, object)
        if processes is None:
            processes = len(os.sched_getaffinity(0))
        count = min(processes, num_envs)
        self._workers = [
            _Worker(name, len(range(i, num_envs, count))) for i in range(count)
        ]
        self.simulator = None if count else Simulator(name, num_envs)

    def begin(self, indices: np.ndarray, starts: Sequence[Start]) -> np.ndarray:
        """Puts places [n] into starts [n]; observations [n, O] f32."""
        return self._all(indices, "begin", starts)

    def step(self, indices: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One step of places [n] with actions [n, 5]; observations [n, O] f32."""
        return self._all(indices, "step", actions)

    def instruct(self, indices: np.ndarray, names: Sequence[str]) -> None:
        """Gives instructions [n] to places in their present states."""
        self._given[indices] = self._now[indices]
        self._told[indices] = list(names)

    def succeeded(self, indices: np.ndarray) -> np.ndarray:
        """Whether places [n] have done what they were last told, [n] bool."""
        start, now = self._state(self._given), self._state(self._now)
        done = np.zeros(len(indices), bool)
        told = self._told[indices]
        for name in set(told):
            which = np.asarray(indices)[told == name]
            done[told == name] = language.succeeded(
                self.scene,
                self._known[name],
                SceneState(*(x[which] for x in start)),
                SceneState(*(x[which] for x in now)),
            )
        return done

    def told(self, place: int) -> language.Instruction:
        """What a place was last told."""
        return self._known[self._told[place]]

    def limit(self, name: str) -> int:
        """Steps in which an instruction is to be done."""
        return self._known[name].limit

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.close()

    def _state(self, observations: np.ndarray) -> SceneState:
        return decode(self.scene, observations)

    def _all(self, indices: np.ndarray, what: str, values: Any) -> np.ndarray:
        """`what` for each place, in all processes at once."""
        indices = np.asarray(indices)
        if self.simulator is not None:
            for place, value in zip(indices, values, strict=True):
                self._now[place] = _do(self.simulator, what, int(place), value)
            return self._now[indices].copy()
        count = len(self._workers)
        mine = [np.flatnonzero(indices % count == i) for i in range(count)]
        for worker, rows in zip(self._workers, mine, strict=True):
            if len(rows):
                places = (indices[rows] // count).tolist()
                worker.send((what, places, [values[row] for row in rows]))
        for worker, rows in zip(self._workers, mine, strict=True):
            if len(rows):
                self._now[indices[rows]] = worker.receive()
        return self._now[indices].copy()


def _do(simulator: Simulator, what: str, place: int, value: Any) -> np.ndarray:
    if what == "step":
        return simulator.step(place, value)
    if isinstance(value, Snapshot):
        return simulator.restore(place, value)
    return simulator.reset(place, int(value))


class _Worker:
    """A process with some of the places."""

    def __init__(self, name: str, places: int) -> None:
        ours, theirs = Pipe()
        self._pipe = ours
        command = [sys.executable, "-m", "offjax.envs.scene_batch"]
        command += [name, str(places), str(theirs.fileno())]
        self._process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        theirs.close()

    def send(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._ended() from error

    def receive(self) -> np.ndarray:
        try:
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def close(self) -> None:
        self._pipe.close()  # at which the process ends
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _ended(self) -> RuntimeError:
        return RuntimeError(
            "A process that simulates scenes has ended, with exit code "
            f"{self._process.wait()}; its message stands above."
        )


def _serve(name: str, places: int, pipe: Connection) -> None:
    simulator = Simulator(name, places)
    while True:
        try:
            what, indices, values = pipe.recv()
        except EOFError:
            return
        found = [
            _do(simulator, what, place, value)
            for place, value in zip(indices, values, strict=True)
        ]
        pipe.send(np.stack(found))


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), Connection(int(sys.argv[3])))
