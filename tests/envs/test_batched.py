"""Batches of host environments: which engine, the fall-back, what cannot be made."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest

from offjax.envs import mujoco, opengl
from offjax.envs.batched import GymnasiumBatch, is_available, make_batched
from offjax.envs.processes import cores
from offjax.errors import UserError
from offjax.types import Camera, EnvSpec


class Corridor(gymnasium.Env):
    """A Dict of position and goal; done at the goal, the start drawn from the seed."""

    observation_space = gymnasium.spaces.Dict(
        {
            "goal": gymnasium.spaces.Box(-1, 1, (1,)),
            "at": gymnasium.spaces.Box(-9, 9, (2,)),
        }
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, length: float = 1.0):
        self._length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._at = self.np_random.uniform(0, 0.5)
        return self._observation(), {}

    def step(self, action):
        self._at += float(action[0])
        done = self._at >= self._length
        return self._observation(), self._at, done, False, {}

    def _observation(self):
        return {"goal": np.array([self._length]), "at": np.array([self._at, -self._at])}


@pytest.fixture(scope="module", autouse=True)
def corridor():
    gymnasium.register("Corridor-v0", Corridor, max_episode_steps=3)
    yield
    del gymnasium.registry["Corridor-v0"]


def _spec(**kwargs) -> EnvSpec:
    return EnvSpec("Corridor-v0", 3, (-1.0,), (1.0,), 3, kwargs=tuple(kwargs.items()))


def test_dicts_are_flattened_and_time_limits_left_to_the_caller():
    env = make_batched(_spec(length=0.9), 3)
    assert isinstance(env, GymnasiumBatch)
    assert (env.num_envs, env.observation_dim) == (3, 3)
    first = env.reset(np.array([2, 0]), [4, 5])
    start = Corridor(0.9).reset(seed=4)[0]["at"][0]
    # Dict spaces sort their keys: at, goal.
    np.testing.assert_allclose(first[0], [start, -start, 0.9], rtol=1e-6)
    assert first.dtype == np.float32
    for _ in range(5):  # beyond the registered limit of 3
        rows, rewards, terminals = env.step(
            np.array([2, 0]), np.array([[0.0], [0.0]], np.float32)
        )
        np.testing.assert_array_equal(rows, first)
    assert rewards.dtype == np.float64 and not terminals.any()
    _, rewards, terminals = env.step(np.array([0]), np.array([[1.0]], np.float32))
    assert terminals.tolist() == [True] and rewards[0] > 0.9
    env.close()


def test_places_and_batch_size_do_not_matter():
    few, many = make_batched(_spec(), 1, 1), make_batched(_spec(), 5, 2)
    many.reset(np.arange(5), range(5))
    np.testing.assert_array_equal(
        few.reset(np.array([0]), [3]), many.reset(np.array([4]), [3])
    )


@pytest.mark.parametrize("version", ["v4", "v5"])
def test_fallback_equals_the_engine(version, monkeypatch):
    pytest.importorskip("mujoco.batch")
    spec = mujoco.spec("hopper", version)  # v4: margins corrected in both
    engine = make_batched(spec, 2)
    monkeypatch.setattr(mujoco, "has_engine", lambda: False)
    threads = make_batched(spec, 2)
    assert isinstance(threads, GymnasiumBatch)
    places = np.arange(2)
    np.testing.assert_array_equal(
        engine.reset(places, [1, 2]), threads.reset(places, [1, 2])
    )
    rng = np.random.default_rng(0)
    for _ in range(15):
        actions = rng.uniform(-1, 1, (2, 3)).astype(np.float32)
        for a, b in zip(
            engine.step(places, actions), threads.step(places, actions), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    threads.close()


def test_other_arguments_go_to_gymnasium():
    pytest.importorskip("mujoco")
    base = mujoco.spec("hopper")
    spec = EnvSpec(
        **{**vars(base), "kwargs": (("ctrl_cost_weight", 1.0),)}  # not the engine's
    )
    env = make_batched(spec, 1)
    assert isinstance(env, GymnasiumBatch)
    env.reset(np.array([0]), [0])
    _, rewards, _ = env.step(np.array([0]), np.ones((1, 3), np.float32))
    assert rewards[0] < 0.0  # Σa² = 3 is charged in full
    env.close()


def test_what_is_missing_is_named():
    assert is_available(_spec()) is None
    unknown = EnvSpec("NoSuchThing-v0", 1, (-1.0,), (1.0,), 5)
    assert "NoSuchThing" in is_available(unknown)
    with pytest.raises(UserError, match="NoSuchThing"):
        make_batched(unknown, 1)
    assert "'bad_argument'" in is_available(_spec(bad_argument=1))
    with pytest.raises(UserError, match="0 environments"):
        make_batched(_spec(), 0)


@pytest.mark.parametrize(
    ("id", "extra"),
    [("Hopper-v4", "mujoco"), ("PointMaze_UMaze-v3", "robotics")],
)
def test_the_remedy_names_the_extra(id, extra, monkeypatch):
    def missing(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled("no simulator")

    monkeypatch.setattr(mujoco, "has_engine", lambda: False)
    monkeypatch.setattr(gymnasium, "make", missing)
    reason = is_available(EnvSpec(id, 4, (-1.0,), (1.0,), 300))
    assert f"offjax[{extra}]" in reason and "no simulator" in reason


def test_a_specification_of_other_observations_is_refused():
    wrong = EnvSpec("Corridor-v0", 4, (-1.0,), (1.0,), 3)
    with pytest.raises(UserError, match="observes 3 numbers"):
        make_batched(wrong, 1)


def test_cores():
    assert cores() >= 1


CUBE = EnvSpec(
    "visual-cube-single-singletask-v0",
    64 * 64 * 3,
    (-1.0,) * 5,
    (1.0,) * 5,
    200,
    cameras=(Camera("pixels", 64, 64),),
)


def test_ogbench_draws_in_a_process():
    pytest.importorskip("ogbench")
    if opengl.problem("x") is not None:
        pytest.skip(opengl.problem("x"))
    env = make_batched(CUBE, 1, 1)
    place = np.array([0])
    try:
        first = env.reset(place, [3])
        assert first.shape == (1, 64 * 64 * 3) and first.dtype == np.uint8
        assert len(np.unique(first)) > 20
        rows, rewards, terminals = env.step(place, np.ones((1, 5), np.float32))
        assert rows.dtype == np.uint8 and (rows != first).any()
        assert rewards.tolist() == [-1.0] and terminals.tolist() == [False]
    finally:
        env.close()


DOTS = EnvSpec(
    "tests.envs.pixel_env:Dots-v0",
    48,
    (-1.0,),
    (1.0,),
    9,
    cameras=(Camera("low", 4, 2), Camera("high", 2, 4)),
)


def test_cameras_are_in_the_order_of_the_specification():
    if opengl.problem("x") is not None:
        pytest.skip(opengl.problem("x"))
    env = make_batched(DOTS, 3, 2)
    try:
        rows = env.reset(np.arange(3), [1, 2, 1])
        np.testing.assert_array_equal(rows[0], rows[2])
        value = int(rows[1, 0])
        np.testing.assert_array_equal(rows[1], [value] * 24 + [value + 100] * 24)
        rows, rewards, _ = env.step(np.array([1]), np.ones((1, 1), np.float32))
        assert rows[0, 0] == rewards[0] == value + 1
    finally:
        env.close()


@pytest.mark.parametrize(
    ("cameras", "words"),
    [
        ((Camera("low", 8, 2),), r"\(8, 2, 3\)"),
        ((Camera("low", 4, 2), Camera("hand", 4, 2)), "hand"),
    ],
)
def test_other_images_than_the_specification_says(cameras, words):
    if opengl.problem("x") is not None:
        pytest.skip(opengl.problem("x"))
    wrong = dataclasses.replace(DOTS, cameras=cameras)
    with pytest.raises(UserError, match=words):
        make_batched(wrong, 1)
    assert words.strip("\\(")[:2] in is_available(wrong)


def test_a_renderer_that_there_is_not(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")  # which OSMesa's context refuses
    with pytest.raises(UserError, match=r"libosmesa6.*MUJOCO_GL"):
        make_batched(DOTS, 1)
