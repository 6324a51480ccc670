"""Videos: what they show, how long they are, and what is said where none can be."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest

from offjax.envs import budget, maze2d, mujoco
from offjax.errors import UserError
from offjax.evaluation import render

imageio = pytest.importorskip("imageio.v2")
pytest.importorskip("imageio_ffmpeg")

SPEC = dataclasses.replace(maze2d.spec("umaze"), horizon=6)


def film(spec, paths, steps, actions):
    env = render.RenderedEnv(spec, paths)
    seen = [env.reset(np.arange(len(paths)), range(len(paths)))]
    for t in range(steps):
        observations, rewards, terminals = env.step(np.arange(len(paths)), actions[t])
        assert rewards.shape == terminals.shape == (len(paths),)
        seen.append(observations)
    env.close()
    return np.array(seen)


def test_a_maze_shows_the_ball_where_it_is(tmp_path):
    paths = [tmp_path / "videos" / f"{i}.mp4" for i in range(2)]
    actions = np.random.default_rng(0).uniform(-1, 1, (5, 2, 2)).astype(np.float32)
    seen = film(SPEC, paths, 5, actions)
    for place, path in enumerate(paths):
        frames = imageio.mimread(path)
        assert len(frames) == 6
        for frame, observation in zip(frames, seen[:, place], strict=True):
            red = frame[..., 0].astype(int) - frame[..., 1]
            where = np.argwhere(red > 75)  # the ball's pixels, and no others
            place_of = (where.mean(0) + 0.5) / render.CELL - 0.7
            np.testing.assert_allclose(place_of, observation[:2], atol=0.05)


def test_long_episodes_skip_frames_and_keep_their_speed(tmp_path):
    spec = dataclasses.replace(SPEC, horizon=3 * render.MAX_FRAMES)
    film(spec, [tmp_path / "a.mp4"], 6, np.zeros((6, 1, 2), np.float32))
    reader = imageio.get_reader(tmp_path / "a.mp4")
    assert sum(1 for _ in reader) == 3  # steps 0, 3 and 6
    assert reader.get_meta_data()["fps"] == pytest.approx(50 / 3, abs=0.5)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UserError, match=r"offjax\[render\]"):
        render.RenderedEnv(SPEC, [tmp_path / "a.mp4"])


def test_what_has_no_picture_is_said(tmp_path):
    with pytest.raises(UserError, match="no picture"):
        render.RenderedEnv(budget.spec(horizon=10), [tmp_path / "a.mp4"])


def test_without_graphics_the_remedy_is_named(tmp_path, monkeypatch):
    pytest.importorskip("mujoco")

    def fail(self):
        raise RuntimeError("no EGL here")

    monkeypatch.setattr("gymnasium.envs.mujoco.MujocoEnv.render", fail)
    env = render.RenderedEnv(mujoco.spec("hopper"), [tmp_path / "a.mp4"])
    with pytest.raises(UserError, match=r"no EGL here.*libegl1"):
        env.reset(np.array([0]), [0])
    env.close()


@pytest.mark.long
def test_a_robot_is_filmed(tmp_path):
    pytest.importorskip("mujoco")
    path = tmp_path / "a.mp4"
    film(mujoco.spec("hopper"), [path], 4, np.zeros((4, 1, 3), np.float32))
    frames = imageio.mimread(path)
    assert len(frames) == 2 and frames[0].shape == (240, 240, 3)
    assert frames[0].std() > 10


@pytest.mark.long
def test_the_camera_follows_a_robot(tmp_path):
    """Far from where it began, a robot is still in the middle of the picture."""
    pytest.importorskip("mujoco")
    path = tmp_path / "a.mp4"
    env = render.RenderedEnv(mujoco.spec("halfcheetah"), [path])
    place = np.array([0])
    env.reset(place, [0])
    env._envs[0].unwrapped.data.qpos[0] = 50.0
    for _ in range(8):
        env.step(place, np.zeros((1, 6), np.float32))
    env.close()
    middles = [frame[60:200, 60:180] for frame in imageio.mimread(path)]
    # The robot is the only thing that is neither black, gray nor pale green.
    for middle in (middles[0], middles[-1]):
        red, _, blue = np.moveaxis(middle.astype(int), -1, 0)
        assert (red - blue > 40).sum() > 100
