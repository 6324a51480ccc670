"""The adapter to CALVIN's simulator: against a stand-in, and the real one if there."""

import sys
import types

import numpy as np
import pytest

from offjax.envs import calvin
from offjax.envs.calvin_table import initial_vectors
from offjax.errors import UserError
from offjax.evaluation import calvin as evaluation
from offjax.evaluation import chains
from offjax.evaluation.scene import RandomAgent


class Table:
    """A stand-in for `PlayTableSimEnv`: actions add to the robot's first entries."""

    def reset(self, robot_obs, scene_obs):
        self.robot, self.scene = robot_obs.copy(), scene_obs.copy()
        return self.get_obs()

    def get_obs(self):
        robot = getattr(self, "robot", np.zeros(15))
        scene = getattr(self, "scene", np.zeros(24))
        return {"robot_obs": robot, "scene_obs": scene, "rgb_obs": {}, "depth_obs": {}}

    def get_info(self):
        return {"x": self.robot[0]}

    def step(self, action):
        assert action[6] in (-1, 1)
        self.robot[:7] += action
        return self.get_obs(), 0, False, self.get_info()


class Tasks:
    def get_task_info_for_set(self, start, end, wanted):
        return wanted if end["x"] - start["x"] > 1.5 else set()


class StandIn(calvin.Simulators):
    @classmethod
    def missing(cls):
        return None

    def build(self, dataset):
        return Table()

    def tasks(self):
        return Tasks()


def table(num_envs, **settings):
    return calvin.Calvin(num_envs, simulators=StandIn, **settings)


def test_places_are_simulators():
    env = table(2)
    assert env.observation_dim == 39
    states = chains.initial_states()
    begun = env.begin(np.array([1, 0]), [states[0], states[100]])
    for row, state in zip(begun, (states[0], states[100]), strict=True):
        expected = np.concatenate(initial_vectors(state))
        np.testing.assert_allclose(row, expected, rtol=1e-6)
    env.instruct(np.arange(2), ["open_drawer", "turn_on_led"])
    action = np.array([[1, 0, 0, 0, 0, 0, 0.3], [0.4, 0, 0, 0, 0, 0, -0.2]])
    found = env.step(np.arange(2), action)
    np.testing.assert_allclose(found[0, 0] - begun[1, 0], 1, rtol=1e-5)
    np.testing.assert_allclose(found[:, 6] - begun[::-1, 6], [1, -1], rtol=1e-5)
    assert not env.succeeded(np.arange(2)).any()
    env.step(np.arange(2), action)
    np.testing.assert_array_equal(env.succeeded(np.arange(2)), [True, False])
    env.instruct(np.array([0]), ["turn_on_led"])  # judged from here
    env.step(np.array([0]), action[:1])
    assert not env.succeeded(np.array([0])).any()
    env.close()


def test_latents_are_observed_instead():
    env = table(
        1, keys=("scene_obs",), encode=lambda frames: frames["scene_obs"][:, :3] + 1
    )
    assert env.observation_dim == 3
    with pytest.raises(UserError, match="does not observe 'rgb_static'"):
        table(1, keys=("rgb_static",))


def test_chains_run_through_the_same_evaluation():
    class Forward(RandomAgent):
        def act(self, observations, rewards, active):
            actions = np.zeros((*active.shape, 7), np.float32)
            actions[..., 0] = 0.5
            return actions

    state = chains.initial_states()[0]
    given = [(state, ("open_drawer", "turn_on_led")), (state, ("turn_on_led",))]
    said = {"open_drawer": "open it", "turn_on_led": "light"}
    found = evaluation.evaluate(
        Forward(1), table(1), evaluation.trials(given, said), [0]
    )
    assert found.outcome.solved.tolist() == [[2, 1]]
    assert found.outcome.steps.tolist() == [[8, 4]]  # four steps are over 1.5
    np.testing.assert_allclose(found.rates[0], [1, 0.5, 0, 0, 0])
    assert found.per_task == {"open_drawer": (1, 1), "turn_on_led": (2, 2)}
    with pytest.raises(UserError, match="no sentences for turn_on_led"):
        evaluation.trials(given, {"open_drawer": "open it"})


def test_simulator_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "calvin_env", None)
    with pytest.raises(UserError, match=r"github\.com/mees/calvin_env"):
        calvin.Calvin(1)


def test_simulator_without_configurations(monkeypatch, tmp_path):
    for name in ("hydra", "pybullet"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    package = types.ModuleType("calvin_env")
    package.__file__ = str(tmp_path / "calvin_env" / "__init__.py")
    monkeypatch.setitem(sys.modules, "calvin_env", package)
    with pytest.raises(UserError, match="without its configurations"):
        calvin.Calvin(1)


@pytest.mark.long
def test_real_simulator():
    """Starts are restored, and CALVIN's own test sees that a drawer was opened."""
    if calvin.is_available() is not None:
        pytest.skip(calvin.is_available())
    env = calvin.Calvin(1)
    place = np.array([0])
    state = {**chains.initial_states()[0], "drawer": "closed"}
    robot, scene = initial_vectors(state)
    begun = env.begin(place, [state])[0]
    np.testing.assert_allclose(begun[15:21], scene[:6], atol=1e-3)
    np.testing.assert_allclose(begun[21:24], scene[6:9], atol=5e-3)
    np.testing.assert_allclose(begun[:3], robot[:3], atol=2e-2)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 1, 7))

    def run():
        env.begin(place, [state])
        env.instruct(place, ["open_drawer"])
        return np.concatenate([env.step(place, a) for a in actions])

    # Not bit for bit: the simulator's physics keeps contacts across a reset.
    np.testing.assert_allclose(run()[:, :6], run()[:, :6], atol=5e-3)
    assert not env.succeeded(place)[0]
    opened = env._workers.local._envs[0].scene.doors[1]
    opened.reset(0.2)
    env.step(place, actions[0])
    assert env.succeeded(place)[0]
