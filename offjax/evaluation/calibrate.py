"""Whether the installed simulator still is the one that recorded a dataset.

Recorded actions are replayed from recorded states, for one step and for several in open
loop. Where what comes out differs, scores of today are not comparable with published
ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from offjax import envs
from offjax.datasets.dataset import Dataset
from offjax.envs import antmaze, batched, maze2d, mujoco
from offjax.errors import UserError
from offjax.evaluation import environments
from offjax.types import EnvSpec

TOLERANCE = 1e-3
"""Difference, in standard deviations of the data, above which a row has drifted."""

LARGE = 1e-2
"""Above it the two simulators are taken for different ones."""

Replay = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(qpos [n, q], qvel [n, v], actions [n, K, A]) → observations [n, K, O] after each
step, rewards [n, K]."""


class Drift(NamedTuple):
    """Differences between data and simulator, in standard deviations of the data."""

    median: float
    p99: float
    max: float
    above: float  # share of rows above TOLERANCE


class Report(NamedTuple):
    """What a calibration found."""

    dataset: str
    environment: str
    states: str  # where the states came from
    rows: int
    num_steps: int
    observations: Drift  # of one step
    rewards: Drift  # of one step
    open_loop: Drift  # of the observations after `num_steps` steps

    @property
    def verdict(self) -> str:
        """What the numbers mean for scores, in a sentence."""
        both = (self.observations, self.rewards)
        if max(d.p99 for d in both) <= TOLERANCE:
            return (
                "The simulator is the one of the data, up to rounding: scores mean "
                "what they meant."
            )
        if max(d.median for d in both) <= TOLERANCE:
            rare = max(d.above for d in both)
            return (
                f"The simulator agrees with the data except in {rare:.1%} of the steps "
                "(contacts, as a rule): scores are comparable, single episodes are not."
            )
        if max(d.median for d in both) <= LARGE:
            return (
                "The simulator deviates a little from the data at most steps: compare "
                "scores with those measured in the same simulator only."
            )
        differing = "dynamics" if self.observations.median > LARGE else "rewards"
        return (
            f"The simulator's {differing} are not those of the data: scores do not "
            "mean what published ones mean."
        )

    def __str__(self) -> str:
        lines = [
            f"dataset       {self.dataset}",
            f"environment   {self.environment}",
            f"states        {self.rows:,} from {self.states}",
            "differences in standard deviations of the data"
            f"{'median':>14}{'99 %':>11}{'max':>11}{f'> {TOLERANCE:g}':>10}",
        ]
        named = {
            "observation after 1 step": self.observations,
            "reward of 1 step": self.rewards,
            f"observation after {self.num_steps} steps": self.open_loop,
        }
        lines += [
            f"  {name:44s}{d.median:14.2e}{d.p99:11.2e}{d.max:11.2e}{d.above:10.1%}"
            for name, d in named.items()
        ]
        return "\n".join([*lines, self.verdict])


def calibrate(
    dataset: Dataset, num_rows: int = 1000, num_steps: int = 10, seed: int = 0
) -> Report:
    """Replays `num_rows` stretches of a dataset in its environment.

    Args:
      dataset: with `infos` qpos and qvel, or observations that hold the full state
        (maze2d and AntMaze; Hopper, HalfCheetah, Walker2d and Ant lack only the place
        along the track, on which nothing depends).
      num_rows: stretches, drawn without replacement.
      num_steps: K, steps of a stretch in open loop.
      seed: of the draw.

    Raises:
      UserError: no environment, one whose states cannot be set, no states in the data,
        or no episode of K steps.
    """
    spec = dataset.spec
    if spec is None:
        raise UserError(
            f"No environment is known for dataset {dataset.card.id!r}, so there is "
            "nothing to calibrate."
        )
    replay, num_positions = _replay(spec, _hidden_goal(dataset, spec))
    rows, qpos, qvel, source = _states(dataset, spec, num_positions)
    starts = np.intersect1d(rows, _starts(dataset, num_steps))
    if not len(starts):
        raise UserError(
            f"Dataset {dataset.card.id!r} has no stretch of {num_steps} steps with "
            "recorded states; ask for fewer steps with --num_steps."
        )
    rng = np.random.default_rng(seed)
    starts = np.sort(rng.choice(starts, min(num_rows, len(starts)), replace=False))
    window = starts[:, None] + np.arange(num_steps)
    observations, rewards = replay(qpos[starts], qvel[starts], dataset.actions[window])
    deviation = np.maximum(dataset.observations.std(0, dtype=np.float64), 1e-6)
    spread = max(dataset.rewards.std(dtype=np.float64), 1e-6)
    recorded = _next_observations(dataset)
    moved = np.abs(observations - recorded[window]) / deviation
    paid = np.abs(rewards[:, 0] - dataset.rewards[starts]) / spread
    return Report(
        dataset.card.id,
        " ".join([spec.id, *(f"{k}={v}" for k, v in spec.kwargs)]),
        source,
        len(starts),
        num_steps,
        _drift(moved[:, 0].max(-1)),
        _drift(paid),
        _drift(moved[:, -1].max(-1)),
    )


def _drift(differences: np.ndarray) -> Drift:
    return Drift(
        float(np.median(differences)),
        float(np.quantile(differences, 0.99)),
        float(np.max(differences)),
        float(np.mean(differences > TOLERANCE)),
    )


def _starts(dataset: Dataset, num_steps: int) -> np.ndarray:
    """Rows from which `num_steps` steps with known next observations follow."""
    ends = dataset.episode_ends
    last = np.repeat(ends, np.diff(ends, prepend=0))  # one past each row's episode
    known = last if dataset.next_observations is not None else last - 1
    rows = np.arange(len(dataset))
    return rows[rows + num_steps <= known]


def _next_observations(dataset: Dataset) -> np.ndarray:
    if dataset.next_observations is not None:
        return dataset.next_observations
    return np.concatenate([dataset.observations[1:], dataset.observations[-1:]])


def _states(
    dataset: Dataset, spec: EnvSpec, num_positions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Rows whose state is known, qpos and qvel of all rows, and where they are from."""
    rows, infos = np.arange(len(dataset)), dataset.infos
    seen = dataset.observations.astype(np.float64)
    if spec.id == antmaze.ID:  # the infos of D4RL's files are of the next row
        return rows, seen[:, :15], seen[:, 15:], "the observations"
    if "qpos" in infos and "qvel" in infos:
        qpos, qvel = (np.asarray(infos[key], np.float64) for key in ("qpos", "qvel"))
        return rows, qpos, qvel, "infos/qpos and infos/qvel"
    if spec.id == maze2d.ID:
        return rows, seen[:, :2], seen[:, 2:4], "the observations"
    if spec.id not in mujoco.IDS:
        raise UserError(
            f"Dataset {dataset.card.id!r} has no infos qpos and qvel, and the "
            f"observations of {spec.id} do not hold the full state: it cannot be "
            "replayed."
        )
    name = spec.id.rsplit("-", 1)[0]
    robot = next(r for r in mujoco.ROBOTS.values() if r.id == name)
    split = num_positions - robot.skipped
    qpos = np.pad(seen[:, :split], ((0, 0), (robot.skipped, 0)))
    qvel = seen[:, split : robot.observation_dim]
    whole = (np.abs(qvel) < robot.velocity_clip).all(1)  # else the velocity is lost
    return rows[whole], qpos, qvel, "the observations"


def _hidden_goal(dataset: Dataset, spec: EnvSpec) -> dict[str, Any]:
    """AntMaze's goal, which D4RL's files lack: the middle of the rewarded places."""
    rows = np.flatnonzero(dataset.rewards > 0.5)
    if spec.id != antmaze.ID or not len(rows):
        return {}
    places = _next_observations(dataset)[rows, :2]
    return {"goal": (places.min(axis=0) + places.max(axis=0)) / 2}


def _replay(spec: EnvSpec, options: dict[str, Any]) -> tuple[Replay, int]:
    """How the environment is stepped from given states, and its number of positions."""
    if spec.id == maze2d.ID:
        return _replay_maze(envs.make(spec)), 2
    if spec.id in envs.JAX_ENVS:
        raise UserError(
            f"The states of {spec.id} cannot be set: it runs on the code that "
            "collects its data, and there is nothing to calibrate."
        )
    return _replay_mujoco(spec, options)


def _replay_maze(env: Any) -> Replay:
    def stretch(qpos: Any, qvel: Any, actions: Any) -> Any:
        def step(state: Any, action: Any) -> Any:
            new = env.transition(state, action)
            return new, (env.observation(new), env.reward(state, action, new))

        state = maze2d.State(qpos.astype(np.float32), qvel.astype(np.float32))
        return jax.lax.scan(step, state, actions)[1]

    many = jax.jit(jax.vmap(stretch))
    return lambda *given: jax.tree.map(np.asarray, many(*given))


def _replay_mujoco(spec: EnvSpec, options: dict[str, Any]) -> tuple[Replay, int]:
    reason = environments.missing(spec)
    if reason is not None:
        raise UserError(f"Nothing can be replayed: {reason}")
    env = batched.make_one(spec)
    robot: Any = env.unwrapped
    if not hasattr(robot, "set_state"):
        raise UserError(
            f"The states of {spec.id} cannot be set (it has no `set_state`), so its "
            "data cannot be replayed."
        )
    env.reset(seed=0, options=options)

    def replay(
        qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = actions.shape[:2]
        observations = np.zeros((*shape, spec.observation_dim))
        rewards = np.zeros(shape)
        for i, (position, velocity) in enumerate(zip(qpos, qvel, strict=True)):
            robot.set_state(position, velocity)
            for k, action in enumerate(actions[i]):
                observation, reward, *_ = env.step(action)
                observations[i, k], rewards[i, k] = observation, float(reward)
        return observations, rewards

    return replay, robot.model.nq
