"""Locomotion data after D4RL's definitions, on the batched engine.

- `random`: actions uniform in their box;
- `medium`, `expert`: the policy of that name (`offjax.behavior.policies`), sampled;
- `medium-expert`: the first half of medium, then the first half of expert;
- `medium-replay`: equal parts of the snapshots from the untrained to the medium policy,
  in this order, sampled. D4RL's is the replay buffer of that training; this stands for
  it without anybody having to keep one.

Episode i of a policy depends on the seed, the policy and i alone, so a longer dataset
begins like a shorter one. Floats of other processors may differ in the last digits,
which these robots blow up within an episode; statistics stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from offjax.behavior import policies
from offjax.envs import mujoco
from offjax.errors import UserError
from offjax.types import EnvSpec

ROBOTS = ("hopper", "halfcheetah", "walker2d")
KINDS = ("random", "medium", "medium-replay", "medium-expert", "expert")
NUM_PLACES = 64  # episodes side by side

_ROLES = ("random", "medium", "expert", policies.REPLAY)


_COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "next_observations",
    "terminals",
    "infos/qpos",
    "infos/qvel",
)


class Part(NamedTuple):
    """Rows of one policy: `key` seeds its episodes, `actor` None acts at random."""

    key: tuple[int, ...]
    actor: policies.Actor | None
    num_steps: int


def parts(robot: str, kind: str, num_steps: int, seed: int = 0) -> list[Part]:
    """The policies of a dataset, and how many steps each contributes.

    Raises:
      UserError: an unknown robot or kind.
    """
    if robot not in ROBOTS or kind not in KINDS:
        raise UserError(
            f"No behaviour {kind!r} for the robot {robot!r}: robots are "
            f"{', '.join(ROBOTS)}, kinds {', '.join(KINDS)}."
        )
    roles = {"medium-replay": (policies.REPLAY,), "medium-expert": ("medium", "expert")}
    chosen: list[tuple[tuple[int, ...], policies.Actor | None]] = []
    for role in roles.get(kind, (kind,)):
        key = (seed, ROBOTS.index(robot), _ROLES.index(role))
        actors = [None] if role == "random" else policies.for_role(robot, role)
        chosen += [((*key, i), actor) for i, actor in enumerate(actors)]
    sizes = [len(rows) for rows in np.array_split(np.arange(num_steps), len(chosen))]
    return [
        Part(key, actor, size)
        for (key, actor), size in zip(chosen, sizes, strict=True)
        if size
    ]


def generate(
    robot: str,
    kind: str,
    num_steps: int = 200_000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> dict[str, np.ndarray]:
    """Rows of a dataset, episode after episode; the same for the same arguments.

    Args:
      robot: one of `ROBOTS`.
      kind: one of `KINDS`.
      num_steps: N.
      seed: of resets and action noise.
      progress: called with a line of text every few seconds.

    Returns:
      observations [N, O] f32, actions [N, A] f32, next_observations [N, O] f32,
      rewards [N] f32, terminals [N] bool (the robot fell), timeouts [N] bool (the
      episode's 1000th step, or the last row of a policy's part), infos/qpos [N, nq]
      and infos/qvel [N, nv] f64 (the simulator's state at `observations`).

    Raises:
      UserError: an unknown robot or kind, no steps, or no batched engine.
    """
    if num_steps < 1:
        raise UserError(
            f"{num_steps} steps of {robot} were asked for: at least 1 is needed."
        )
    if not mujoco.has_engine():
        raise UserError(
            f"Collecting {robot} needs mujoco.batch, which is not installed. Run "
            "`pip install 'offjax[mujoco]'` (MuJoCo 3.17 or later)."
        )
    report = reporter(num_steps, progress or (lambda _: None))
    collected = []
    done = 0
    for part in parts(robot, kind, num_steps, seed):
        collected.append(_collect(mujoco.spec(robot), part, done, report))
        done += part.num_steps
    return {
        key: np.concatenate([rows[key] for rows in collected]) for key in collected[0]
    }


def reporter(
    total: int, say: Callable[[str], None], seconds: float = 5.0
) -> Callable[[int], None]:
    """What to call with the steps done so far; says how far and how fast at times."""
    started = last = time.monotonic()

    def report(steps: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > seconds and steps < total:
            last = now
            rate = steps / (now - started)
            left = (total - steps) / rate
            say(
                f"{steps:,}/{total:,} transitions  {rate:,.0f}/s  "
                f"ETA {time.strftime('%H:%M:%S', time.gmtime(left))}"
            )

    return report


class _Episode:
    """One episode while it is recorded: its noise, and rows of every column."""

    def __init__(self, part: Part, number: int, action_dim: int) -> None:
        self.seed = int(
            np.random.SeedSequence([*part.key, number]).generate_state(1)[0]
        )
        rng = np.random.default_rng([*part.key, number, 1])
        shape = (mujoco.HORIZON, action_dim)
        uniform = part.actor is None
        noise = rng.uniform(-1, 1, shape) if uniform else rng.standard_normal(shape)
        self.noise = noise.astype(np.float32)
        self.rows: list[tuple[np.ndarray, ...]] = []

    def columns(self) -> dict[str, np.ndarray]:
        """Its rows as arrays; the last is a time-out unless it ended the MDP."""
        columns = zip(*self.rows, strict=True)
        arrays = {n: np.stack(c) for n, c in zip(_COLUMNS, columns, strict=True)}
        arrays["rewards"] = arrays["rewards"].astype(np.float32)
        timeouts = np.zeros(len(self.rows), bool)
        timeouts[-1] = not arrays["terminals"][-1]
        return {**arrays, "timeouts": timeouts}


def _collect(
    spec: EnvSpec, part: Part, done: int, report: Callable[[int], None]
) -> dict[str, np.ndarray]:
    """The first `part.num_steps` rows of a policy's episodes 0, 1, 2, …"""
    num_places = min(NUM_PLACES, -(-part.num_steps // 100))
    env = mujoco.MujocoBatch(spec, num_places)
    episodes: list[_Episode] = []
    running: list[_Episode | None] = [None] * num_places
    observations = np.zeros((num_places, spec.observation_dim), np.float32)
    steps = 0
    while True:
        # Once what has begun is enough, nothing more begins, but all is finished:
        # an episode's place among the rows is its number, not its end.
        free = [i for i, e in enumerate(running) if e is None]
        if free and steps < part.num_steps:
            fresh = [
                _Episode(part, len(episodes) + i, spec.action_dim)
                for i in range(len(free))
            ]
            episodes += fresh
            observations[free] = env.reset(np.array(free), [e.seed for e in fresh])
            for place, episode in zip(free, fresh, strict=True):
                running[place] = episode
        active = [(i, e) for i, e in enumerate(running) if e is not None]
        if not active:
            break
        places = np.array([i for i, _ in active])
        noise = np.stack([e.noise[len(e.rows)] for _, e in active])
        seen = observations[places]
        actions = noise if part.actor is None else part.actor.sample(seen, noise)
        states = env.states(places)
        following, rewards, terminals = env.step(places, actions)
        observations[places] = following
        columns = (seen, actions, rewards, following, terminals, *states)
        for (place, episode), row in zip(
            active, zip(*columns, strict=True), strict=True
        ):
            episode.rows.append(row)
            if row[4] or len(episode.rows) == spec.horizon:
                running[place] = None
        steps += len(active)
        report(done + steps)
    return _first_rows(episodes, part.num_steps)


def _first_rows(episodes: list[_Episode], num_steps: int) -> dict[str, np.ndarray]:
    """Episodes one after the other, cut to `num_steps`; the last row ends one."""
    columns = [episode.columns() for episode in episodes]
    rows = {
        key: np.concatenate([c[key] for c in columns])[:num_steps] for key in columns[0]
    }
    rows["timeouts"][-1] = not rows["terminals"][-1]
    return rows
