"""Many places of a scene side by side, simulated by plain processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from offjax.envs import opengl
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
from offjax.envs.scene import spec as scene_spec
from offjax.envs.scene_drawing import PixelSimulator, encode_cameras
from offjax.types import Camera


class SceneBatch:
    """Places of a scene in which instructions are carried out.

    A place's course depends on its start and actions alone. `simulator` is that of
    all places where this process simulates them, else None.

    With cameras, observations are what they show, drawn where the place is simulated;
    what instructions came to is read off the state all the same.
    """

    def __init__(
        self,
        name: str,
        num_envs: int,
        processes: int | None = None,
        cameras: Sequence[Camera] = (),
    ) -> None:
        """Starts the processes: by default one per core, 0 for none but the caller's.

        Raises:
          UserError: OGBench is not installed, a camera is unknown, or, where this
            process draws, there is no OpenGL.
        """
        self.scene = get(name)
        require_simulator(name)
        self.num_envs = num_envs
        self.observation_dim = scene_spec(name, cameras).observation_dim
        self._known = language.all_instructions(name)
        self._now = np.zeros((num_envs, self.scene.observation_dim), np.float32)
        self._start = np.zeros_like(self._now)  # when the instruction was given
        self._names = np.zeros(num_envs, object)
        count = cores() if processes is None else processes
        self._drawn = bool(cameras)
        made, arguments = "scene:Simulator", [name]
        if cameras:
            opengl.require(f"Scene {name!r}")
            made = "scene_drawing:PixelSimulator"
            arguments.append(encode_cameras(cameras))
        self._workers = Workers(f"offjax.envs.{made}", arguments, num_envs, count)
        local = self._workers.local
        self.simulator: Simulator | None = local
        if isinstance(local, PixelSimulator):
            self.simulator = local.simulator

    def begin(self, indices: np.ndarray, starts: Sequence[Start]) -> np.ndarray:
        """Puts places [n] into starts [n]; observations [n, O] f32 or uint8."""
        return self._all(indices, "begin", starts)

    def step(self, indices: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One step of places [n] with actions [n, 5]; observations as of `begin`."""
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
        found = self._workers.call(what, indices, values)
        if not self._drawn:
            self._now[indices] = found
            return self._now[indices].copy()
        states, rows = zip(*found, strict=True)
        self._now[indices] = states
        return np.stack(rows)
