"""Scenes: what is read off observations, exact restoring, and many places."""

import numpy as np
import pytest

from offjax.envs import scene
from offjax.errors import UserError

pytest.importorskip("ogbench")


@pytest.fixture(scope="module")
def simulator():
    return scene.Simulator("scene", places=2)


def random_actions(seed, number):
    return np.random.default_rng(seed).uniform(-1, 1, (number, 5))


def run(simulator, place, actions):
    return np.stack([simulator.step(place, action) for action in actions])


def test_state_is_read_off_the_observation(simulator):
    for seed in range(6):
        observation = simulator.reset(0, seed)
        state = scene.decode(simulator.scene, observation)
        data, info = simulator.env.data, simulator.info(0)
        np.testing.assert_allclose(
            state.cubes[0], info["privileged/block_0_pos"], atol=1e-5
        )
        np.testing.assert_allclose(
            -state.drawer, data.joint("drawer_slide").qpos[0], atol=1e-6
        )
        np.testing.assert_allclose(
            state.window, data.joint("window_slide").qpos[0], atol=1e-6
        )
        np.testing.assert_array_equal(state.unlocked, info["button_states"])
        for point in np.random.default_rng(seed).uniform(
            [0.2, -0.6, -0.02], [0.5, 0.0, 0.17], (50, 3)
        ):
            inside = scene.in_drawer(point, state.drawer)
            assert inside == simulator.env._is_in_drawer(point)


def test_starts_differ_and_depend_on_the_seed_alone(simulator):
    first = simulator.reset(0, 7)
    other = simulator.reset(1, 8)
    assert np.abs(first - other).max() > 0.1
    np.testing.assert_array_equal(simulator.reset(1, 7), first)


def test_restored_states_go_on_exactly(simulator):
    simulator.reset(0, 3)
    run(simulator, 0, random_actions(0, 10))
    snapshot = simulator.snapshot(0)
    actions = random_actions(1, 15)
    begun = simulator.restore(0, snapshot)
    first = run(simulator, 0, actions)
    simulator.reset(0, 99)
    run(simulator, 0, random_actions(2, 5))
    np.testing.assert_array_equal(simulator.restore(0, snapshot), begun)
    np.testing.assert_array_equal(run(simulator, 0, actions), first)


def test_places_do_not_notice_each_other(simulator):
    """Also not their locks, which act through a model that they share."""
    unlocked = scene.Snapshot(
        *simulator.snapshot(0)[:2], button_states=np.array([1, 1])
    )
    locked = unlocked._replace(button_states=np.array([0, 0]))
    actions = random_actions(3, 12)
    simulator.restore(0, unlocked)
    alone = run(simulator, 0, actions)
    simulator.restore(0, unlocked)
    simulator.restore(1, locked)
    beside = []
    for action in actions:
        beside.append(simulator.step(0, action))
        simulator.step(1, -action)
    np.testing.assert_array_equal(beside, alone)
    dampings = []
    for place in (0, 1):
        simulator.use(place)
        joint = simulator.env.model.joint("drawer_slide")
        dampings.append(joint.damping[0])
    assert dampings == [2.0, 1e6]


def test_spec_and_unknown_scene():
    spec = scene.spec("cube-triple")
    assert spec.domain == "scene" and spec.observation_dim == 46
    assert scene.spec("scene").observation_dim == 40
    with pytest.raises(UserError, match="cube-double"):
        scene.spec("cube-quintuple")


def test_ogbench_missing(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ogbench.manipspace", None)
    with pytest.raises(UserError, match=r"offjax\[ogbench\]"):
        scene.Simulator("scene")
