"""D4RL's maze2d in JAX: a ball with two motors in a maze, wall contacts included.

The dynamics are those that D4RL's MuJoCo model has: semi-implicit Euler with implicit
damping, and MuJoCo's soft contacts (frictionless, default solref and solimp, margin
.002 between ball and wall as in the MuJoCo of D4RL's time). Contacts are the minimum
of a strictly convex piecewise quadratic in two unknowns, which is solved here in
closed form instead of by iterations.

Source: D4RL, `d4rl/pointmaze/maze_model.py` (the model, goals, resets, rewards) and
`d4rl/infos.py` (reference scores); MuJoCo documentation, "Computation".
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv

from offjax.errors import UserError
from offjax.types import EnvSpec, Key

ID = "offjax/Maze2D-v0"

RADIUS = 0.1
MASS = 4 / 3 * np.pi * RADIUS**3 * 1000.0
GEAR = 100.0
DAMPING = 1.0
TIMESTEP = 0.01
MAX_VELOCITY = 5.0  # clipped before each step, so that 5.23 can be observed
GOAL_RADIUS = 0.5

# Cell (w, h) spans [w - OFFSET, w - OFFSET + 1] × [h - OFFSET, …] in qpos: D4RL's ball
# starts .2 off the center of its cell.
OFFSET = 0.7

MARGIN = 0.002
# MuJoCo's defaults: solref (.02, 1), solimp (.9, .95, .001, .5, 2).
IMPEDANCE_MIN, IMPEDANCE_MAX, IMPEDANCE_WIDTH = 0.9, 0.95, 0.001
CONTACT_DAMPING = 2 / (IMPEDANCE_MAX * 0.02)
CONTACT_STIFFNESS = 1 / (IMPEDANCE_MAX * 0.02) ** 2


@dataclasses.dataclass(frozen=True)
class Maze:
    """A map with D4RL's horizon and reference returns (min, max) of both rewards."""

    rows: tuple[str, ...]  # '#' wall, 'O' free, 'G' goal; row qpos[0], column qpos[1]
    horizon: int  # steps of an episode; mazes never terminate
    sparse: tuple[float, float]
    dense: tuple[float, float]

    @functools.cached_property
    def walls(self) -> np.ndarray:
        """Where the walls are, [W, H] bool."""
        return np.array([[tile == "#" for tile in row] for row in self.rows])

    @functools.cached_property
    def free_cells(self) -> np.ndarray:
        """Cells that the ball can be in, goal included, [C, 2] int."""
        return np.argwhere(~self.walls)

    @functools.cached_property
    def goal(self) -> tuple[float, float]:
        """The evaluation's goal, which never moves."""
        tiles = np.array([list(row) for row in self.rows])
        ((w, h),) = np.argwhere(tiles == "G")
        return float(w), float(h)

    @functools.cached_property
    def corners(self) -> np.ndarray:
        """Which walls surround each quarter of each cell, [W·H·4] int.

        Entry `4·(w·H + h) + 2·low_x + low_y` is for the quarter of cell (w, h) with
        smaller x (y) where low_x (low_y) is 1. Bits 1, 2 and 4 of it are set where the
        neighbor next to that quarter along x, along y and diagonally is a wall.
        """
        width, height = self.walls.shape
        padded = np.pad(self.walls, 1)
        code = np.zeros((width, height, 2, 2), np.int32)
        for low_x in range(2):
            for low_y in range(2):
                w, h = (0 if low else 2 for low in (low_x, low_y))
                along_x = padded[w : w + width, 1 : 1 + height]
                along_y = padded[1 : 1 + width, h : h + height]
                diagonal = padded[w : w + width, h : h + height]
                code[:, :, low_x, low_y] = along_x + 2 * along_y + 4 * diagonal
        return code.reshape(-1)


MAZES = {
    "umaze": Maze(
        rows=("#####", "#GOO#", "###O#", "#OOO#", "#####"),
        horizon=300,
        sparse=(23.85, 161.86),
        dense=(68.537689, 193.66285642381482),
    ),
    "medium": Maze(
        rows=(
            "########",
            "#OO##OO#",
            "#OO#OOO#",
            "##OOO###",
            "#OO#OOO#",
            "#O#OO#O#",
            "#OOO#OG#",
            "########",
        ),
        horizon=600,
        sparse=(13.13, 277.39),
        dense=(44.264742, 297.4552547777125),
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
            "#OO#OOO#OGO#",
            "############",
        ),
        horizon=800,
        sparse=(6.7, 273.99),
        dense=(30.569041, 303.4857382709002),
    ),
}


def layout(maze: str) -> Maze:
    """The maze of that name; UserError for an unknown one."""
    if maze not in MAZES:
        raise UserError(
            f"Unknown maze {maze!r}: choose one of {', '.join(MAZES)}, the mazes of "
            "D4RL's maze2d."
        )
    return MAZES[maze]


def _contact(
    distance: chex.Array, speed: chex.Array, wall: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """Strength d = imp/(1 − imp) of one contact (0: none), and its aim (MuJoCo's aref).

    It pulls the acceleration along its normal up to the aim and never down.
    `distance` is that of the ball's center to the wall, `speed` that away from it.
    """
    depth = RADIUS + MARGIN - distance
    x = jnp.clip(depth / IMPEDANCE_WIDTH, 0, 1)
    ramp = jnp.where(x <= 0.5, 2 * x**2, 1 - 2 * (1 - x) ** 2)
    impedance = IMPEDANCE_MIN + (IMPEDANCE_MAX - IMPEDANCE_MIN) * ramp
    strength = jnp.where(wall & (depth > 0), impedance / (1 - impedance), 0)
    aim = CONTACT_STIFFNESS * impedance * depth - CONTACT_DAMPING * speed
    return strength, aim


def _constrained(
    free: tuple[chex.Array, chex.Array],
    straight: list[tuple[chex.Array, chex.Array]],
    corner: tuple[chex.Array, chex.Array],
    normal: tuple[chex.Array, chex.Array],
) -> list[chex.Array]:
    """Accelerations (x, y) under a contact along each axis and one along `normal`.

    Minimizes |a − free|² + Σ_i d_i min(0, n_i·a − aim_i)². Given the force f ≥ 0 of the
    corner's contact, each axis is by itself, and is the larger of two functions linear
    in f: without and with its own contact. Since `normal` is positive, f's equation
    f/d = aim − n·a(f) has the convex increasing n·a on its right: it is the smallest
    root over the four combinations of those linear functions.
    """
    # Per axis: (acceleration at f = 0, its slope in f·n), without and with contact.
    pieces = [
        ((a, 1.0), ((a + d * aim) / (1 + d), 1 / (1 + d)))
        for a, (d, aim) in zip(free, straight, strict=True)
    ]
    strength, aim = corner
    n_x, n_y = normal
    forces = [
        (aim - n_x * a_x - n_y * a_y)
        * (strength / (1 + strength * (n_x**2 * slope_x + n_y**2 * slope_y)))
        for a_x, slope_x in pieces[0]
        for a_y, slope_y in pieces[1]
    ]
    force = jnp.maximum(functools.reduce(jnp.minimum, forces), 0)
    return [
        jnp.maximum(*(a + slope * n * force for a, slope in axis))
        for axis, n in zip(pieces, normal, strict=True)
    ]


def dynamics(
    maze: str, qpos: chex.Array, qvel: chex.Array, action: chex.Array
) -> tuple[chex.Array, chex.Array]:
    """One step of .01 s, in the arguments' floating type; pure and traceable.

    Exact (against MuJoCo) wherever the ball can get: its center in a free cell.

    Args:
      maze: umaze, medium or large; UserError for another.
      qpos: position, [2].
      qvel: velocity, [2], clipped to ±5 first.
      action: motor commands, [2], clipped to ±1 first.

    Returns:
      Position and velocity after the step, [2] each.
    """
    codes = layout(maze).corners
    height = layout(maze).walls.shape[1]
    dtype = jnp.result_type(*map(jnp.asarray, (qpos, qvel, action)), float)
    qpos, qvel, action = (jnp.asarray(x, dtype) for x in (qpos, qvel, action))
    velocity = jnp.clip(qvel, -MAX_VELOCITY, MAX_VELOCITY)
    free = (GEAR * jnp.clip(action, -1, 1) - DAMPING * velocity) / MASS

    cell = jnp.floor(qpos + OFFSET)
    inside = (qpos - cell) + OFFSET  # in this order float32 loses nothing
    low = inside < 0.5
    w, h = cell.astype(jnp.int32)
    index = 4 * (w * height + h) + 2 * low[0] + low[1]
    code = jnp.asarray(codes).at[index].get(mode="clip")

    # Mirrored so that the nearest neighbors push along +x, +y and (+, +). The axes are
    # separate scalars from here on: that vectorizes far better over mazes.
    mirror = jnp.where(low, 1, -1).astype(dtype)
    gap_x, gap_y = jnp.where(low, inside, 1 - inside)
    v_x, v_y = mirror * velocity
    a_x, a_y = mirror * free
    distance = jnp.sqrt(jnp.maximum(gap_x**2 + gap_y**2, 1e-12))
    n_x, n_y = gap_x / distance, gap_y / distance
    acceleration = _constrained(
        (a_x, a_y),
        [_contact(gap_x, v_x, code & 1 > 0), _contact(gap_y, v_y, code & 2 > 0)],
        _contact(distance, n_x * v_x + n_y * v_y, code & 4 > 0),
        (n_x, n_y),
    )
    # Implicit damping: the velocity at the end of the step is the one that is damped.
    gain = TIMESTEP * MASS / (MASS + TIMESTEP * DAMPING)
    new_velocity = velocity + gain * mirror * jnp.stack(acceleration)
    return qpos + TIMESTEP * new_velocity, new_velocity


class State(NamedTuple):
    """Position and velocity of the ball, [2] each."""

    qpos: chex.Array
    qvel: chex.Array


class Maze2D(FuncEnv):
    """maze2d with its fixed goal: stay within .5 of it; no terminal states.

    Observations are (qpos, qvel), [4]; actions [2] in ±1. The reward is 1 within .5 of
    the goal after the step (sparse), or exp(−distance) (dense). Episodes start at a
    random free cell ± .1 with velocities .1·N(0, 1), and last `horizon` steps.
    """

    def __init__(self, maze: str = "umaze", dense: bool = False):
        super().__init__()
        self.maze = maze
        self.dense = dense
        self.horizon = layout(maze).horizon
        size = layout(maze).walls.shape
        bound = np.array([*size, 6.0, 6.0], np.float32)
        self.observation_space = gymnasium.spaces.Box(
            np.array([0.0, 0.0, -6.0, -6.0], np.float32), bound
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def initial(self, rng: Key, params: None = None) -> State:
        """A random free cell (goal included) ± .1, nearly at rest."""
        cells = layout(self.maze).free_cells
        cell_key, noise_key, velocity_key = jax.random.split(rng, 3)
        cell = jnp.asarray(cells)[jax.random.randint(cell_key, (), 0, len(cells))]
        qpos = cell + jax.random.uniform(noise_key, (2,), minval=-0.1, maxval=0.1)
        return State(qpos, 0.1 * jax.random.normal(velocity_key, (2,)))

    def observation(
        self, state: State, rng: Key | None = None, params: None = None
    ) -> chex.Array:
        """Position and velocity, [4]."""
        return jnp.concatenate([state.qpos, state.qvel])

    def transition(
        self,
        state: State,
        action: chex.Array,
        rng: Key | None = None,
        params: None = None,
    ) -> State:
        """One step of `dynamics`."""
        return State(*dynamics(self.maze, state.qpos, state.qvel, action))

    def reward(
        self,
        state: State,
        action: chex.Array,
        next_state: State,
        rng: Key | None = None,
        params: None = None,
    ) -> chex.Array:
        """Reward of where the step led."""
        return goal_reward(self.maze, next_state.qpos, self.dense)

    def terminal(
        self, state: State, rng: Key | None = None, params: None = None
    ) -> chex.Array:
        """Never: reaching the goal pays at each step that is spent there."""
        return jnp.zeros((), bool)


def goal_reward(maze: str, qpos: chex.Array, dense: bool) -> chex.Array:
    """Reward of being at `qpos` ([..., 2]): 1{distance ≤ .5} or exp(−distance)."""
    offset = qpos - jnp.asarray(layout(maze).goal, qpos.dtype)
    distance = jnp.sqrt(jnp.sum(offset**2, axis=-1))
    if dense:
        return jnp.exp(-distance)
    return (distance <= GOAL_RADIUS).astype(qpos.dtype)


def spec(maze: str, dense: bool = False) -> EnvSpec:
    """How policies are evaluated in a maze, with D4RL's reference returns."""
    found = layout(maze)
    low, high = found.dense if dense else found.sparse
    kwargs: tuple[tuple[str, Any], ...] = (("maze", maze), ("dense", dense))
    name = f"maze2d-{maze}{'-dense' if dense else ''}-v1"
    return EnvSpec(
        id=ID,
        kwargs=kwargs,
        observation_dim=4,
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        horizon=found.horizon,
        ref_min_score=low,
        ref_max_score=high,
        score_source=f"D4RL's reference returns of {name} (random, controller)",
        domain="maze2d",
    )
