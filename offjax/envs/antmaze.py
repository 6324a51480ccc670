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
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from offjax.envs import maze2d
from offjax.envs.mujoco import ASSETS, adds_margins, has_engine, quiet
from offjax.envs.processes import cores
from offjax.errors import UserError
from offjax.types import EnvSpec

ID = "offjax/AntMaze-v0"

SCALE = 4.0  # a cell's side
TORQUE = 30.0  # of an action of 1
FRAME_SKIP = 5
SECONDS = 0.1  # of a step
NOISE = 0.1  # of the first positions and velocities
START = (1, 1)  # every map's; its middle is the origin
START_SPREAD = 1.0  # random starts are the cell's middle + U(0, 1)²
GOAL_SPREADS = (1.0, 0.5)  # goals are the cell's middle + U(0, 1)² + U(0, .5)²
GOAL_RADIUS = 0.5

ANT_MAZES = (
    "umaze",
    "umaze-diverse",
    "medium-play",
    "medium-diverse",
    "large-play",
    "large-diverse",
)
"""Names of D4RL's data: a maze, and how starts and goals are chosen."""


@dataclasses.dataclass(frozen=True)
class Maze:
    """A maze, whose map is maze2d's; cells are (row, column), row is y."""

    name: str
    goal: tuple[int, int]  # cell of the evaluation's goal
    goals: tuple[tuple[int, int], ...]  # cells that "play" data are navigated to
    horizon: int  # steps of an episode

    @property
    def walls(self) -> np.ndarray:
        """Where the walls are, [rows, columns] bool."""
        return maze2d.layout(self.name).walls

    @property
    def free_cells(self) -> np.ndarray:
        """Cells without a wall, [C, 2] int."""
        return maze2d.layout(self.name).free_cells


MAZES = {
    "umaze": Maze("umaze", (3, 1), ((3, 1),), 700),
    "medium": Maze("medium", (6, 6), ((2, 6), (5, 1), (6, 5)), 1000),
    "large": Maze(
        "large",
        (7, 9),
        ((1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)),
        1000,
    ),
}


def spec(maze: str, random_start: bool = False) -> EnvSpec:
    """Where AntMaze's policies are evaluated, with D4RL's reference scores.

    With `random_start`, episodes begin in any free cell but the goal's. UserError for
    an unknown maze.
    """
    extra = (("random_start", True),) if random_start else ()
    return EnvSpec(
        id=ID,
        kwargs=(("maze", maze), *extra),
        observation_dim=29,
        action_low=(-1.0,) * 8,
        action_high=(1.0,) * 8,
        horizon=layout(maze).horizon,
        ref_min_score=0.0,
        ref_max_score=1.0,
        score_source="share of episodes that reach the goal, as in D4RL",
        domain="antmaze",
    )


def runs(spec: EnvSpec) -> bool:
    """Whether the spec names AntMaze with known arguments, and it can be stepped."""
    known = {"maze", "random_start"}.issuperset(name for name, _ in spec.kwargs)
    return spec.id == ID and known and has_engine()


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

    with quiet():
        spec = mujoco.MjSpec.from_file(str(ASSETS / "ant.xml"))
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
    """Ants side by side: `model` of one, and live `qpos` [N, 15], `qvel` [N, 14]."""

    def __init__(
        self, maze: str | None, num_envs: int, num_threads: int | None = None
    ) -> None:
        """Ants in a maze, or each on an endless floor; threads: one per core."""
        from mujoco.batch import Batch

        self.model = ant_model(maze)
        threads = min(num_threads or cores(), num_envs)
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

    def states(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions [n, 15] and velocities [n, 14] of ants [n], copies."""
        return self.qpos[indices], self.qvel[indices]


def goal_near(rng: np.random.Generator, cell: tuple[int, int]) -> np.ndarray:
    """A goal (x, y) as D4RL draws it for a cell (row, column)."""
    return centers(np.array(cell)) + sum(rng.uniform(0, s, 2) for s in GOAL_SPREADS)


def start_near(rng: np.random.Generator, cell: np.ndarray) -> np.ndarray:
    """A random start (x, y) as D4RL draws it for a cell (row, column)."""
    return centers(cell) + rng.uniform(0, START_SPREAD, 2)


class AntMazeBatch:
    """Episodes in one maze side by side; a `batched.BatchedEnv`.

    Observations are positions [15], x and y first, and velocities [14]. `goals` are
    those of the current episodes, [N, 2].
    """

    def __init__(
        self, spec: EnvSpec, num_envs: int, num_threads: int | None = None
    ) -> None:
        """`runs(spec)` must hold. `num_threads` None takes one per core at hand."""
        kwargs = dict(spec.kwargs)
        self._maze = layout(kwargs["maze"])
        self._random_start = kwargs.get("random_start", False)
        self.num_envs, self.observation_dim = num_envs, spec.observation_dim
        self.ants = Ants(kwargs["maze"], num_envs, num_threads)
        self.goals = np.zeros((num_envs, 2))

    def reset(self, indices: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
        """Begins episodes in places [n] from their seeds; observations [n, 29] f32."""
        states = []
        for place, seed in zip(indices, seeds, strict=True):
            rng, _ = gymnasium.utils.seeding.np_random(int(seed))
            self.goals[place] = goal_near(rng, self._maze.goal)
            qpos, qvel = self.ants.noisy(rng)
            if self._random_start:
                cells = self._maze.free_cells
                cells = cells[(cells != self._maze.goal).any(axis=1)]
                qpos[:2] = start_near(rng, rng.choice(cells))
            states.append((qpos, qvel))
        qpos, qvel = (np.stack(column) for column in zip(*states, strict=True))
        self.ants.place(indices, qpos, qvel)
        return self._observe(indices)

    def step(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of places [n]: observations, rewards 0 or 1, and who arrived."""
        self.ants.advance(indices, actions)
        gaps = self.ants.qpos[indices, :2] - self.goals[indices]
        arrived = np.linalg.norm(gaps, axis=1) <= GOAL_RADIUS
        return self._observe(indices), arrived.astype(float), arrived

    def close(self) -> None:
        """Nothing to release: the threads end with the object."""

    def _observe(self, indices: np.ndarray) -> np.ndarray:
        return np.concatenate(self.ants.states(indices), axis=1).astype(np.float32)


class AntMaze(gymnasium.Env):
    """What `gymnasium.make("offjax/AntMaze-v0", maze=…)` returns.

    `reset(seed=s)` begins the same episode as `AntMazeBatch` does from s, and
    `reset(options={"goal": (x, y)})` sets the goal. Truncated at the maze's horizon.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self,
        maze: str = "umaze",
        random_start: bool = False,
        render_mode: str | None = None,
        pixels: int = 240,
    ) -> None:
        self._spec = spec(maze, random_start)
        self._batch = AntMazeBatch(self._spec, 1, 1)
        self.model = self._batch.ants.model
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (29,))
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (8,))
        self.render_mode = render_mode
        self._pixels, self._steps = pixels, 0
        self._renderer: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode, without a seed one that follows from the last's."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        observation = self._batch.reset(np.array([0]), [seed])[0]
        if options is not None and "goal" in options:
            self._batch.goals[0] = options["goal"]
        self._steps = 0
        return observation, {}

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; `info` holds the hidden goal."""
        columns = self._batch.step(np.array([0]), np.asarray(action)[None])
        observation, reward, terminal = (column[0] for column in columns)
        self._steps += 1
        truncated = not terminal and self._steps >= self._spec.horizon
        info = {"goal": self._batch.goals[0].copy()}
        return observation, float(reward), bool(terminal), truncated, info

    def set_state(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Puts the ant into a state, qpos [15] and qvel [14]."""
        self._batch.ants.place(np.array([0]), qpos[None], qvel[None])

    def render(self) -> Any:
        """The maze from above, [pixels, pixels, 3] uint8; the goal is a green ball."""
        import mujoco

        if self._renderer is None:
            self._renderer = mujoco.Renderer(self.model, self._pixels, self._pixels)
        data = mujoco.MjData(self.model)
        data.qpos[:] = self._batch.ants.qpos[0]
        mujoco.mj_forward(self.model, data)
        walls = layout(dict(self._spec.kwargs)["maze"]).walls
        camera = mujoco.MjvCamera()
        camera.lookat[:2] = centers((np.array(walls.shape) - 1) / 2)
        camera.elevation, camera.azimuth = -90, 90
        camera.distance = 1.3 * SCALE * max(walls.shape)
        self._renderer.update_scene(data, camera)
        scene = self._renderer.scene
        mujoco.mjv_initGeom(
            scene.geoms[scene.ngeom],
            mujoco.mjtGeom.mjGEOM_SPHERE,
            np.full(3, GOAL_RADIUS),
            np.array([*self._batch.goals[0], 0.0]),
            np.eye(3).ravel(),
            np.array([0.2, 0.7, 0.3, 1.0], np.float32),
        )
        scene.ngeom += 1
        return self._renderer.render()

    def close(self) -> None:
        """Releases the picture's context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
