"""Many episodes of one host environment side by side.

`make_batched` is the way in: MuJoCo's batched engine for the robots it knows and for
AntMaze, processes over `gymnasium.make` for what observes pixels, threads over it for
any other registered environment. All begin
an episode from its seed alone, so it is the same for any batch size and order.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Protocol

import gymnasium
import numpy as np

from offjax.envs import antmaze, mujoco, opengl
from offjax.envs.processes import Workers, cores
from offjax.errors import UserError
from offjax.registration import register
from offjax.types import Camera, EnvSpec

_EXTRAS = ("gymnasium_robotics", "ogbench")
"""Packages that register environments when they are imported."""


class BatchedEnv(Protocol):
    """Many episodes of one environment side by side on the host."""

    num_envs: int
    observation_dim: int

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Begins new episodes in the places `indices` [n], place i from seeds[i] alone.

        Returns observations [n, O], f32 or, of cameras, uint8.
        """

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of the places `indices` with actions [n, A] inside their box.

        Returns observations [n, O], rewards [n] f64 and terminals [n] bool: the end
        of the MDP. The caller cuts at the horizon.
        """

    def close(self) -> None:
        """Releases what the environments hold."""


def make_batched(
    spec: EnvSpec, num_envs: int, num_threads: int | None = None
) -> BatchedEnv:
    """The environment of a spec, `num_envs` times, on one thread per core by default.

    Its id and kwargs are those of `gymnasium.make`; `margins` is this project's own
    (`offjax.envs.mujoco`).

    Raises:
      UserError: no environments were asked for, or the environment cannot be made
        (the message of `is_available`).
    """
    if num_envs < 1:
        raise UserError(
            f"{num_envs} environments {spec.id} side by side were asked for: at least "
            "one is needed."
        )
    if mujoco.runs(spec):
        return mujoco.MujocoBatch(spec, num_envs, num_threads)
    if antmaze.runs(spec):
        return antmaze.AntMazeBatch(spec, num_envs, num_threads)
    if spec.cameras:
        return PixelBatch(spec, num_envs, num_threads)
    return GymnasiumBatch(spec, num_envs, num_threads)


def on_engine(spec: EnvSpec) -> bool:
    """Whether MuJoCo's batched engine steps this environment here."""
    return mujoco.runs(spec) or antmaze.runs(spec)


def is_available(spec: EnvSpec) -> str | None:
    """None if the environment can be made here, else why not and the remedy."""
    if on_engine(spec):
        return None
    if spec.cameras:
        return _drawing_problem(_encoded(spec))
    try:
        make_one(spec).close()
    except UserError as error:
        return str(error)
    return None


@functools.cache
def _drawing_problem(text: str) -> str | None:
    """Why an environment's images cannot be had; found out by a process."""
    spec = _decoded(text)
    try:
        PixelBatch(spec, 1, 1).close()
    except UserError as error:
        return str(error)
    return None


class GymnasiumBatch:
    """Threads over `gymnasium.make`; a `BatchedEnv`.

    Dict observations are flattened (`gymnasium.spaces.flatten`). Time limits of the
    registration are not the end of the MDP, and are left to the caller.
    """

    def __init__(
        self, spec: EnvSpec, num_envs: int, num_threads: int | None = None
    ) -> None:
        self._envs = [make_one(spec) for _ in range(num_envs)]
        space = self._envs[0].observation_space
        try:
            _require_width(spec, space)
        except UserError:
            for env in self._envs:
                env.close()
            raise
        self.num_envs = num_envs
        self.observation_dim = spec.observation_dim
        self._space = space
        self._pool = ThreadPoolExecutor(min(num_threads or cores(), num_envs))

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Begins episodes in places [n] with `reset(seed=…)`; observations f32."""

        def one(place: int, seed: int) -> np.ndarray:
            observation, _ = self._envs[place].reset(seed=int(seed))
            return self._flatten(observation)

        return np.stack(list(self._pool.map(one, indices, seeds)))

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of places [n]: observations [n, O] f32, rewards, terminals [n]."""

        def one(place: int, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
            observation, reward, terminal, _, _ = self._envs[place].step(action)
            return self._flatten(observation), float(reward), bool(terminal)

        rows = self._pool.map(one, indices, actions)
        observations, rewards, terminals = zip(*rows, strict=True)
        return np.stack(observations), np.array(rewards), np.array(terminals, bool)

    def close(self) -> None:
        """Closes the environments and ends the threads."""
        self._pool.shutdown()
        for env in self._envs:
            env.close()

    def _flatten(self, observation: Any) -> np.ndarray:
        flat = gymnasium.spaces.flatten(self._space, observation)
        return np.asarray(flat, np.float32)


class PixelBatch:
    """Processes over `gymnasium.make`, for environments that draw; a `BatchedEnv`.

    Observations are an image [H, W, 3] of bytes, or a Dict of them, one for each of
    the spec's cameras. They are drawn in processes, since a context of OpenGL belongs
    to the thread that made it; so an environment of one's own has to be registered by
    a module that its id names ("module:Id-v0").
    """

    def __init__(
        self, spec: EnvSpec, num_envs: int, processes: int | None = None
    ) -> None:
        """Starts the processes, by default one per core.

        Raises:
          UserError: the environment cannot be made or drawn here, or shows images of
            other sizes or types than the spec says.
        """
        opengl.require(spec.id)
        self.num_envs, self.observation_dim = num_envs, spec.observation_dim
        count = max(1, processes or cores())
        kind = f"{PixelPlaces.__module__}:{PixelPlaces.__name__}"
        self._workers = Workers(kind, [_encoded(spec)], num_envs, count)
        try:
            shown = self._workers.call("problem", np.array([0]), [None])[0]
        except RuntimeError as error:
            self.close()
            raise UserError(
                f"The environment {spec.id!r} with {dict(spec.kwargs)} cannot be made "
                f"or drawn here. {error} {_remedy(spec.id)}"
            ) from error
        if shown is not None:
            self.close()
            raise UserError(shown)

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Begins episodes in places [n] with `reset(seed=…)`; observations uint8."""
        return np.stack(self._workers.call("reset", np.asarray(indices), list(seeds)))

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of places [n]: observations [n, O] uint8, rewards, terminals [n]."""
        found = self._workers.call("step", np.asarray(indices), list(actions))
        observations, rewards, terminals = zip(*found, strict=True)
        return np.stack(observations), np.array(rewards), np.array(terminals, bool)

    def close(self) -> None:
        """Ends the processes."""
        self._workers.close()


class PixelPlaces:
    """Some places of a `PixelBatch`, in one process."""

    def __init__(self, text: str, places: int) -> None:
        """`text` is what `_encoded` made of the environment."""
        opengl.choose_backend()  # before MuJoCo is imported
        self._spec = _decoded(text)
        self._envs = [make_one(self._spec) for _ in range(places)]

    def problem(self, place: int, value: None) -> str | None:
        """Why what a place observes are not the cameras' images; None if they are."""
        del value
        try:
            _require_images(self._spec, self._envs[place].observation_space)
        except UserError as error:
            return str(error)
        return None

    def reset(self, place: int, seed: int) -> np.ndarray:
        """Begins an episode; the observation [O] uint8."""
        return self._flat(self._envs[place].reset(seed=int(seed))[0])

    def step(self, place: int, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """Observation [O] uint8, reward, and whether the MDP ended."""
        observation, reward, terminal, *_ = self._envs[place].step(action)
        return self._flat(observation), float(reward), bool(terminal)

    def _flat(self, observation: Any) -> np.ndarray:
        if isinstance(observation, Mapping):
            parts = [np.ravel(observation[c.name]) for c in self._spec.cameras]
            return np.concatenate(parts)
        return np.ravel(observation)


def _encoded(spec: EnvSpec) -> str:
    """Id, kwargs and cameras as JSON."""
    return json.dumps([spec.id, spec.kwargs, spec.cameras])


def _decoded(text: str) -> EnvSpec:
    """A spec of what `_encoded` keeps."""
    id, pairs, seen = json.loads(text)
    kwargs = tuple((key, value) for key, value in pairs)
    cameras = tuple(Camera(*camera) for camera in seen)
    return EnvSpec(id, 0, (), (), 1, kwargs=kwargs, cameras=cameras)


def _require_width(spec: EnvSpec, space: gymnasium.Space) -> None:
    width = gymnasium.spaces.flatdim(space)
    if width != spec.observation_dim:
        raise UserError(
            f"The environment {spec.id!r} with {dict(spec.kwargs)} observes "
            f"{width} numbers, its specification says {spec.observation_dim}. "
            "Correct the specification, or use the version of the environment "
            "that the data were recorded with."
        )


def _require_images(spec: EnvSpec, space: gymnasium.Space) -> None:
    """Raises UserError unless an environment observes what the cameras say."""
    named = space.spaces if isinstance(space, gymnasium.spaces.Dict) else None
    for camera in spec.cameras:
        shown = space if named is None else named.get(camera.name)
        expected = (camera.height, camera.width, 3)
        if shown is None or (shown.shape, shown.dtype) != (expected, np.uint8):
            raise UserError(
                f"The environment {spec.id!r} with {dict(spec.kwargs)} shows "
                f"{shown if shown is not None else space}, but the data have images "
                f"{expected} of uint8 of camera {camera.name!r}. Correct `cameras` of "
                "the specification, or the environment's arguments."
            )
    if named is None and len(spec.cameras) > 1:
        raise UserError(
            f"The environment {spec.id!r} shows one image, its specification has the "
            f"cameras {', '.join(camera.name for camera in spec.cameras)}."
        )


def make_one(spec: EnvSpec) -> gymnasium.Env:
    """The Gymnasium environment without its time limit; UserError with the remedy."""
    register()
    for package in _EXTRAS:
        if importlib.util.find_spec(package) is not None:
            importlib.import_module(package)  # registers its environments
    kwargs = dict(spec.kwargs)
    margins = kwargs.pop("margins", "d4rl") if spec.id in mujoco.IDS else "d4rl"
    try:
        with mujoco.quiet() if spec.id in mujoco.IDS else nullcontext():
            env = gymnasium.make(
                spec.id, disable_env_checker=True, max_episode_steps=-1, **kwargs
            )
    except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
        raise UserError(
            f"The environment {spec.id!r} with {kwargs} cannot be made here "
            f"({str(error).strip().rstrip('.')}). {_remedy(spec.id)}"
        ) from error
    if spec.id in mujoco.IDS:
        simulator: Any = env.unwrapped
        mujoco.correct_margins(simulator.model, spec.id, margins)
    return env


def _remedy(id: str) -> str:
    """Which extra holds the environment, as far as its id tells."""
    if id in mujoco.IDS or id == antmaze.ID:
        return "Run `pip install 'offjax[mujoco]'`."
    if id.startswith(("Adroit", "PointMaze", "AntMaze", "Franka")):
        return "Run `pip install 'offjax[robotics]'`."
    return (
        "Check its id and arguments, and install what provides it: "
        "`pip install 'offjax[mujoco]'`, `'offjax[robotics]'` (PointMaze, AntMaze, "
        "Adroit, Kitchen) or `'offjax[ogbench]'`."
    )
