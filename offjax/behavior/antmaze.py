"""AntMaze data after D4RL's: an ant that is led from waypoint to waypoint.

A breadth-first search over the maze's cells gives the way; the goal-reaching policy
(`offjax.behavior.ant_goal`) walks to a point in the next cell, sampled and with noise
on its actions. An episode has one start and one goal and goes on at the goal until its
time is up. All are then rewarded for the evaluation's goal, to which few were led:

- `umaze`: from the start to the evaluation's goal;
- `umaze-diverse`, `<maze>-diverse`: from any free cell to any free cell;
- `<maze>-play`: from any cell but the goals to one of a list of goals.

Source: D4RL, `scripts/generation/generate_ant_maze_datasets.py` (starts, goals, noise)
and `relabel_antmaze_rewards.py` (rewards, terminals). Differences that are meant:

- D4RL takes a place for another cell as soon as it is left of or below the cell's
  middle, which leads its ants against corners; here a cell is where its walls end, and
  the next waypoint is due near the last.
- Waypoints are drawn once per cell and episode, not at every step.
- Episodes have 700 or 1000 steps, not one more; the last may be cut.
- Rewards are for the middle of the goals that evaluation draws, not for one of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from offjax.behavior import ant_goal, policies
from offjax.behavior.locomotion import reporter
from offjax.behavior.waypoint import shortest_paths
from offjax.datasets.catalog_antmaze import ANT_MAZES
from offjax.envs import antmaze
from offjax.envs.mujoco import has_engine
from offjax.errors import UserError

NUM_PLACES = 64  # episodes side by side
ACTION_NOISE = 0.2
WAYPOINT_REACHED = 1.0
WAYPOINT_SPREAD = 1.0  # waypoints are a cell's middle + U(0, 1)²

Walk = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A low-level policy: features [n, 29] and standard normal noise [n, 8] → actions."""


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


@functools.lru_cache
def next_cells(maze: str) -> np.ndarray:
    """Shortest paths through a maze: index of the cell after i on the way to j."""
    return shortest_paths(antmaze.layout(maze).walls)


class Navigators:
    """Leads ants through a maze, each to its goal.

    Attributes:
      goals: places (x, y), [n, 2].
    """

    def __init__(
        self, maze: str, places: np.ndarray, goals: np.ndarray, spreads: np.ndarray
    ) -> None:
        """Plans from `places` [n, 2]; cell c's waypoint is its middle + spreads[:, c].

        `spreads` is [n, cells, 2] in units.
        """
        self.goals = goals
        self._table = next_cells(maze)
        self._columns = antmaze.layout(maze).walls.shape[1]
        cells = np.argwhere(np.ones_like(antmaze.layout(maze).walls))
        self._points = antmaze.centers(cells) + spreads
        self._target = self._cell(goals)
        self._heading = self._table[self._cell(places), self._target]

    def aim(self, places: np.ndarray) -> np.ndarray:
        """Where ants at `places` [n, 2] should walk to now, [n, 2].

        In front of the goal's cell that is the next waypoint, in it the goal itself.
        An ant that has left its way gets a new one.
        """
        ants = np.arange(len(places))
        own, heading = self._cell(places), self._heading
        gaps = np.linalg.norm(places - self._points[ants, heading], axis=1)
        onward = self._table[own, self._target]
        reached = gaps < WAYPOINT_REACHED
        lost = (own != heading) & (onward != heading)
        heading = np.where(reached, self._table[heading, self._target], heading)
        self._heading = np.where(lost, onward, heading)
        last = (self._heading == self._target)[:, None]
        return np.where(last, self.goals, self._points[ants, self._heading])

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
      rewards [N] f32 (whether the step leads to within .5 of the evaluation's goal),
      terminals [N] bool (the same), timeouts [N] bool (an episode's last row),
      infos/goal [N, 2] f32 (the goal that the ant was led to).

    Raises:
      UserError: an unknown name, no steps, no batched engine, or no packaged policy.
    """
    what = task(name)
    if num_steps < 1:
        raise UserError(f"{num_steps} steps were asked for: at least 1 is needed.")
    if not has_engine():
        raise UserError(
            "Collecting AntMaze needs mujoco.batch, which is not installed. Run "
            "`pip install 'offjax[mujoco]'` (MuJoCo 3.17 or later)."
        )
    if walk is None:
        walk = policies.for_role(ant_goal.NAME, "expert")[0].sample
    count = -(-num_steps // what.length)
    report = reporter(count * what.length, progress or (lambda _: None))
    ants = antmaze.Ants(what.maze, min(NUM_PLACES, count))
    waves = []
    for first in range(0, count, NUM_PLACES):
        numbers = range(first, min(first + NUM_PLACES, count))
        beginning = begin(what, ants, seed, numbers)
        waves.append(_episodes(what, ants, walk, beginning))
        report(numbers.stop * what.length)
    rows = {key: np.concatenate([wave[key] for wave in waves]) for key in waves[0]}
    return rewarded({key: x[:num_steps] for key, x in rows.items()}, what.maze)


def rewarded_goal(maze: str) -> np.ndarray:
    """The mean (x, y) of the goals that evaluation draws."""
    middle = antmaze.centers(np.array(antmaze.layout(maze).goal))
    return middle + sum(antmaze.GOAL_SPREADS) / 2


class Beginning(NamedTuple):
    """What is drawn for n episodes of T steps before they begin."""

    qpos: np.ndarray  # [n, 15]
    qvel: np.ndarray  # [n, 14]
    goals: np.ndarray  # [n, 2]
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
        goal = antmaze.goal_near(rng, what.goals[rng.integers(len(what.goals))])
        spreads = rng.uniform(0, WAYPOINT_SPREAD, (cells, 2))
        noise = rng.standard_normal((what.length, 2, 8), np.float32)
        drawn.append((qpos, qvel, goal, spreads, noise))
    return Beginning(*(np.stack(column) for column in zip(*drawn, strict=True)))


def _episodes(
    what: Task,
    ants: antmaze.Ants,
    walk: Walk,
    beginning: Beginning,
) -> dict[str, np.ndarray]:
    """Whole episodes side by side, then one after the other: [n·length, ...] each."""
    qpos, qvel, goals, spreads, noise = beginning
    places = np.arange(len(qpos))
    ants.place(places, qpos, qvel)
    guide = Navigators(what.maze, qpos[:, :2], goals, spreads)
    seen = np.zeros((len(places), what.length + 1, 29), np.float32)
    actions = np.zeros((len(places), what.length, 8), np.float32)
    for t in range(what.length):
        qpos, qvel = ants.states(places)
        seen[:, t] = np.concatenate([qpos, qvel], axis=1)
        features = ant_goal.features(qpos, qvel, guide.aim(qpos[:, :2]))
        wanted = walk(features, noise[:, t, 0]) + ACTION_NOISE * noise[:, t, 1]
        actions[:, t] = np.clip(wanted, -1, 1)
        ants.advance(places, actions[:, t])
    seen[:, -1] = np.concatenate(ants.states(places), axis=1)
    last = np.arange(what.length) == what.length - 1
    columns = {
        "observations": seen[:, :-1],
        "actions": actions,
        "next_observations": seen[:, 1:],
        "timeouts": np.tile(last, (len(places), 1)),
        "infos/goal": np.repeat(goals[:, None].astype(np.float32), what.length, axis=1),
    }
    return {key: x.reshape(-1, *x.shape[2:]) for key, x in columns.items()}


def rewarded(rows: dict[str, np.ndarray], maze: str) -> dict[str, np.ndarray]:
    """With rewards and terminals of the evaluation's goal; the last row ends one."""
    places = rows["next_observations"][:, :2]
    gaps = np.linalg.norm(places - rewarded_goal(maze), axis=1)
    terminals = gaps <= antmaze.GOAL_RADIUS
    timeouts = rows["timeouts"].copy()
    timeouts[-1] = True
    return {
        **rows,
        "rewards": terminals.astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts & ~terminals,
    }
