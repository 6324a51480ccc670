"""An ant that learns to walk to goals on an endless floor, for AntMaze's data.

It observes its own state and the direction of the goal, both in the torso's frame, so
that one gait serves all directions. A goal is 2 to 8 units away; a new one follows
when it is reached, or after `PATIENCE` steps. The reward is the speed towards the goal,
plus a bonus for being upright, minus the cost of actions; an episode ends with a fall.
The dynamics are those of `offjax.envs.antmaze`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from offjax.envs.antmaze import SECONDS, Ants
from offjax.types import EnvSpec

NAME = "ant_goal"
OBSERVATION_DIM = 29
HORIZON = 500
GOAL_DISTANCE = (2.0, 8.0)
REACHED = 0.5
PATIENCE = 100  # steps after which a goal is given up
BONUS = 0.2
ACTION_COST = 0.05  # of Σa²
MIN_UPRIGHT = 0.5  # cosine of the torso's tilt below which the ant has fallen


def spec() -> EnvSpec:
    """Where a policy is scored: 100 is a mean speed towards goals of 1 unit/s."""
    return EnvSpec(
        id="offjax/AntGoal-v0",
        observation_dim=OBSERVATION_DIM,
        action_low=(-1.0,) * 8,
        action_high=(1.0,) * 8,
        horizon=HORIZON,
        ref_min_score=0.0,
        ref_max_score=HORIZON * SECONDS,
        score_source="a speed of 1 unit/s towards goals",
        domain="locomotion",
    )


def features(qpos: np.ndarray, qvel: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """What the policy observes of ants, [n, 29] f32.

    Height; the upward direction, the goal's and the velocity, in the torso's frame;
    angular velocity; angles and angular velocities of the joints.

    Args:
      qpos: positions [n, 15].
      qvel: velocities [n, 14].
      goals: places (x, y) to go to, [n, 2]; only their direction matters.
    """
    to_torso = np.swapaxes(_rotations(qpos[:, 3:7]), 1, 2)
    direction = np.zeros((len(qpos), 3))
    direction[:, :2] = goals - qpos[:, :2]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
    columns = (
        qpos[:, 2:3],
        to_torso[:, :, 2],
        np.einsum("nij,nj->ni", to_torso, direction),
        np.einsum("nij,nj->ni", to_torso, qvel[:, :3]),
        qvel[:, 3:6],
        qpos[:, 7:],
        qvel[:, 6:],
    )
    return np.concatenate(columns, axis=1).astype(np.float32)


def upright(qpos: np.ndarray) -> np.ndarray:
    """Cosine of the torso's tilt, [n, 15] → [n]; −1 upside down."""
    _, x, y, _ = qpos[:, 3:7].T
    return 1 - 2 * (x * x + y * y)


class AntGoal:
    """Ants on their way to goals; a `batched.BatchedEnv`."""

    def __init__(self, num_envs: int, scored: bool = False) -> None:
        """With `scored`, rewards are the distances covered towards goals, in units."""
        self.num_envs = num_envs
        self.observation_dim = OBSERVATION_DIM
        self._ants = Ants(None, num_envs)
        self._scored = scored
        self._rngs = [np.random.default_rng(0) for _ in range(num_envs)]
        self._goals = np.zeros((num_envs, 2))
        self._waited = np.zeros(num_envs, int)

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Begins episodes in places [n]; observations [n, 29]."""
        for place, seed in zip(indices, seeds, strict=True):
            self._rngs[place] = np.random.default_rng(int(seed))
        states = [self._ants.noisy(self._rngs[place]) for place in indices]
        qpos, qvel = (np.stack(column) for column in zip(*states, strict=True))
        self._ants.place(indices, qpos, qvel)
        self._renew(indices)
        return self._observe(indices)

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of places [n]: observations, rewards, and who fell."""
        before = self._distances(indices)
        self._ants.advance(indices, actions)
        after = self._distances(indices)
        rewards = before - after
        if not self._scored:
            cost = ACTION_COST * np.square(actions).sum(axis=1)
            rewards = rewards / SECONDS + BONUS - cost
        fallen = upright(self._ants.qpos[indices]) < MIN_UPRIGHT
        self._waited[indices] += 1
        over = (after <= REACHED) | (self._waited[indices] >= PATIENCE)
        self._renew(np.asarray(indices)[over])
        return self._observe(indices), rewards, fallen

    def close(self) -> None:
        """Nothing to release."""

    def _distances(self, indices: np.ndarray) -> np.ndarray:
        gaps = self._ants.qpos[indices, :2] - self._goals[indices]
        return np.linalg.norm(gaps, axis=1)

    def _renew(self, indices: np.ndarray) -> None:
        """New goals around the ants in places [n]."""
        for place in indices:
            rng = self._rngs[place]
            angle, distance = rng.uniform(-np.pi, np.pi), rng.uniform(*GOAL_DISTANCE)
            offset = distance * np.array([np.cos(angle), np.sin(angle)])
            self._goals[place] = self._ants.qpos[place, :2] + offset
        self._waited[indices] = 0

    def _observe(self, indices: np.ndarray) -> np.ndarray:
        ants = self._ants
        return features(ants.qpos[indices], ants.qvel[indices], self._goals[indices])


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """Rotation matrices [n, 3, 3] of quaternions (w, x, y, z), [n, 4]."""
    norms = np.linalg.norm(quaternions, axis=1)
    w, x, y, z = quaternions.T / norms
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)
