"""Many places of a scene side by side, simulated by plain processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from offjax.envs import scene_instructions as language
from offjax.envs.processes import Workers, cores
from offjax.envs.scene import (
    SceneState,
    Simulator,
    Start,
    decode,
    get,
    require_simulator,
)


class SceneBatch:
    """Places of a scene in which instructions are carried out.

    A place's course depends on its start and actions alone. `simulator` is that of
    all places where this process simulates them, else None.
    """

    def __init__(self, name: str, num_envs: int, processes: int | None = None) -> None:
        """Starts the processes: by default one per core, 0 for none but the caller's.

        Raises:
          UserError: OGBench is not installed.
        """
        self.scene = get(name)
        require_simulator(name)
        self.num_envs = num_envs
        self.observation_dim = self.scene.observation_dim
        self._known = language.all_instructions(name)
        self._now = np.zeros((num_envs, self.observation_dim), np.float32)
        self._start = np.zeros_like(self._now)  # when the instruction was given
        self._names = np.zeros(num_envs, object)
        count = cores() if processes is None else processes
        self._workers = Workers("offjax.envs.scene:Simulator", [name], num_envs, count)
        self.simulator: Simulator | None = self._workers.local

    def begin(self, indices: np.ndarray, starts: Sequence[Start]) -> np.ndarray:
        """Puts places [n] into starts [n]; observations [n, O] f32."""
        return self._all(indices, "begin", starts)

    def step(self, indices: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One step of places [n] with actions [n, 5]; observations [n, O] f32."""
        return self._all(indices, "step", actions)

    def instruct(self, indices: np.ndarray, names: Sequence[str]) -> None:
        """Gives instructions [n] to places in their present states."""
        self._start[indices] = self._now[indices]
        self._names[indices] = list(names)

    def succeeded(self, indices: np.ndarray) -> np.ndarray:
        """Whether places [n] have done what they were last given, [n] bool."""
        start, now = decode(self.scene, self._start), decode(self.scene, self._now)
        done = np.zeros(len(indices), bool)
        given = self._names[indices]
        for name in set(given):
            which = np.asarray(indices)[given == name]
            done[given == name] = language.succeeded(
                self.scene,
                self._known[name],
                SceneState(*(x[which] for x in start)),
                SceneState(*(x[which] for x in now)),
            )
        return done

    def instruction(self, place: int) -> language.Instruction:
        """The last one that a place was given."""
        return self._known[self._names[place]]

    def limit(self, name: str) -> int:
        """Steps in which an instruction is to be done."""
        return self._known[name].limit

    def close(self) -> None:
        """Ends the processes."""
        self._workers.close()

    def _all(self, indices: np.ndarray, what: str, values: Any) -> np.ndarray:
        indices = np.asarray(indices)
        self._now[indices] = self._workers.call(what, indices, values)
        return self._now[indices].copy()
