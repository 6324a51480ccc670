"""Short videos of a policy in its environment, with or without a display."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from offjax import envs
from offjax.envs import batched, maze2d, mujoco, opengl
from offjax.errors import UserError
from offjax.types import EnvSpec

MAX_FRAMES = 250
"""Frames of an episode of full length: longer ones skip some, and keep their speed."""

PIXELS = 240
"""Side of a robot's picture: without a graphics card a frame takes long."""

CELL = 48
"""Pixels of a maze's cell."""


class RenderedEnv:
    """Episodes side by side, filmed; an `offjax.envs.batched.BatchedEnv`.

    Place i films into its own .mp4 file, which holds the episode that it was reset to
    last. The environment draws itself (Gymnasium's `rgb_array`), or is maze2d.

    Raises:
      UserError: the extra `render` is missing, the environment has no picture, or it
        cannot be drawn on this machine.
    """

    def __init__(self, spec: EnvSpec, paths: Sequence[Path]) -> None:
        self._imageio = _imageio()
        opengl.choose_backend()
        self._envs, self._draw, fps = _drawn(spec, len(paths))
        self._stride = max(1, -(-spec.horizon // MAX_FRAMES))
        self._fps = max(1, round(fps / self._stride))
        self.num_envs, self.observation_dim = len(paths), spec.observation_dim
        self._paths = paths
        self._writers: list[Any] = [None] * len(paths)
        self._time = np.zeros(len(paths), np.int64)
        self._spec = spec

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Begins episodes and their videos; observations [n, O] f32."""
        observations = []
        for i, seed in zip(indices, seeds, strict=True):
            self._close(i)
            self._paths[i].parent.mkdir(parents=True, exist_ok=True)
            self._writers[i] = self._imageio.get_writer(
                self._paths[i], fps=self._fps, macro_block_size=2
            )
            self._time[i] = 0
            observation, _ = self._envs[i].reset(seed=int(seed))
            observations.append(self._film(i, observation))
        return np.stack(observations)

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of places [n]: observations [n, O] f32, rewards, terminals [n]."""
        observations, rewards, terminals = [], [], []
        for i, action in zip(indices, actions, strict=True):
            self._time[i] += 1
            observation, reward, terminal, *_ = self._envs[i].step(action)
            observations.append(self._film(i, observation))
            rewards.append(float(reward))
            terminals.append(bool(terminal))
        return np.stack(observations), np.array(rewards), np.array(terminals)

    def close(self) -> None:
        """Finishes the files."""
        for i, env in enumerate(self._envs):
            self._close(i)
            env.close()

    def _close(self, place: int) -> None:
        if self._writers[place] is not None:
            self._writers[place].close()
            self._writers[place] = None

    def _film(self, place: int, observation: Any) -> np.ndarray:
        env = self._envs[place]
        flat = gymnasium.spaces.flatten(env.observation_space, observation)
        if self._time[place] % self._stride == 0:
            with opengl.drawing(self._spec.id):
                frame = self._draw(env, np.asarray(flat))
            with warnings.catch_warnings():
                # imageio forks a process with JAX's threads, but only to start ffmpeg.
                warnings.filterwarnings("ignore", r"os\.fork\(\)", RuntimeWarning)
                self._writers[place].append_data(frame)
        return np.asarray(flat, np.float32)


def _imageio() -> Any:
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401 (writes the files)
    except ImportError as error:
        raise UserError(
            f"Videos need packages that are not installed ({error}). Run "
            "`pip install 'offjax[render]'`."
        ) from error
    return imageio


def _drawn(
    spec: EnvSpec, count: int
) -> tuple[list[gymnasium.Env], Callable[[gymnasium.Env, np.ndarray], np.ndarray], int]:
    """Environments, how a frame of one is drawn, and steps per second."""
    if spec.id == maze2d.ID:
        made = [batched.make_one(spec) for _ in range(count)]
        picture = functools.partial(_maze_frame, dict(spec.kwargs)["maze"])
        return made, lambda env, observation: picture(observation), 50
    if spec.id in envs.JAX_ENVS:
        raise UserError(f"{spec.id} has no picture that a video could show.")
    kwargs = (*spec.kwargs, ("render_mode", "rgb_array"))
    if spec.id in mujoco.IDS:
        kwargs += (("width", PIXELS), ("height", PIXELS), ("camera_name", "track"))
    drawn = dataclasses.replace(spec, kwargs=kwargs)
    with opengl.drawing(spec.id):
        made = [batched.make_one(drawn) for _ in range(count)]
    fps = int(made[0].metadata.get("render_fps", 30))
    return made, lambda env, observation: np.asarray(env.render()), fps


def _maze_frame(maze: str, observation: np.ndarray) -> np.ndarray:
    """Walls, the goal's circle and the ball, [W·CELL, H·CELL, 3] uint8."""
    layout = maze2d.layout(maze)
    frame = np.repeat(np.repeat(_background(maze), CELL, axis=0), CELL, axis=1)
    rows, columns = np.indices(frame.shape[:2])
    pixels = (np.stack([rows, columns], -1) + 0.5) / CELL - maze2d.OFFSET
    goal = np.linalg.norm(pixels - np.asarray(layout.goal), axis=-1)
    frame[np.abs(goal - maze2d.GOAL_RADIUS) < 1.5 / CELL] = (40, 140, 70)
    ball = np.linalg.norm(pixels - observation[:2], axis=-1)
    frame[ball <= maze2d.RADIUS] = (190, 40, 40)
    return frame


def _background(maze: str) -> np.ndarray:
    walls = maze2d.layout(maze).walls
    colors = np.array([(245, 245, 245), (90, 90, 100)], np.uint8)
    return colors[walls.astype(int)]
