"""The old gym's interface over the environments of this suite."""

import sys

import numpy as np
import pytest

from offjax.compat import gym
from offjax.compat.gym.error import Error, NotGiven, ResetNeeded, UnregisteredEnv
from offjax.envs import batched, mujoco

BUDGET = "offjax/budget/t10-smooth-v0"


def episode(env, action):
    """Observations, rewards and the last info of an episode of one action."""
    observations, rewards, done = [env.reset()], [], False
    while not done:
        observation, reward, done, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
    return np.array(observations), np.array(rewards), info


def test_importing_the_modules_gives_no_one_a_gym():
    assert "d4rl" not in sys.modules
    assert sys.modules.get("gym") is not gym


def test_an_environment_is_gymnasiums_with_four_values():
    env = gym.make("hopper-medium-v2")
    assert env.seed(3) == [3]
    inner = batched.make_one(mujoco.spec("hopper"))
    expected, _ = inner.reset(seed=3)
    observation = env.reset()
    assert observation.dtype == np.float32
    np.testing.assert_array_equal(observation, expected.astype(np.float32))
    action = np.array([0.3, -0.2, 0.9], np.float32)
    for _ in range(5):
        observation, reward, done, _ = env.step(action)
        expected, value, terminal, _, _ = inner.step(action)
        np.testing.assert_array_equal(observation, expected.astype(np.float32))
        assert (reward, done) == (value, terminal)
    # Later episodes follow from the seed, and differ from the first.
    second = env.reset()
    env.seed(3)
    assert not np.array_equal(env.reset(), second)
    np.testing.assert_array_equal(env.reset(), second)


def test_actions_outside_their_box_are_clipped():
    env = gym.make("hopper-medium-v2")
    rewards = []
    for action in ([1.0, -1.0, 1.0], [7.0, -3.0, 1.5]):
        env.seed(0)
        env.reset()
        rewards.append(env.step(np.array(action, np.float32))[1])
    assert rewards[0] == rewards[1]


def test_the_horizon_ends_an_episode_and_is_marked():
    env = gym.make("offjax/maze2d/umaze-v0")
    assert env._max_episode_steps == env.spec.max_episode_steps == 300
    _, rewards, info = episode(env, np.zeros(2))
    assert len(rewards) == 300 and info["TimeLimit.truncated"]
    assert gym.spec("maze2d-umaze-v1").max_episode_steps == 300


def test_an_end_of_the_task_is_no_time_limit():
    env = gym.make("hopper-medium-v2")
    _, rewards, info = episode(env, np.array([1.0, 1.0, 1.0]))
    assert len(rewards) < 1000 and "TimeLimit.truncated" not in info


def test_wrappers_change_what_they_are_for():
    env = gym.make(BUDGET)
    env = gym.wrappers.TransformObservation(env, lambda o: 2 * o)
    env = gym.wrappers.TransformReward(env, lambda r: r - 1)
    env = gym.wrappers.RecordEpisodeStatistics(env)
    plain = gym.make(BUDGET)
    env.seed(5), plain.seed(5)
    action = env.action_space.low
    changed, rewards, info = episode(env, action)
    expected, values, _ = episode(plain, action)
    np.testing.assert_allclose(changed, 2 * expected)
    np.testing.assert_allclose(rewards, values - 1)
    assert info["episode"]["l"] == 10
    assert info["episode"]["r"] == pytest.approx(rewards.sum())
    # What a wrapper lacks is the environment's.
    assert env._max_episode_steps == 10
    assert env.get_normalized_score(3.0) == plain.get_normalized_score(3.0)
    assert env.unwrapped.name == BUDGET


def test_actions_are_rescaled_into_the_environments_box():
    class Recorder(gym.Env):
        action_space = gym.spaces.Box(-2.0, 4.0, (1,))
        observation_space = gym.spaces.Box(-1.0, 1.0, (1,))

        def step(self, action):
            return action, 0.0, True, {}

    env = gym.wrappers.RescaleAction(Recorder(), 0.0, 1.0)
    assert env.step(np.array([0.5]))[0] == [1.0]
    assert gym.wrappers.ClipAction(Recorder()).step(np.array([9.0]))[0] == [4.0]


class Counter(gym.Env):
    """Ends after `length` steps; observes its seed and the step."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, length):
        self.length, self.chosen = length, -1

    def seed(self, seed=None):
        self.chosen = seed
        return [seed]

    def reset(self):
        self.count = 0
        return np.array([self.chosen, 0.0])

    def step(self, action):
        self.count += 1
        done = self.count == self.length
        return np.array([self.chosen, self.count]), float(action[0]), done, {}


def test_environments_side_by_side_begin_again_by_themselves():
    env = gym.vector.SyncVectorEnv([lambda: Counter(2), lambda: Counter(3)])
    assert env.seed(7) == [7, 8]
    assert env.reset().tolist() == [[7, 0], [8, 0]]
    env.step([[0.5], [1.0]])
    observations, rewards, dones, infos = env.step([[0.5], [1.0]])
    assert observations.tolist() == [[7, 0], [8, 2]]
    assert rewards.tolist() == [0.5, 1.0]
    assert dones.tolist() == [True, False]
    assert infos[0]["terminal_observation"].tolist() == [7, 2]
    assert infos[1] == {}


def test_a_datasets_vector_is_its_environment_many_times():
    env = gym.vector.make("hopper-medium-v2", num_envs=3)
    assert env.num_envs == 3 and env.single_observation_space.shape == (11,)
    assert env.action_space.shape == (3, 3)
    assert env.env_fns[0]().spec.max_episode_steps == 1000
    env.seed([4, 5, 6])
    singles = [gym.make("hopper-medium-v2") for _ in range(3)]
    for single, seed in zip(singles, (4, 5, 6), strict=True):
        single.seed(seed)
    observations = env.reset()
    np.testing.assert_array_equal(observations, [s.reset() for s in singles])
    actions = np.tile([[1.0, 1.0, 1.0]], (3, 1)) * [[1.0], [3.0], [-1.0]]
    over = np.zeros(3, bool)
    for _ in range(100):
        observations, rewards, dones, infos = env.step(actions)
        for i in np.flatnonzero(~over):
            expected, reward, done, _ = singles[i].step(actions[i])
            assert (rewards[i], dones[i]) == (reward, done)
            shown = infos[i]["terminal_observation"] if done else observations[i]
            np.testing.assert_allclose(shown, expected, rtol=1e-5, atol=1e-6)
        over |= dones
        if over.all():
            break
    assert over.all()


def test_a_vector_takes_wrappers():
    env = gym.vector.make(
        BUDGET, 2, wrappers=lambda e: gym.wrappers.TransformReward(e, lambda r: 7.0)
    )
    env.reset()
    assert env.step(np.stack([env.single_action_space.low] * 2))[1].tolist() == [7, 7]


def test_scripts_register_their_own():
    gym.register("Counting-v0", entry_point=Counter, max_episode_steps=3,
                 kwargs={"length": 9})  # fmt: skip
    env = gym.make("Counting-v0")
    _, rewards, info = episode(env, [1.0])
    assert len(rewards) == 3 and info["TimeLimit.truncated"]
    assert gym.spec("Counting-v0").kwargs == {"length": 9}
    assert len(episode(gym.make("Counting-v0", length=2), [1.0])[1]) == 2


def test_gymnasiums_own_environments_have_the_old_interface():
    env = gym.make("CartPole-v1")
    env.seed(0)
    observation = env.reset()
    assert observation.shape == (4,) and len(env.step(1)) == 4
    old = gym.make("Hopper-v2")
    old.seed(1), (d4rl := gym.make("hopper-medium-v2")).seed(1)
    np.testing.assert_array_equal(old.reset(), d4rl.reset())
    assert gym.make("Ant-v2").observation_space.shape == (111,)


def test_what_is_not_there_is_named_with_the_remedy():
    with pytest.raises(UnregisteredEnv, match="Did you mean hopper-medium-v2"):
        gym.make("hoper-medium-v2")
    with pytest.raises(NotGiven, match=r"gym\.wrappers\.Monitor.*gymnasium"):
        gym.wrappers.Monitor  # noqa: B018
    assert not hasattr(gym, "GoalEnv") and not hasattr(gym.vector, "Pool")
    env = gym.make("hopper-medium-v2")
    with pytest.raises(NotGiven, match=r"OfflineEnv\.sim"):
        env.sim  # noqa: B018
    with pytest.raises(NotGiven, match="--render=2"):
        env.render(mode="rgb_array")
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(np.zeros(3))
    env.reset()
    with pytest.raises(Error, match=r"\(4,\).*\(3,\)"):
        env.step(np.zeros(4))
    with pytest.raises(Error, match="takes no arguments"):
        gym.make("hopper-medium-v2", exclude=True)
    with pytest.raises(Error, match=r"2 seeds.*3 environments"):
        gym.vector.make(BUDGET, 3).seed([1, 2])


def test_a_dataset_without_an_environment_can_be_read_alone(capsys):
    env = gym.make("kitchen-complete-v0")
    assert "kitchen-complete-v0 can be read" in capsys.readouterr().err
    assert env.observation_space.shape == (60,)
    with pytest.raises(Error, match="no environment of today equals"):
        env.reset()
    with pytest.raises(Error, match="no environment of today equals"):
        gym.vector.make("kitchen-complete-v0", 2)
