"""maze2d against MuJoCo, which is the oracle, and against D4RL's constants."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax import envs
from offjax.envs import maze2d
from offjax.errors import UserError

mujoco = pytest.importorskip("mujoco")

NUM_STEPS = 20_000

# D4RL's maps, as lists of free cells per row (goal included).
FREE = {
    "umaze": {1: [1, 2, 3], 2: [3], 3: [1, 2, 3]},
    "medium": {
        1: [1, 2, 5, 6],
        2: [1, 2, 4, 5, 6],
        3: [2, 3, 4],
        4: [1, 2, 4, 5, 6],
        5: [1, 3, 4, 6],
        6: [1, 2, 3, 5, 6],
    },
    "large": {
        1: [1, 2, 3, 4, 6, 7, 8, 9, 10],
        2: [1, 4, 6, 8, 10],
        3: [1, 2, 3, 4, 5, 6, 8, 9, 10],
        4: [1, 6, 10],
        5: [1, 2, 4, 6, 7, 8, 9, 10],
        6: [2, 4, 6, 8],
        7: [1, 2, 4, 5, 6, 8, 9, 10],
    },
}
SIZES = {"umaze": (5, 5), "medium": (8, 8), "large": (9, 12)}


def oracle(maze: str) -> mujoco.MjModel:
    """D4RL's model, with MuJoCo's solver run to convergence."""
    width, height = SIZES[maze]
    walls = "".join(
        f'<geom type="box" pos="{w + 1} {h + 1} 0" size=".5 .5 .2"/>'
        for w in range(width)
        for h in range(height)
        if h not in FREE[maze].get(w, [])
    )
    model = mujoco.MjModel.from_xml_string(
        f"""<mujoco>
        <compiler inertiafromgeom="true"/>
        <option timestep=".01" gravity="0 0 0" integrator="Euler" tolerance="0"/>
        <default>
          <joint type="slide" damping="1"/>
          <geom density="1000" margin=".002" condim="1"/>
          <motor gear="100" ctrllimited="true" ctrlrange="-1 1"/>
        </default>
        <worldbody>
          {walls}
          <body pos="1.2 1.2 0">
            <joint name="x" axis="1 0 0"/><joint name="y" axis="0 1 0"/>
            <geom type="sphere" size=".1"/>
          </body>
        </worldbody>
        <actuator><motor joint="x"/><motor joint="y"/></actuator>
        </mujoco>"""
    )
    # Newer MuJoCo adds the margins of the two geoms, D4RL's took the larger one.
    data = mujoco.MjData(model)
    data.qpos[:] = (0.4005, 1)  # cell (1, 1), .0005 off the wall below it
    mujoco.mj_forward(model, data)
    model.geom_margin[:] *= 0.002 / data.contact[0].includemargin
    return model


def step(model: mujoco.MjModel, data: mujoco.MjData, action: np.ndarray) -> np.ndarray:
    """D4RL's step: clip the velocity, then the simulator's."""
    data.qvel[:] = np.clip(data.qvel, -5, 5)
    data.ctrl[:] = action
    mujoco.mj_step(model, data)
    return np.concatenate([data.qpos, data.qvel])


@functools.cache
def trajectory(maze: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States [N, 4], actions [N, 2] and MuJoCo's next states [N, 4].

    Half random actions (also out of bounds), half held towards walls and corners.
    """
    model = oracle(maze)
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    states, actions = np.zeros((NUM_STEPS, 4)), np.zeros((NUM_STEPS, 2))
    nexts = np.zeros((NUM_STEPS, 4))
    contacts = 0
    data.qpos[:] = (1, 1)
    action = np.zeros(2)
    for t in range(NUM_STEPS):
        if t < NUM_STEPS // 2 and t % 10 == 0:
            action = rng.uniform(-1.5, 1.5, 2)
        elif t >= NUM_STEPS // 2 and t % 40 == 0:
            action = rng.choice([-1.0, 0.0, 1.0], 2)
        states[t] = np.concatenate([data.qpos, data.qvel])
        actions[t] = action
        nexts[t] = step(model, data, action)
        contacts += data.ncon > 0
    assert contacts > 0.25 * NUM_STEPS
    return states, actions, nexts


def errors(maze: str) -> np.ndarray:
    states, actions, nexts = trajectory(maze)
    one = functools.partial(maze2d.dynamics, maze)
    qpos, qvel = jax.jit(jax.vmap(one))(states[:, :2], states[:, 2:], actions)
    return np.abs(np.concatenate([qpos, qvel], axis=1) - nexts).max(1)


@pytest.mark.parametrize("maze", maze2d.MAZES)
def test_one_step_equals_mujoco_in_float32(maze):
    error = errors(maze)
    assert error.dtype == np.float64
    assert np.median(error) <= 1e-6
    assert np.quantile(error, 0.99) <= 5e-5
    assert error.max() <= 1e-3


@pytest.mark.parametrize("maze", maze2d.MAZES)
def test_one_step_equals_mujoco_in_float64(maze):
    with jax.enable_x64(True):
        error = errors(maze)
    assert np.quantile(error, 0.99) <= 1e-9
    assert error.max() <= 5e-6


def test_closed_loop_stays_with_mujoco():
    """For 1000 steps; each bounce off a corner multiplies rounding errors by ~20."""
    states, actions, nexts = trajectory("large")
    with jax.enable_x64(True):

        def body(state, action):
            new = maze2d.dynamics("large", *state, action)
            return new, jnp.concatenate(new)

        start = (jnp.asarray(states[0, :2]), jnp.asarray(states[0, 2:]))
        _, ours = jax.jit(lambda a: jax.lax.scan(body, start, a))(actions[:1000])
    np.testing.assert_allclose(ours, nexts[:1000], atol=1e-6)


@pytest.mark.parametrize("maze", maze2d.MAZES)
def test_maps_are_d4rls(maze):
    walls = maze2d.MAZES[maze].walls
    assert walls.shape == SIZES[maze]
    free = [(w, h) for w, row in FREE[maze].items() for h in row]
    assert sorted(map(tuple, np.argwhere(~walls))) == free


@pytest.mark.parametrize(
    ("maze", "dense", "goal", "horizon", "references"),
    [
        ("umaze", False, (1, 1), 300, (23.85, 161.86)),
        ("medium", False, (6, 6), 600, (13.13, 277.39)),
        ("large", False, (7, 9), 800, (6.7, 273.99)),
        ("umaze", True, (1, 1), 300, (68.537689, 193.66285642381482)),
        ("medium", True, (6, 6), 600, (44.264742, 297.4552547777125)),
        ("large", True, (7, 9), 800, (30.569041, 303.4857382709002)),
    ],
)
def test_spec_goal_and_rewards(maze, dense, goal, horizon, references):
    spec = maze2d.spec(maze, dense)
    assert (spec.ref_min_score, spec.ref_max_score) == references
    assert spec.horizon == horizon and spec.domain == "maze2d"
    env = envs.make(spec)
    assert isinstance(env, maze2d.Maze2D) and (env.maze, env.dense) == (maze, dense)
    for offset, sparse in (((0.3, -0.399), 1), ((0.3, -0.401), 0), ((0, 0), 1)):
        state = maze2d.State(jnp.asarray(goal) + jnp.asarray(offset), jnp.zeros(2))
        reward = env.reward(None, None, state, None)
        expected = np.exp(-np.hypot(*offset)) if dense else sparse
        np.testing.assert_allclose(reward, expected, rtol=1e-5)
        assert not env.terminal(state)


def test_resets_cover_the_free_cells():
    env = maze2d.Maze2D("medium")
    keys = jax.random.split(jax.random.key(0), 4000)
    states = jax.jit(jax.vmap(env.initial))(keys)
    cells = np.round(states.qpos).astype(int)
    noise = np.asarray(states.qpos) - cells
    counts = np.unique(cells, axis=0, return_counts=True)
    free = [(w, h) for w, row in FREE["medium"].items() for h in row]
    assert [tuple(cell) for cell in counts[0]] == free
    assert counts[1].min() > 4000 / len(free) * 0.6
    assert 0.095 < np.abs(noise).max() <= 0.1 + 1e-6
    np.testing.assert_allclose(np.std(states.qvel), 0.1, rtol=0.05)


def test_integers_and_mixed_arguments_are_taken():
    qpos, qvel = maze2d.dynamics("umaze", np.array([1, 1]), np.zeros(2), [1, 0])
    assert qpos.dtype == qvel.dtype == jnp.float32
    mass = 4 / 3 * np.pi
    np.testing.assert_allclose(qvel, [100 * 0.01 / (mass + 0.01), 0], rtol=1e-6)
    np.testing.assert_allclose(qpos, [1 + 0.01 * qvel[0], 1], rtol=1e-6)


def test_unknown_maze():
    for call in (
        lambda: maze2d.spec("huge"),
        lambda: maze2d.Maze2D("huge"),
        lambda: maze2d.dynamics("huge", np.ones(2), np.zeros(2), np.zeros(2)),
    ):
        with pytest.raises(UserError, match=r"'huge'.*umaze, medium, large"):
            call()
