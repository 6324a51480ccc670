"""AntMaze data after D4RL's: an ant that is led from waypoint to waypoint.

A breadth-first search over the maze's cells gives the way; the goal-reaching policy
(`offjax.behavior.ant_goal`) walks to a point in the next cell, sampled and with noise
on its actions. An episode is rewarded as evaluation does, for a hidden point near the
goal's cell, and ends there. Few are led there; others go on around their own goal:

- `umaze`: from the start to the evaluation's goal;
- `umaze-diverse`, `<maze>-diverse`: from any free cell to any free cell;
- `<maze>-play`: from any cell but the goals to one of a list of goals.

Source: D4RL, `scripts/generation/generate_ant_maze_datasets.py` (starts, goals, noise)
and `relabel_antmaze_rewards.py` (rewards, terminals). Differences that are meant:

- D4RL's recordings go on after a terminal, one episode per step at the goal.
- D4RL takes a place for another cell as soon as it is left of or below the cell's
  middle, which leads its ants against corners; here a cell ends where its walls do, and
  the next waypoint is due near the last.
- Waypoints are drawn once per cell and episode, not at every step.
- Episodes have at most 700 or 1000 steps, not one more.
- Each episode has a hidden goal of its own, as in evaluation, not one for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from offjax.behavior import ant_goal, policies
from offjax.behavior.locomotion import reporter
from offjax.behavior.waypoint import next_cells
from offjax.envs import antmaze
from offjax.envs.antmaze import ANT_MAZES
from offjax.envs.mujoco import require_engine
from offjax.errors import UserError

NUM_PLACES = 64  # episodes side by side
ACTION_NOISE = 0.2
WAYPOINT_REACHED = 1.0
WAYPOINT_SPREAD = 1.0  # waypoints are a cell's middle + U(0, 1)²

Walk = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A low-level policy: features [64, 29] and standard normal noise [64, 8] → actions."""


class Task(NamedTuple):
    """What a dataset's episodes are."""

    name: str
    maze: str
    random_start: bool
    goals: tuple[tuple[int, int], ...]  # cells
    length: int  # steps of an episode

    @property
    def starts(self) -> np.ndarray:
        """Cells of random starts, [C, 2]: free, and no goal of a list of goals."""
        free = antmaze.layout(self.maze).free_cells
        if len(self.goals) == len(free):
            return free
        return np.array([cell for cell in free if tuple(cell) not in self.goals])


def task(name: str) -> Task:
    """The task of a dataset's name; UserError for an unknown one."""
    if name not in ANT_MAZES:
        raise UserError(
            f"No AntMaze data {name!r}: choose one of {', '.join(ANT_MAZES)}."
        )
    maze, _, kind = name.partition("-")
    layout = antmaze.layout(maze)
    goals = layout.goals
    if kind == "diverse":
        goals = tuple((int(row), int(column)) for row, column in layout.free_cells)
    return Task(name, maze, bool(kind), goals, 1000 if kind else layout.horizon)


class Navigators:
    """Leads ants through a maze, each to its goal."""

    def __init__(
        self, maze: str, places: np.ndarray, goals: np.ndarray, spreads: np.ndarray
    ) -> None:
        """Plans from `places` to `goals` (x, y), [n, 2] each.

        The waypoint of cell c is its middle + spreads[:, c], [n, cells, 2].
        """
        self._goals = goals
        self._table = next_cells(maze)
        self._columns = antmaze.layout(maze).walls.shape[1]
        cells = np.argwhere(np.ones_like(antmaze.layout(maze).walls))
        self._points = antmaze.centers(cells) + spreads
        self._target = self._cell(goals)
        self._heading = self._table[self._cell(places), self._target]

    def aim(self, ants: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Where the ants [k] of these numbers, at `places` [k, 2], should walk, [k, 2].

        In front of the goal's cell that is the next waypoint, in it the goal itself.
        An ant that has left its way gets a new one.
        """
        heading, target = self._heading[ants], self._target[ants]
        own = self._cell(places)
        gaps = np.linalg.norm(places - self._points[ants, heading], axis=1)
        onward = self._table[own, target]
        reached = gaps < WAYPOINT_REACHED
        lost = (own != heading) & (onward != heading)
        heading = np.where(reached, self._table[heading, target], heading)
        heading = np.where(lost, onward, heading)
        self._heading[ants] = heading
        last = (heading == target)[:, None]
        return np.where(last, self._goals[ants], self._points[ants, heading])

    def _cell(self, places: np.ndarray) -> np.ndarray:
        row, column = antmaze.cells_at(places).T
        return row * self._columns + column


def generate(
    name: str,
    num_steps: int = 1_000_000,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    walk: Walk | None = None,
) -> dict[str, np.ndarray]:
    """Rows of a dataset, episode after episode; the same for the same arguments.

    Episode i depends on the seed and i alone, so a longer dataset begins like a
    shorter one.

    Args:
      name: one of `ANT_MAZES`.
      num_steps: N.
      seed: of starts, goals and noise.
      progress: called with a line of text every few seconds.
      walk: the low-level policy; None takes the packaged one, sampled.

    Returns:
      observations [N, 29] f32, actions [N, 8] f32, next_observations [N, 29] f32,
      rewards [N] f32 (1 where the step leads to within .5 of the hidden goal),
      terminals [N] bool (there), timeouts [N] bool (the last row of other episodes),
      infos/goal [N, 2] f32 (the goal that the ant was led to).

    Raises:
      UserError: an unknown name, no steps, no batched engine, or no packaged policy.
    """
    what = task(name)
    if num_steps < 1:
        raise UserError(f"{num_steps} steps were asked for: at least 1 is needed.")
    require_engine("AntMaze")
    if walk is None:
        walk = policies.for_role(ant_goal.NAME, "expert")[0].sample
    report = reporter(num_steps, progress or (lambda _: None))
    places = min(NUM_PLACES, -(-num_steps // (what.length // 5)))
    ants = antmaze.Ants(what.maze, places)
    waves: list[dict[str, np.ndarray]] = []
    done = 0
    while done < num_steps:
        first = len(waves) * places
        numbers = range(first, first + places)
        beginning = begin(what, ants, seed, numbers)
        waves.append(_episodes(what, ants, walk, numbers, beginning))
        done += len(waves[-1]["rewards"])
        report(done)
    rows = {
        key: np.concatenate([w[key] for w in waves])[:num_steps] for key in waves[0]
    }
    rows["timeouts"][-1] = not rows["terminals"][-1]
    return rows


class Beginning(NamedTuple):
    """What is drawn for n episodes of T steps before they begin."""

    qpos: np.ndarray  # [n, 15]
    qvel: np.ndarray  # [n, 14]
    goals: np.ndarray  # [n, 2] where ants are led to
    hidden: np.ndarray  # [n, 2] what they are rewarded for: the same where cells agree
    spreads: np.ndarray  # [n, cells, 2] places of waypoints within their cells
    noise: np.ndarray  # [n, T, 2, 8] standard normal: the policy's, the actions'


def begin(what: Task, ants: antmaze.Ants, seed: int, numbers: range) -> Beginning:
    """Starts, goals and noise of episodes by number; `ants` are those of the maze."""
    drawn = []
    cells = antmaze.layout(what.maze).walls.size
    for number in numbers:
        rng = np.random.default_rng([seed, ANT_MAZES.index(what.name), number])
        qpos, qvel = ants.noisy(rng)
        if what.random_start:
            qpos[:2] = antmaze.start_near(rng, rng.choice(what.starts))
        cell = what.goals[rng.integers(len(what.goals))]
        goal, target = antmaze.goal_near(rng, cell), antmaze.layout(what.maze).goal
        hidden = goal if cell == target else antmaze.goal_near(rng, target)
        spreads = rng.uniform(0, WAYPOINT_SPREAD, (cells, 2))
        noise = rng.standard_normal((what.length, 2, 8), np.float32)
        drawn.append((qpos, qvel, goal, hidden, spreads, noise))
    return Beginning(*(np.stack(column) for column in zip(*drawn, strict=True)))


def _episodes(
    what: Task, ants: antmaze.Ants, walk: Walk, numbers: range, beginning: Beginning
) -> dict[str, np.ndarray]:
    """Whole episodes, run side by side, one after the other."""
    qpos, qvel, goals, hidden, spreads, noise = beginning
    running = np.arange(len(qpos))
    # A matrix product may round a row differently beside others, or in another place.
    rows = np.array(numbers) % NUM_PLACES
    features = np.zeros((NUM_PLACES, ant_goal.OBSERVATION_DIM), np.float32)
    draws = np.zeros((NUM_PLACES, 8), np.float32)
    ants.place(running, qpos, qvel)
    guide = Navigators(what.maze, qpos[:, :2], goals, spreads)
    seen = np.zeros((len(qpos), what.length + 1, 29), np.float32)
    seen[:, 0] = np.concatenate([qpos, qvel], axis=1)
    actions = np.zeros((len(qpos), what.length, 8), np.float32)
    lengths = np.full(len(qpos), what.length)
    arrived = np.zeros(len(qpos), bool)
    for t in range(what.length):
        qpos, qvel = ants.states(running)
        aims, among = guide.aim(running, qpos[:, :2]), rows[running]
        features[among] = ant_goal.features(qpos, qvel, aims)
        draws[among] = noise[running, t, 0]
        wanted = walk(features, draws)[among] + ACTION_NOISE * noise[running, t, 1]
        actions[running, t] = np.clip(wanted, -1, 1)
        ants.advance(running, actions[running, t])
        seen[running, t + 1] = np.concatenate(ants.states(running), axis=1)
        gaps = seen[running, t + 1, :2] - hidden[running]
        there = running[np.linalg.norm(gaps, axis=1) <= antmaze.GOAL_RADIUS]
        arrived[there], lengths[there] = True, t + 1
        running = running[~arrived[running]]
        if not running.size:
            break
    parts = [
        _rows(seen[i], actions[i], goals[i], lengths[i], arrived[i])
        for i in range(len(lengths))
    ]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _rows(
    seen: np.ndarray, actions: np.ndarray, goal: np.ndarray, length: int, arrived: bool
) -> dict[str, np.ndarray]:
    """One episode of `length` steps."""
    last = np.arange(length) == length - 1
    return {
        "observations": seen[:length],
        "actions": actions[:length],
        "next_observations": seen[1 : length + 1],
        "rewards": (last & arrived).astype(np.float32),
        "terminals": last & arrived,
        "timeouts": last & ~arrived,
        "infos/goal": np.tile(goal.astype(np.float32), (length, 1)),
    }
