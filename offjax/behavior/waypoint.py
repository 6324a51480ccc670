"""D4RL's waypoint controller for maze2d, on device, many mazes in parallel.

Each maze is one uninterrupted stream. A controller drives the ball to a random goal
along a shortest path of cells: a PD law towards a jittered point in the next cell, plus
Gaussian noise; when it gets there, or after `horizon` steps, a new goal is drawn.

Source: D4RL, `scripts/generation/generate_maze2d_datasets.py` and
`d4rl/pointmaze/waypoint_controller.py`. Differences that are meant:

- D4RL plans by value iteration over cells; a breadth-first search gives such paths too.
- D4RL repeats the observation of the step at which a goal was reached, although the
  ball has moved on; `compat="official"` does so, too.
- Jitter is drawn when a waypoint becomes the current one, not when a path is planned.
- D4RL's stream is one of 1M steps; here are `num_mazes` shorter ones.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.envs.maze2d import Maze2D, State, goal_reward, layout
from offjax.errors import UserError
from offjax.types import Key

P_GAIN, D_GAIN = 10.0, -1.0
THRESHOLD = 0.1  # at this distance a waypoint or goal counts as reached
# A waypoint is its cell's qpos minus U(0, .2): the cell's center is .2 off that qpos.
JITTER = 0.2
GOAL_NOISE = 0.1
MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))  # ties go to the first


@functools.lru_cache
def next_cells(maze: str) -> np.ndarray:
    """Shortest paths through a maze of maze2d (`shortest_paths`)."""
    return shortest_paths(layout(maze).walls)


def shortest_paths(walls: np.ndarray) -> np.ndarray:
    """The cell after cell i on the way to cell j, [C, C] int, for walls [W, H] bool.

    Cell (w, h) has index w·H + h. From a wall (the ball's rounded position can be one)
    the path starts in the free neighbor nearest to the goal. Entries of walls as goals
    are meaningless.
    """
    width, height = walls.shape
    table = np.tile(np.arange(walls.size)[:, None], (1, walls.size))
    for goal in np.argwhere(~walls):
        steps = _steps_to(walls, goal)
        column = table[:, goal[0] * height + goal[1]]
        for w, h in np.ndindex(width, height):
            around = [
                (w + dw, h + dh)
                for dw, dh in MOVES
                if 0 <= w + dw < width and 0 <= h + dh < height
            ]
            best = min(around, key=lambda cell: steps[cell])
            if np.isfinite(steps[best]) and (w, h) != tuple(goal):
                column[w * height + h] = best[0] * height + best[1]
    return table


def _steps_to(walls: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Moves from each cell to the goal by breadth-first search; inf in walls."""
    steps = np.full(walls.shape, np.inf)
    steps[tuple(goal)] = 0
    frontier = [tuple(goal)]
    for w, h in frontier:
        for dw, dh in MOVES:
            cell = (w + dw, h + dh)
            if not walls[cell] and np.isinf(steps[cell]):
                steps[cell] = steps[w, h] + 1
                frontier.append(cell)
    return steps


class Stream(NamedTuple):
    """Carry of all mazes, leading axis the maze."""

    state: State
    seen: State  # what the controller sees: `state`, but for compat="official"
    goal: chex.Array  # [E, 2], recorded
    target: chex.Array  # [E] the goal's cell
    cell: chex.Array  # [E] the current waypoint's cell
    waypoint: chex.Array  # [E, 2]
    steps: chex.Array  # [E] since the goal was drawn


class Row(NamedTuple):
    """What one step records, leading axes [E] in `_step`, [E, T] in the end."""

    observations: chex.Array
    actions: chex.Array
    goals: chex.Array
    timeouts: chex.Array
    next_observations: chex.Array


def _round(maze: str, qpos: chex.Array) -> chex.Array:
    """Index of the cell that `qpos` [..., 2] rounds to."""
    cell = jnp.round(qpos).astype(jnp.int32)
    return cell[..., 0] * layout(maze).walls.shape[1] + cell[..., 1]


def _center(maze: str, cell: chex.Array) -> chex.Array:
    """The qpos of cells [...] by index, [..., 2] f32."""
    height = layout(maze).walls.shape[1]
    return jnp.stack([cell // height, cell % height], axis=-1).astype(jnp.float32)


def _goal(maze: str, key: Key, size: int) -> tuple[chex.Array, chex.Array]:
    """Random goals [size, 2], and their cells [size]."""
    cells = layout(maze).free_cells
    cell_key, noise_key = jax.random.split(key)
    cell = jnp.asarray(cells)[jax.random.randint(cell_key, (size,), 0, len(cells))]
    noise = jax.random.uniform(
        noise_key, (size, 2), minval=-GOAL_NOISE, maxval=GOAL_NOISE
    )
    return cell + noise, _round(maze, cell)


def _waypoint(maze: str, key: Key, cell: chex.Array, target: chex.Array) -> chex.Array:
    """Points to steer to in cells [E], [E, 2]: jittered but in the target's cell."""
    jitter = jax.random.uniform(key, (*cell.shape, 2), maxval=JITTER)
    return _center(maze, cell) - jnp.where((cell == target)[:, None], 0, jitter)


def _distance(a: chex.Array, b: chex.Array) -> chex.Array:
    return jnp.sqrt(jnp.sum((a - b) ** 2, axis=-1))


def _start(maze: str, key: Key, size: int) -> Stream:
    reset_key, goal_key, jitter_key = jax.random.split(key, 3)
    state = jax.vmap(Maze2D(maze).initial)(jax.random.split(reset_key, size))
    goal, target = _goal(maze, goal_key, size)
    cell = jnp.asarray(next_cells(maze))[_round(maze, state.qpos), target]
    waypoint = _waypoint(maze, jitter_key, cell, target)
    return Stream(
        state, state, goal, target, cell, waypoint, jnp.zeros(size, jnp.int32)
    )


def _control(maze: str, stream: Stream) -> tuple[chex.Array, chex.Array]:
    """The PD law's actions [E, 2], and which goals have been reached [E]."""
    qpos, qvel = stream.seen
    end = _center(maze, stream.target)
    solved = _distance(qpos, end) < THRESHOLD
    aim = jnp.where(solved[:, None], end, stream.waypoint)
    return jnp.clip(P_GAIN * (aim - qpos) + D_GAIN * qvel, -1, 1), solved


def _step(
    maze: str, official: bool, stream: Stream, noise: chex.Array, key: Key
) -> tuple[Stream, Row]:
    """One step of every maze: act, record, then new waypoints and goals."""
    table = jnp.asarray(next_cells(maze))
    noise_key, goal_key, jitter_key = jax.random.split(key, 3)
    qpos, qvel = stream.seen
    action, solved = _control(maze, stream)
    action += noise * jax.random.normal(noise_key, action.shape)
    action = jnp.clip(action, -1, 1)
    done = solved | (stream.steps >= layout(maze).horizon)
    state = jax.vmap(Maze2D(maze).transition)(stream.state, action)
    row = Row(
        jnp.concatenate([qpos, qvel], axis=-1),
        action,
        stream.goal,
        done,
        jnp.concatenate([state.qpos, state.qvel], axis=-1),
    )

    def select(new: chex.Array, old: chex.Array) -> chex.Array:
        return jnp.where(done.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    seen = jax.tree.map(select, stream.seen, state) if official else state
    goal, target = map(
        select, _goal(maze, goal_key, len(done)), (stream.goal, stream.target)
    )
    # The controller plans anew only if the goal's cell is another.
    plan = target != stream.target
    reached = ~solved & (_distance(qpos, stream.waypoint) < THRESHOLD)
    origin = jnp.where(plan, _round(maze, seen.qpos), stream.cell)
    moves = plan | reached
    cell = jnp.where(moves, table[origin, target], stream.cell)
    waypoint = _waypoint(maze, jitter_key, cell, target)
    waypoint = jnp.where(moves[:, None], waypoint, stream.waypoint)
    steps = select(jnp.zeros_like(stream.steps), stream.steps + 1)
    return Stream(state, seen, goal, target, cell, waypoint, steps), row


@functools.partial(
    jax.jit, static_argnames=("maze", "num_steps", "num_mazes", "official")
)
def _collect(
    maze: str, num_steps: int, num_mazes: int, official: bool, noise: float, key: Key
) -> Row:
    """`num_steps` of each maze, [E, T, ...]."""
    start_key, key = jax.random.split(key)

    def step(stream: Stream, t: chex.Array) -> tuple[Stream, Row]:
        return _step(maze, official, stream, noise, jax.random.fold_in(key, t))

    stream = _start(maze, start_key, num_mazes)
    _, rows = jax.lax.scan(step, stream, jnp.arange(num_steps))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows)


def generate(
    maze: str,
    num_steps: int = 1_000_000,
    noise: float = 0.5,
    seed: int = 0,
    dense: bool = False,
    num_mazes: int = 64,
    compat: str | None = None,
) -> dict[str, np.ndarray]:
    """Waypoint data of one maze, stream after stream; the same for the same arguments.

    Args:
      maze: umaze, medium or large.
      num_steps: N, rows in all.
      noise: standard deviation of the noise on actions (D4RL's files: .5).
      seed: of starts, goals and noise.
      dense: the dense reward, else the sparse one.
      num_mazes: streams, of ⌈N / num_mazes⌉ steps (the last ones may be shorter).
      compat: "official" repeats the observation after each goal, as D4RL does.

    Returns:
      observations [N, 4] f32, actions [N, 2] f32, next_observations [N, 4] f32 (also at
      time-outs), rewards [N] f32, terminals [N] bool (all false), timeouts [N] bool
      (true where a goal was reached or its time was up, and where a stream ends),
      infos/goal [N, 2] f32 (the goal that was navigated to). As in D4RL's files,
      `rewards` are those of the evaluation's goal at `observations`, while the
      environment rewards where a step leads.

    Raises:
      UserError: an unknown maze or compat, no steps or mazes, or negative noise.
    """
    layout(maze)
    _check(num_steps, num_mazes, noise, compat)
    num_mazes = min(num_mazes, num_steps)
    length = -(-num_steps // num_mazes)
    rows = _collect(
        maze, length, num_mazes, compat == "official", noise, jax.random.key(seed)
    )
    flat = {
        name: np.asarray(x).reshape(-1, *x.shape[2:])[:num_steps].copy()
        for name, x in rows._asdict().items()
    }
    flat["timeouts"][length - 1 :: length] = True
    flat["timeouts"][-1] = True
    flat["infos/goal"] = flat.pop("goals")
    qpos = jnp.asarray(flat["observations"][:, :2])
    flat["rewards"] = np.asarray(goal_reward(maze, qpos, dense))
    flat["terminals"] = np.zeros(num_steps, bool)
    return flat


def _check(num_steps: int, num_mazes: int, noise: float, compat: str | None) -> None:
    if num_steps < 1 or num_mazes < 1:
        raise UserError(
            f"Waypoint data of {num_steps} steps in {num_mazes} mazes were asked for: "
            "both numbers must be at least 1."
        )
    if not (np.isfinite(noise) and noise >= 0):
        raise UserError(
            f"The action noise of the waypoint data is {noise!r}: it is a standard "
            "deviation and must be 0 or positive."
        )
    if compat not in (None, "official"):
        raise UserError(
            f"Unknown compat {compat!r} of the waypoint data: leave it out, or use "
            "'official' for D4RL's repeated observations."
        )
