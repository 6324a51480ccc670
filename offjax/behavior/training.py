"""Trains a robot's behavior policies and keeps snapshots of them along the way.

Many episodes are stepped by the batched engine; after each vector step the networks
get their share of updates in one compiled call. Snapshots are denser at first, since
the way from an untrained policy to a medium one is short. A training that is started
again goes on from its last checkpoint, also with more steps than at first: the rates
then fall anew over the second half of the longer one. Episodes begin anew.
"""

from __future__ import annotations

import csv
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offjax import cache
from offjax.behavior import ant_goal, policies, sac
from offjax.envs import mujoco
from offjax.envs.batched import BatchedEnv, make_batched
from offjax.errors import UserError
from offjax.types import EnvSpec, Pytree

EVAL_SEED = 10**9  # of the first evaluation episode; training's count from the run's
SNAPSHOTS = "snapshots.csv"
CHECKPOINT = "checkpoint.npz"


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training does; SAC's `num_updates` follows from the other fields."""

    robot: str  # a name of `offjax.envs.mujoco.ROBOTS`, or `ant_goal.NAME`
    num_steps: int  # environment steps in all
    update_ratio: float = 0.5  # updates per environment step
    num_envs: int = 32  # episodes side by side
    warmup: int = 10_000  # steps of uniform actions before the first update
    capacity: int = 1_000_000  # rows of the replay buffer
    num_snapshots: int = 60  # after that of the untrained policy
    eval_episodes: int = 8  # deterministic ones, per snapshot
    checkpoint_seconds: float = 300.0  # between two checkpoints
    seed: int = 0  # of everything
    algorithm: sac.Config = dataclasses.field(default_factory=sac.Config)

    @property
    def updates_per_call(self) -> int:
        """Updates after each vector step, a multiple of the policy's delay."""
        delay = self.algorithm.policy_delay
        return max(round(self.update_ratio * self.num_envs / delay), 1) * delay

    def config(self) -> sac.Config:
        """SAC's hyperparameters with the number of updates that the plan makes."""
        calls = max(self.num_steps - self.warmup, 0) // self.num_envs
        return dataclasses.replace(
            self.algorithm, num_updates=max(calls * self.updates_per_call, 1)
        )

    def snapshot_steps(self) -> list[int]:
        """Environment steps at which snapshots are taken, ascending from 0."""
        fractions = (np.arange(1, self.num_snapshots + 1) / self.num_snapshots) ** 2
        learning = max(self.num_steps - self.warmup, 0)
        return [0, *(self.warmup + int(f * learning) for f in fractions)]


def environments(robot: str, num_envs: int, scored: bool = False) -> BatchedEnv:
    """Episodes of a robot side by side; `scored` if their returns are to be scored."""
    if robot == ant_goal.NAME:
        return ant_goal.AntGoal(num_envs, scored)
    return make_batched(mujoco.spec(robot), num_envs)


class Replay:
    """The last `capacity` transitions on the host, drawn with replacement."""

    def __init__(self, capacity: int, observation_dim: int, action_dim: int) -> None:
        shapes = ((observation_dim,), (action_dim,), (), (observation_dim,), ())
        self._rows = sac.Batch(*(np.zeros((capacity, *s), np.float32) for s in shapes))
        self._capacity = capacity
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self._capacity)

    def add(self, *columns: np.ndarray) -> None:
        """Appends rows; the columns are `Batch`'s, [n, ...] each."""
        count = len(columns[0])
        places = (self._added + np.arange(count)) % self._capacity
        for kept, new in zip(self._rows, columns, strict=True):
            kept[places] = new
        self._added += count

    def sample(self, rng: np.random.Generator, updates: int, size: int) -> sac.Batch:
        """Batches [updates, size, ...]."""
        places = rng.integers(0, len(self), (updates, size))
        return sac.Batch(*(column[places] for column in self._rows))

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` needs."""
        kept = {
            f"replay_{name}": column[: len(self)]
            for name, column in self._rows._asdict().items()
        }
        return {**kept, "replay_added": np.array(self._added)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes up the rows of `arrays()`."""
        self._added = int(arrays["replay_added"])
        for name, column in self._rows._asdict().items():
            rows = arrays[f"replay_{name}"]
            column[: len(rows)] = rows


class _Episodes:
    """Episodes under way, one in each place of `env`; one that ends is replaced.

    `over` are the places whose episode the last step ended, `finished` its returns.
    """

    def __init__(
        self, env: BatchedEnv, horizon: int, seeds: Callable[[int], list[int]]
    ) -> None:
        self._env, self._horizon, self._seeds = env, horizon, seeds
        self._places = np.arange(env.num_envs)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, int)
        self.observations = env.reset(self._places, seeds(env.num_envs))
        self.over = np.zeros(0, int)
        self.finished: list[float] = []

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """One step of every place; the rows, in the order of `sac.Batch`."""
        following, rewards, terminals = self._env.step(self._places, actions)
        rows = (self.observations, actions, rewards, following, terminals)
        self._returns += rewards
        self._lengths += 1
        over = np.flatnonzero(terminals | (self._lengths >= self._horizon))
        self.over = over
        self.finished = self._returns[over].tolist()
        self.observations = following
        if over.size:
            self.observations = following.copy()
            self.observations[over] = self._env.reset(over, self._seeds(over.size))
            self._returns[over], self._lengths[over] = 0.0, 0
        return rows


class Learner:
    """What a training changes, advanced one step of all environments at a time.

    `steps` are the environment steps so far, `env` the environments of the session,
    `episodes` those under way in them.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._spec = policies.spec(plan.robot)
        self._config = plan.config()
        self._state = sac.init(
            jax.random.key(plan.seed),
            self._spec.observation_dim,
            self._spec.action_dim,
            self._config,
        )
        self._replay = Replay(
            plan.capacity, self._spec.observation_dim, self._spec.action_dim
        )
        self.steps = 0
        self._started = 0  # episodes

    @property
    def actor(self) -> Pytree:
        """Parameters of the policy as it is now."""
        return jax.device_get(self._state.actor.params)

    def begin(self, num_steps: int) -> None:
        """Begins a session: new episodes, for a training of `num_steps` in all."""
        self._config = dataclasses.replace(self._plan, num_steps=num_steps).config()
        self.env = environments(self._plan.robot, self._plan.num_envs)
        self.episodes = _Episodes(self.env, self._spec.horizon, self._seeds)
        self._rng = np.random.default_rng([self._plan.seed, self.steps])

    def advance(self) -> tuple[np.ndarray, ...]:
        """One step in all places, then its share of updates; the step's rows."""
        rows = self.episodes.step(self._act(self.episodes.observations))
        self._replay.add(*rows)
        self.steps += self._plan.num_envs
        if self.steps > self._plan.warmup:
            self._learn()
        return rows

    def _act(self, observations: np.ndarray) -> np.ndarray:
        """Actions [E, A]: uniform at first, then sampled from the policy."""
        if self.steps < self._plan.warmup:
            shape = (len(observations), self._spec.action_dim)
            return self._rng.uniform(-1, 1, shape).astype(np.float32)
        key = jax.random.fold_in(jax.random.key(self._plan.seed + 2), self.steps)
        return np.asarray(sac.act(self._state.actor.params, observations, key))

    def _learn(self) -> None:
        """The updates that follow a vector step."""
        batches = self._replay.sample(
            self._rng, self._plan.updates_per_call, self._config.batch_size
        )
        self._state, _ = sac.update_many(
            self._state, batches, jax.random.key(self._plan.seed + 1), self._config
        )

    def _seeds(self, count: int) -> list[int]:
        """Seeds of the next episodes; no two trainings share any."""
        first = self._plan.seed * 10**7 + self._started
        self._started += count
        return list(range(first, first + count))


class Training(Learner):
    """A training in a folder: `run` starts it or goes on with it."""

    def __init__(
        self, plan: Plan, folder: Path, say: Callable[[str], None] = print
    ) -> None:
        super().__init__(plan)
        self._folder, self._say = folder, say
        self._sessions: list[tuple[int, int]] = []
        self._last_snapshot = -1
        self._recent: list[float] = []  # returns of the last training episodes

    def run(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains to the end, or until `stop()`; the folder holds snapshots and state.

        Returns:
          Whether it came to the end.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._restore()
        plan = self._plan
        judge = environments(plan.robot, plan.eval_episodes, scored=True)
        self._sessions.append((self.steps, plan.num_steps))
        self.begin(plan.num_steps)
        due = [s for s in plan.snapshot_steps() if s > self._last_snapshot]
        first_step, started = self.steps, time.monotonic()
        saved = started
        while True:
            if due and self.steps >= due[0]:
                due = [s for s in due if s > self.steps]
                rate = (self.steps - first_step) / (time.monotonic() - started + 1e-9)
                self._snapshot(judge, rate)
            if self.steps >= plan.num_steps:
                break
            self.advance()
            self._recent = [*self._recent, *self.episodes.finished][-20:]
            if stop():
                break
            if time.monotonic() - saved > plan.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
        self._save()
        return self.steps >= plan.num_steps

    def _named(self) -> str:
        """The plan but for its length, which may grow."""
        return repr(dataclasses.replace(self._plan, num_steps=0))

    def _snapshot(self, judge: BatchedEnv, rate: float) -> None:
        """Keeps the policy, and writes what it scores."""
        actor = policies.from_params(self.actor)
        name = f"{self.steps:09d}"
        policies.save(self._folder / "snapshots" / f"{name}.npz", {name: actor})
        returns = policies.evaluate(actor, judge, self._spec.horizon, EVAL_SEED)
        row = {
            "snapshot": name,
            "env_steps": self.steps,
            "updates": int(self._state.step),
            **scores(self._spec, returns),
        }
        path = self._folder / SNAPSHOTS
        write_table(path, [*read_table(path), row] if path.exists() else [row])
        left = max(self._plan.num_steps - self.steps, 0) / max(rate, 1e-9)
        recent = np.mean(self._recent) if self._recent else float("nan")
        self._say(
            f"{self._plan.robot}  {self.steps:,}/{self._plan.num_steps:,} steps  "
            f"{rate:,.0f} steps/s  ETA {time.strftime('%H:%M:%S', time.gmtime(left))}  "
            f"return {row['return_mean']:.1f} ± {row['return_std']:.1f}  "
            f"score {row['score']:.1f}  while training {recent:.1f}"
        )

    def _save(self) -> None:
        leaves = jax.tree.leaves(jax.device_get(self._state))
        arrays = {
            **{f"state{i}": leaf for i, leaf in enumerate(leaves)},
            **self._replay.arrays(),
            "counts": np.array([self.steps, self._started]),
            "sessions": np.array(self._sessions),
            "plan": np.array(self._named()),
            "recent": np.array(self._recent),
        }
        cache.save(self._folder / CHECKPOINT, arrays)

    def _restore(self) -> None:
        """Takes up the checkpoint of the same plan, if there is one."""
        path = self._folder / CHECKPOINT
        if not path.is_file():
            (self._folder / SNAPSHOTS).unlink(missing_ok=True)
            return
        with np.load(path) as file:
            if str(file["plan"]) != self._named():
                raise UserError(
                    f"The training in {self._folder} was begun as {file['plan']}, not "
                    f"as {self._named()}: choose another folder with --out, or remove "
                    "this one."
                )
            self.steps, self._started = (int(n) for n in file["counts"])
            self._sessions = [(int(a), int(b)) for a, b in file["sessions"]]
            self._recent = [float(r) for r in file["recent"]]
            leaves, treedef = jax.tree.flatten(self._state)
            kept = [jnp.asarray(file[f"state{i}"]) for i in range(len(leaves))]
            self._state = jax.tree.unflatten(treedef, kept)
            self._replay.restore(file)
        rows = read_table(self._folder / SNAPSHOTS)
        rows = [row for row in rows if int(row["env_steps"]) <= self.steps]
        self._last_snapshot = int(rows[-1]["env_steps"])
        write_table(self._folder / SNAPSHOTS, rows)
        self._say(f"{self._plan.robot}  goes on from step {self.steps:,}")


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file, column by name."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows that `read_table` reads; all have the columns of the first."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)


def scores(spec: EnvSpec, returns: np.ndarray) -> dict[str, float]:
    """Columns of a table about a policy: its return and score over episodes [N]."""
    return {
        "return_mean": round(float(returns.mean()), 2),
        "return_std": round(float(returns.std()), 2),
        "score": round(float(spec.score(returns).mean()), 2),
    }
