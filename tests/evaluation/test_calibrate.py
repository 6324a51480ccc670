"""Calibration on episodes recorded with plain Gymnasium, sound and tampered with."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.envs import antmaze, mujoco
from offjax.envs.batched import make_one
from offjax.errors import UserError
from offjax.evaluation.calibrate import Drift, Report, calibrate

pytest.importorskip("mujoco")
EPISODE = 12


@pytest.fixture(scope="module")
def recorded():
    """Six episodes of Hopper-v4 as it is installed, with the simulator's states."""
    env = gymnasium.make("Hopper-v4", max_episode_steps=-1)
    rng = np.random.default_rng(0)
    rows = {
        name: [] for name in ("observations", "actions", "rewards", "next_observations",
                              "terminals", "timeouts", "qpos", "qvel")
    }  # fmt: skip
    for episode in range(6):
        observation, _ = env.reset(seed=episode)
        for t in range(EPISODE):
            action = rng.uniform(-1, 1, 3).astype(np.float32)
            data = env.unwrapped.data
            rows["qpos"].append(data.qpos.copy())
            rows["qvel"].append(data.qvel.copy())
            rows["observations"].append(observation)
            observation, reward, terminal, _, _ = env.step(action)
            rows["next_observations"].append(observation)
            rows["actions"].append(action)
            rows["rewards"].append(reward)
            rows["terminals"].append(terminal)
            rows["timeouts"].append(t == EPISODE - 1 and not terminal)
            if terminal:
                break
    return {name: np.array(column) for name, column in rows.items()}


def dataset(recorded, margins="installed", infos=True, **changed):
    columns = recorded | changed
    states = {name: columns.pop(name) for name in ("qpos", "qvel")}
    spec = mujoco.spec("hopper", "v4", margins)
    return Dataset.from_arrays(
        **columns, spec=spec, id="test/hopper-v0", infos=states if infos else None
    )


def test_the_recording_simulator_agrees_from_its_own_states(recorded):
    report = calibrate(dataset(recorded), num_rows=100, num_steps=4)
    assert report.states == "infos/qpos and infos/qvel"
    assert report.observations.max < 1e-5  # data are float32
    assert report.rewards.max < 1e-5
    assert report.open_loop.p99 < 1e-3
    assert "up to rounding" in report.verdict
    assert report.verdict in str(report) and "Hopper-v4 margins=installed" in str(
        report
    )


def test_the_observations_hold_the_state_too(recorded):
    report = calibrate(dataset(recorded, infos=False), num_rows=100, num_steps=2)
    assert report.states == "the observations"
    assert report.observations.median < 1e-4 and report.rewards.median < 1e-4


def test_velocities_at_their_bound_are_no_states(recorded):
    velocity = recorded["observations"].copy()
    velocity[::2, 7] = 10.0
    report = calibrate(
        dataset(recorded, infos=False, observations=velocity), 1000, num_steps=1
    )
    assert report.rows == len(velocity) // 2


def test_stretches_stay_within_their_episode(recorded):
    ends = np.flatnonzero(recorded["terminals"] | recorded["timeouts"]) + 1
    lengths = np.diff(ends, prepend=0)
    report = calibrate(dataset(recorded), 1000, num_steps=5)
    assert report.rows == np.maximum(lengths - 4, 0).sum()
    without = dataset(recorded, next_observations=None)
    assert calibrate(without, 1000, 5).rows == np.maximum(lengths - 5, 0).sum()
    with pytest.raises(UserError, match="num_steps"):
        calibrate(dataset(recorded), 10, num_steps=EPISODE + 1)


def test_other_rewards_and_other_dynamics_are_told_apart(recorded):
    rewards = calibrate(dataset(recorded, rewards=2 * recorded["rewards"]), 100, 2)
    assert rewards.observations.max < 1e-5 < rewards.rewards.median
    assert "rewards are not" in rewards.verdict
    actions = calibrate(dataset(recorded, actions=-recorded["actions"]), 100, 2)
    assert "dynamics are not" in actions.verdict
    assert actions.observations.above == 1.0


def test_antmaze_is_replayed_from_its_observations_towards_its_hidden_goal():
    """As in D4RL's files, infos are of the next row, and the goal is not told."""
    pytest.importorskip("mujoco.batch")
    spec = antmaze.spec("umaze")
    env, rng = make_one(spec), np.random.default_rng(0)
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    rows = {name: [] for name in (*names, "qpos", "qvel")}
    for episode in range(20):
        seen, _ = env.reset(seed=episode, options={"goal": (0.5, 0.2)})
        start = np.float32(seen)
        start[:2] = rng.uniform([0.0, -0.3], [0.7, 0.7])
        env.unwrapped.set_state(start[:15], start[15:])
        seen = start
        for t in range(8):
            action = rng.uniform(-1, 1, 8).astype(np.float32)
            following, reward, *_ = env.step(action)
            values = (
                seen,
                action,
                reward,
                False,
                t == 7,
                following[:15],
                following[15:],
            )
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
            seen = following
    columns = {name: np.array(column) for name, column in rows.items()}
    infos = {name: columns.pop(name) for name in ("qpos", "qvel")}
    recording = Dataset.from_arrays(**columns, spec=spec, id="test/a-v0", infos=infos)
    found = calibrate(recording, num_rows=100, num_steps=4)
    assert found.states == "the observations" and 0 < columns["rewards"].mean() < 1
    assert found.observations.p99 < 1e-3 and found.rewards.above < 0.1
    columns["actions"] = -columns["actions"]
    other = Dataset.from_arrays(**columns, spec=spec, id="test/a-v0")
    assert "dynamics are not" in calibrate(other, 100, 4).verdict


def report(median, p99, above):
    drift = Drift(median, p99, 1.0, above)
    return Report("d", "e", "s", 1, 1, drift, Drift(0, 0, 0, 0), drift)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((1e-6, 1e-4, 0.0), "up to rounding"),
        ((1e-6, 1e-1, 0.07), "except in 7.0%"),
        ((5e-3, 1e-1, 0.9), "a little"),
        ((5e-2, 1e-1, 1.0), "dynamics are not"),
    ],
)
def test_verdicts(numbers, words):
    assert words in report(*numbers).verdict


def test_what_cannot_be_replayed_is_said(recorded, budget_dataset):
    sound = dataset(recorded)
    with pytest.raises(UserError, match="No environment"):
        calibrate(dataclasses.replace(sound, spec=None))
    with pytest.raises(UserError, match="nothing to calibrate"):
        calibrate(budget_dataset)
    spec = dataclasses.replace(sound.spec, id="CartPole-v1", kwargs=())
    with pytest.raises(UserError, match="set_state"):
        calibrate(dataclasses.replace(sound, spec=spec))
