"""The registered environments as Gymnasium sees them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from offjax import envs
from offjax.envs import budget, maze2d
from offjax.errors import UserError

SPECS = [
    budget.spec(50),
    budget.spec(10, 1, context=True, elapsed=True),
    budget.spec(10, literal=True),
    maze2d.spec("umaze"),
    maze2d.spec("medium"),
    maze2d.spec("large", dense=True),
]


@pytest.fixture(autouse=True)
def registered():
    envs.register()
    envs.register()  # may be repeated


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.domain}-{s.horizon}")
def test_gymnasium_accepts_the_environment(spec):
    env = gymnasium.make(spec.id, **dict(spec.kwargs))
    check_env(env.unwrapped)
    assert env.observation_space.shape == (spec.observation_dim,)
    np.testing.assert_array_equal(env.action_space.low, spec.action_low)
    np.testing.assert_array_equal(env.action_space.high, spec.action_high)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for t in range(spec.horizon):
        assert isinstance(observation, np.ndarray)
        assert env.observation_space.contains(observation)
        step = env.step(env.action_space.sample())
        observation, reward, terminated, truncated, _ = step
        assert isinstance(reward, float)
        last = t + 1 == spec.horizon
        assert terminated == (last and spec.domain == "budget")
        assert truncated == (last and spec.domain == "maze2d")
    # A new episode has the whole horizon again, and another start.
    env.reset()
    assert env.step(env.action_space.sample())[2:4] == (False, False)


def test_seeds():
    env = gymnasium.make(maze2d.ID, maze="large")
    first, _ = env.reset(seed=3)
    second, _ = env.reset()
    np.testing.assert_array_equal(env.reset(seed=3)[0], first)
    np.testing.assert_array_equal(env.reset()[0], second)
    assert not np.allclose(first, second)
    noisy = gymnasium.make(budget.ID, horizon=10, reward_noise=1.0)
    rewards = []
    for seed in (0, 0, 1):
        noisy.reset(seed=seed)
        rewards.append([noisy.step(np.array([0.1], np.float32))[1] for _ in range(5)])
    assert rewards[0] == rewards[1] != rewards[2]
    assert len(set(rewards[0])) == 5


def test_every_id_has_its_class():
    assert set(envs.JAX_ENVS) == {budget.ID, maze2d.ID} <= set(gymnasium.registry)
    for spec in SPECS:
        assert type(envs.make(spec)) is envs.JAX_ENVS[spec.id]
    with pytest.raises(UserError, match="Hopper-v5"):
        envs.make(dataclasses.replace(SPECS[0], id="Hopper-v5"))
    with pytest.raises(UserError, match="'tiny'"):
        gymnasium.make(maze2d.ID, maze="tiny")


def test_registering_starts_no_backend():
    code = (
        "import offjax.envs, jax; offjax.envs.register(); "
        "jax.config.update('jax_num_cpu_devices', 2); "
        "assert len(jax.devices('cpu')) == 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
