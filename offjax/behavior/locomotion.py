"""Locomotion data after D4RL's definitions, on the batched engine.

- `random`: actions uniform in their box;
- `medium`, `expert`: the policy of that name (`offjax.behavior.policies`), sampled;
- `medium-expert`: the first half of medium, then the first half of expert;
- `medium-replay`, `full-replay`: all transitions of the training up to the medium
  policy, or to its end (`offjax.behavior.rerun`). Its episodes run side by side and are
  put one after the other here, in the order in which they began.

Of version 0, `medium-replay` is made of equal parts of snapshots from the untrained to
the medium policy, sampled, and there is no `full-replay`.

Episode i of a policy depends on the seed, the policy and i alone, so a longer dataset
begins like a shorter one. On other processors floats may differ in the last digits,
which these robots blow up within an episode.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offjax import cache
from offjax.behavior import policies, rerun
from offjax.envs import mujoco
from offjax.errors import UserError
from offjax.types import EnvSpec

ROBOTS = ("hopper", "halfcheetah", "walker2d")
KINDS = ("random", "medium", "medium-replay", "medium-expert", "expert")
ROBOTS_V1 = (*ROBOTS, "ant")
SAMPLED_V1 = ("random", "medium", "medium-expert", "expert")
REPLAYS = ("medium-replay", "full-replay")
NUM_PLACES = 64  # episodes side by side
CHUNK = 256_000  # rows that are kept when a collection is interrupted

_ROLES = ("random", "medium", "expert", policies.REPLAY)


class Part(NamedTuple):
    """Rows of one policy: `key` seeds its episodes, `actor` None acts at random."""

    key: tuple[int, ...]
    actor: policies.Actor | None
    num_steps: int


def parts(
    robot: str, kind: str, num_steps: int, seed: int = 0, version: int = 0
) -> list[Part]:
    """The policies of a dataset, and how many steps each contributes.

    Raises:
      UserError: an unknown robot or kind, or one that is no mixture of policies.
    """
    robots, kinds = (ROBOTS, KINDS) if version == 0 else (ROBOTS_V1, SAMPLED_V1)
    if robot not in robots or kind not in kinds:
        raise UserError(
            f"No behavior {kind!r} for the robot {robot!r} in version {version}: "
            f"robots are {', '.join(robots)}, kinds {', '.join(kinds)}."
        )
    roles = {"medium-replay": (policies.REPLAY,), "medium-expert": ("medium", "expert")}
    chosen: list[tuple[tuple[int, ...], policies.Actor | None]] = []
    for role in roles.get(kind, (kind,)):
        key = (seed, ROBOTS_V1.index(robot), _ROLES.index(role))
        actors = [None] if role == "random" else policies.for_role(robot, role, version)
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
    version: int = 0,
    scratch: Path | None = None,
    chunk: int = CHUNK,
) -> dict[str, np.ndarray]:
    """Rows of a dataset, episode after episode; the same for the same arguments.

    Args:
      robot: one of `ROBOTS`, of version 1 one of `ROBOTS_V1`.
      kind: one of `KINDS`, of version 1 one of `SAMPLED_V1`.
      num_steps: N.
      seed: of resets and action noise.
      progress: called with a line of text every few seconds.
      version: of the dataset.
      scratch: folder where finished chunks of about `chunk` rows are kept, so that an
        interrupted collection goes on there; only of version 1.
      chunk: see `scratch`.

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
    mujoco.require_engine(robot)
    report = reporter(num_steps, progress or (lambda _: None))
    collected = []
    done = 0
    for number, part in enumerate(parts(robot, kind, num_steps, seed, version)):
        spec = mujoco.spec(robot)
        if version == 0:
            rows, _ = _collect(spec, part, 0, part.num_steps, done, report)
        else:
            folder = None if scratch is None else scratch / str(number)
            rows = _in_chunks(spec, part, folder, chunk, done, report)
        collected.append(_first_rows(rows, part.num_steps))
        done += part.num_steps
    return {
        key: np.concatenate([rows[key] for rows in collected]) for key in collected[0]
    }


def replay(
    robot: str,
    kind: str,
    num_steps: int | None = None,
    progress: Callable[[str], None] | None = None,
    folder: Path | None = None,
) -> tuple[dict[str, np.ndarray], str]:
    """Rows of a training that is run again, of version 1.

    Args:
      robot: one of `ROBOTS_V1`.
      kind: one of `REPLAYS`.
      num_steps: N; fewer than all leaves out episodes, evenly.
      progress: as of `generate`.
      folder: of the packaged policies; by default this package's.

    Returns:
      Arrays as of `generate`, and a remark about the policy at their end.

    Raises:
      UserError: the training has fewer steps, or is not packaged.
    """
    folder = folder or policies.folder(1)
    history = rerun.load(folder / f"{robot}.json")
    total = replay_steps(robot, kind, folder)
    num_steps = total if num_steps is None else num_steps
    if not 1 <= num_steps <= total:
        raise UserError(
            f"{num_steps:,} steps of {robot}'s {kind} were asked for: its training "
            f"has {total:,}. Ask for 1 to {total:,}."
        )
    report = reporter(total, progress or (lambda _: None))
    episodes, actor = rerun.rows(history, total, report)
    remark = ""
    if kind == "medium-replay":
        remark = _same_policy(folder, robot, actor)
    chosen = _evenly(episodes, num_steps)
    rows = {key: np.concatenate([e[key] for e in chosen]) for key in chosen[0]}
    return _first_rows(rows, num_steps), remark


def replay_steps(robot: str, kind: str, folder: Path | None = None) -> int:
    """Steps of the training that a replay dataset holds."""
    folder = folder or policies.folder(1)
    if kind == "full-replay":
        return rerun.load(folder / f"{robot}.json").num_steps
    (row,) = policies.rows_of(robot, "medium", folder)
    return int(row["env_steps"])


def _same_policy(folder: Path, robot: str, actor: policies.Actor) -> str:
    """Whether the training, run again, came to the packaged medium policy."""
    (row,) = policies.rows_of(robot, "medium", folder)
    packaged = policies.load(folder / f"{robot}.npz")[row["snapshot"]]
    if policies.equal(policies.rounded(actor), packaged):
        return "the training came to the packaged medium policy again, bit for bit"
    return (
        "the training came to another medium policy than the packaged one, as it may "
        "on another processor or with other versions of JAX and MuJoCo"
    )


def _evenly(
    episodes: list[dict[str, np.ndarray]], num_steps: int
) -> list[dict[str, np.ndarray]]:
    """Episodes that are evenly spread and have `num_steps` rows or a little more."""
    lengths = np.array([len(episode["rewards"]) for episode in episodes])
    ends = np.cumsum(lengths)
    if num_steps == ends[-1]:
        return episodes
    # An episode is taken when the share of the rows so far falls behind.
    share, taken, chosen = num_steps / ends[-1], 0, []
    for episode, length, end in zip(episodes, lengths, ends, strict=True):
        if taken < share * end and taken < num_steps:
            chosen.append(episode)
            taken += length
    return chosen


def reporter(
    total: int, say: Callable[[str], None], seconds: float = 5.0
) -> Callable[[int], None]:
    """What to call with the steps done so far; draws a bar with rate and ETA at times.

    The rate is that of the steps since the first call: others were done before.
    """
    began = last = time.monotonic()
    first: int | None = None

    def report(steps: int) -> None:
        nonlocal last, first
        now = time.monotonic()
        if first is None:
            first = steps
        if now - last > seconds and first < steps < total:
            last = now
            rate = (steps - first) / (now - began)
            left = (total - steps) / rate
            bar = "#" * (20 * steps // total)
            say(
                f"[{bar:.<20}] {100 * steps // total:3d} %  "
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
        arrays = {n: np.stack(c) for n, c in zip(rerun.COLUMNS, columns, strict=True)}
        arrays["rewards"] = arrays["rewards"].astype(np.float32)
        return rerun.with_timeouts(arrays)


def _in_chunks(
    spec: EnvSpec,
    part: Part,
    folder: Path | None,
    chunk: int,
    done: int,
    report: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Rows of a policy's episodes 0, 1, 2, …, kept in `folder` chunk by chunk."""
    chunks: list[dict[str, np.ndarray]] = []
    num_rows = first = 0
    while num_rows < part.num_steps:
        wanted = min(chunk, part.num_steps - num_rows)
        path = None if folder is None else folder / f"{len(chunks)}.npz"
        found = None if path is None else cache.load(path)
        if found is None:
            rows, episodes = _collect(
                spec, part, first, wanted, done + num_rows, report
            )
            found = {**rows, "num_episodes": np.array(episodes)}
            if path is not None:
                cache.save(path, found)
        first += int(found.pop("num_episodes"))
        chunks.append(found)
        num_rows += len(found["rewards"])
        report(done + num_rows)
    return {key: np.concatenate([c[key] for c in chunks]) for key in chunks[0]}


def _collect(
    spec: EnvSpec,
    part: Part,
    first: int,
    num_steps: int,
    done: int,
    report: Callable[[int], None],
) -> tuple[dict[str, np.ndarray], int]:
    """A policy's episodes `first`, `first` + 1, … that have `num_steps` rows or more.

    Returns:
      Their rows, and how many they are.
    """
    num_places = min(NUM_PLACES, -(-num_steps // 100))
    env = mujoco.MujocoBatch(spec, num_places)
    episodes: list[_Episode] = []
    running: list[_Episode | None] = [None] * num_places
    observations = np.zeros((num_places, spec.observation_dim), np.float32)
    steps = 0
    while True:
        # Once what has begun is enough, nothing more begins, but all is finished:
        # an episode's place among the rows is its number, not its end.
        free = [i for i, e in enumerate(running) if e is None]
        if free and steps < num_steps:
            fresh = [
                _Episode(part, first + len(episodes) + i, spec.action_dim)
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
    arrays = [episode.columns() for episode in episodes]
    rows = {key: np.concatenate([a[key] for a in arrays]) for key in arrays[0]}
    return rows, len(episodes)


def _first_rows(rows: dict[str, np.ndarray], num_steps: int) -> dict[str, np.ndarray]:
    """The first `num_steps` rows; the last of them ends an episode."""
    cut = {key: column[:num_steps].copy() for key, column in rows.items()}
    cut["timeouts"][-1] = not cut["terminals"][-1]
    return cut
