"""D4RL's antmaze: an ant that must find a hidden goal in a maze, on MuJoCo's batches.

The ant is Gymnasium's with what D4RL's own differs in: motors of ±30 torque, softer
contacts, time steps of .02. The walls are boxes of 4 × 4 units around the cells of a
map. An episode begins near the origin, the middle of the start's cell, or in a random
cell (`random_start`); its goal is a point near the goal's cell, drawn anew, and is not
observed. It ends within .5 of the goal; falling ends nothing.

D4RL's antmaze-*-v0 and -v1 kept one goal for all episodes of an environment; -v2, on
the same data, draws one for each, as is done here.

Source: D4RL, `d4rl/locomotion/{maze_env,ant,goal_reaching_env,wrappers,__init__}.py`
and `assets/ant.xml`.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from offjax.envs.mujoco import adds_margins, quiet
from offjax.errors import UserError

SCALE = 4.0  # a cell's side
TORQUE = 30.0  # of an action of 1
FRAME_SKIP = 5
SECONDS = 0.1  # of a step
NOISE = 0.1  # of the first positions and velocities
START = (1, 1)  # every map's; its middle is the origin


@dataclasses.dataclass(frozen=True)
class Maze:
    """A map, its evaluation's goal and horizon.

    Attributes:
      rows: '#' wall, 'O' free; row is y, column x.
      goal: cell (row, column) of the evaluation's goal.
      goals: cells that D4RL's "play" data are navigated to.
      horizon: steps of an episode.
    """

    rows: tuple[str, ...]
    goal: tuple[int, int]
    goals: tuple[tuple[int, int], ...]
    horizon: int

    @functools.cached_property
    def walls(self) -> np.ndarray:
        """Where the walls are, [rows, columns] bool."""
        return np.array([[tile == "#" for tile in row] for row in self.rows])

    @functools.cached_property
    def free_cells(self) -> np.ndarray:
        """Cells (row, column) without a wall, [C, 2] int."""
        return np.argwhere(~self.walls)


MAZES = {
    "umaze": Maze(
        rows=("#####", "#OOO#", "###O#", "#OOO#", "#####"),
        goal=(3, 1),
        goals=((3, 1),),
        horizon=700,
    ),
    "medium": Maze(
        rows=(
            "########",
            "#OO##OO#",
            "#OO#OOO#",
            "##OOO###",
            "#OO#OOO#",
            "#O#OO#O#",
            "#OOO#OO#",
            "########",
        ),
        goal=(6, 6),
        goals=((2, 6), (5, 1), (6, 5)),
        horizon=1000,
    ),
    "large": Maze(
        rows=(
            "############",
            "#OOOO#OOOOO#",
            "#O##O#O#O#O#",
            "#OOOOOO#OOO#",
            "#O####O###O#",
            "#OO#O#OOOOO#",
            "##O#O#O#O###",
            "#OO#OOO#OOO#",
            "############",
        ),
        goal=(7, 9),
        goals=((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
        horizon=1000,
    ),
}


def layout(maze: str) -> Maze:
    """The maze of that name; UserError for an unknown one."""
    if maze not in MAZES:
        raise UserError(
            f"Unknown maze {maze!r}: choose one of {', '.join(MAZES)}, the mazes of "
            "D4RL's antmaze."
        )
    return MAZES[maze]


def centers(cells: np.ndarray) -> np.ndarray:
    """Middles (x, y) of cells (row, column), [..., 2] → [..., 2] f64."""
    return SCALE * (np.asarray(cells) - START)[..., ::-1]


def cells_at(places: np.ndarray) -> np.ndarray:
    """Cells (row, column) that contain places (x, y), [..., 2] → [..., 2] int."""
    return np.round(np.asarray(places)[..., ::-1] / SCALE).astype(int) + START


def ant_model(maze: str | None) -> Any:
    """An MjModel of D4RL's ant in a maze, or on an endless floor."""
    import mujoco

    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    with quiet():
        spec = mujoco.MjSpec.from_file(str(folder / "ant.xml"))
    spec.option.timestep = SECONDS / FRAME_SKIP
    for actuator in spec.actuators:
        actuator.gear[0] = 1.0
        actuator.ctrlrange = [-TORQUE, TORQUE]
    walls: Any = [] if maze is None else np.argwhere(layout(maze).walls)
    for cell in walls:
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=[*centers(cell), SCALE / 4],
            size=[SCALE / 2, SCALE / 2, SCALE / 4],
            conaffinity=1,
            rgba=[0.7, 0.5, 0.3, 1.0],
        )
    for geom in spec.geoms:
        geom.solimp[:3] = [0.8, 0.8, 0.01]
        geom.margin = 0.005 if adds_margins() else 0.01
    with quiet():
        return spec.compile()


class Ants:
    """Ants side by side: the simulator's share of an environment.

    Attributes:
      model: MuJoCo's, of one of them.
      qpos: positions [N, 15], live.
      qvel: velocities [N, 14], live.
    """

    def __init__(
        self, maze: str | None, num_envs: int, num_threads: int | None = None
    ) -> None:
        """Ants in a maze, or each on an endless floor; threads: one per core."""
        from mujoco.batch import Batch

        from offjax.envs.batched import available_cores

        self.model = ant_model(maze)
        threads = min(num_threads or available_cores(), num_envs)
        self._batch = Batch(self.model, nsim=num_envs, nthread=threads)
        self.qpos = self._batch.bind("qpos")
        self.qvel = self._batch.bind("qvel")
        self._ctrl = self._batch.bind("ctrl")

    def noisy(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A first state, qpos [15] and qvel [14], around the origin."""
        qpos = self.model.qpos0 + rng.uniform(-NOISE, NOISE, self.model.nq)
        return qpos, NOISE * rng.standard_normal(self.model.nv)

    def place(self, indices: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Puts ants [n] into states [n, 15] and [n, 14], with no memory of before."""
        ids = np.sort(np.asarray(indices, np.int32))  # the engine takes them ascending
        self._batch.reset(ids, stage=0)
        self.qpos[indices], self.qvel[indices] = qpos, qvel
        self._batch.forward(ids)

    def advance(self, indices: np.ndarray, actions: np.ndarray) -> None:
        """One step of ants [n] with actions [n, 8] in [-1, 1]."""
        self._ctrl[indices] = TORQUE * actions
        self._batch.step(np.sort(np.asarray(indices, np.int32)), nstep=FRAME_SKIP)
