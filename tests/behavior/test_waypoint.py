"""Waypoint data of maze2d: paths, the controller's law, published statistics."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path

from offjax.behavior.waypoint import generate, next_cells
from offjax.envs import maze2d
from offjax.errors import UserError

NUM_MAZES = 16


@functools.cache
def data(maze: str, **kwargs) -> dict[str, np.ndarray]:
    return generate(maze, 40_000, num_mazes=NUM_MAZES, **kwargs)


def starts(rows: int) -> np.ndarray:
    """Whether a row is the first of its stream."""
    return np.arange(rows) % (rows // NUM_MAZES) == 0


@pytest.mark.parametrize("maze", maze2d.MAZES)
def test_paths_are_shortest(maze):
    walls = maze2d.MAZES[maze].walls
    height = walls.shape[1]
    cells = [tuple(cell) for cell in np.argwhere(~walls)]
    graph = np.zeros((walls.size, walls.size))
    for w, h in cells:
        for cell in ((w + 1, h), (w, h + 1)):
            if cell in cells:
                graph[w * height + h, cell[0] * height + cell[1]] = 1
    distance = shortest_path(graph, directed=False, unweighted=True)
    table = next_cells(maze)
    free = [w * height + h for w, h in cells]
    for goal in free:
        for start in free:
            new = table[start, goal]
            if start == goal:
                assert new == goal
            else:
                assert distance[start, new] == 1
                assert distance[new, goal] == distance[start, goal] - 1
    # A ball whose position rounds to a wall heads for its nearest free neighbor.
    wall, neighbor = 1, height + 1  # (0, 1) and (1, 1)
    assert (table[wall, free] == neighbor).all()


def test_streams_are_continuous_and_obey_the_dynamics():
    rows = data("large")
    shapes = {name: (x.shape, x.dtype.name) for name, x in rows.items()}
    assert shapes == {
        "observations": ((40_000, 4), "float32"),
        "actions": ((40_000, 2), "float32"),
        "next_observations": ((40_000, 4), "float32"),
        "rewards": ((40_000,), "float32"),
        "terminals": ((40_000,), "bool"),
        "timeouts": ((40_000,), "bool"),
        "infos/goal": ((40_000, 2), "float32"),
    }
    observations, nexts = rows["observations"], rows["next_observations"]
    step = jax.jit(jax.vmap(functools.partial(maze2d.dynamics, "large")))
    qpos, qvel = step(observations[:, :2], observations[:, 2:], rows["actions"])
    np.testing.assert_allclose(np.concatenate([qpos, qvel], 1), nexts, atol=1e-4)
    inner = ~starts(40_000)[1:]
    np.testing.assert_array_equal(nexts[:-1][inner], observations[1:][inner])
    assert not rows["terminals"].any()
    assert rows["timeouts"][:-1][~inner].all() and rows["timeouts"][-1]


def test_rewards_are_those_of_the_evaluations_goal_at_the_observation():
    for dense in (False, True):
        rows = data("umaze", dense=dense)
        distance = np.linalg.norm(rows["observations"][:, :2] - [1, 1], axis=1)
        expected = np.exp(-distance) if dense else distance <= 0.5
        np.testing.assert_allclose(rows["rewards"], expected, rtol=1e-5)
        assert 0.02 < rows["rewards"].mean() < 0.5


@pytest.mark.parametrize("maze", ["umaze", "large"])
def test_the_controller_without_noise(maze):
    rows = data(maze, noise=0.0)
    position, velocity = np.split(rows["observations"], 2, axis=1)
    goals, timeouts = rows["infos/goal"], rows["timeouts"]
    cells = np.round(goals)
    assert np.abs(goals - cells).max() <= 0.1 + 1e-6
    free = {tuple(cell) for cell in np.argwhere(~maze2d.MAZES[maze].walls)}
    assert {tuple(cell) for cell in cells.astype(int)} == free
    # Where no action is clipped, the PD law tells where it steers to.
    inside = (np.abs(rows["actions"]) < 1).all(1)
    aims = (rows["actions"] + velocity) / 10 + position
    ahead = np.ceil(aims - 1e-4)
    assert inside.sum() > 1000
    assert (ahead - aims)[inside].max() <= 0.2 + 1e-4
    assert {tuple(cell) for cell in ahead[inside].astype(int)} <= free
    # Done exactly within .1 of the goal's cell (no goal takes up all of its time).
    distance = np.linalg.norm(position - cells, axis=1)
    last = np.append(starts(40_000)[1:], True)
    np.testing.assert_array_equal((distance < 0.1)[~last], timeouts[~last])
    arrived = inside & timeouts & ~last
    np.testing.assert_allclose(aims[arrived], cells[arrived], atol=1e-4)
    # Goals change after those rows and at no other.
    changed = (goals[1:] != goals[:-1]).any(1)
    np.testing.assert_array_equal(changed, timeouts[:-1])


def test_time_runs_out():
    """With noise that drowns the controller, a goal lasts its horizon + 1 steps."""
    rows = data("large", noise=100.0)
    ends = np.flatnonzero(rows["timeouts"])
    lengths = np.diff(ends)
    assert lengths.max() == 801
    assert (lengths == 801).sum() > 10


def test_official_data_repeat_the_observation_of_a_reached_goal():
    rows = data("umaze", compat="official")
    same = (rows["observations"][1:] == rows["observations"][:-1]).all(1)
    inner = ~starts(40_000)[1:]
    np.testing.assert_array_equal(same[inner], rows["timeouts"][:-1][inner])
    # The ball has moved on all the same.
    moved = np.abs(rows["next_observations"][1:] - rows["next_observations"][:-1])
    assert (moved.max(1)[inner] > 0).all()


def test_the_same_arguments_give_the_same_data():
    first, again = (generate("umaze", 39_998, num_mazes=NUM_MAZES) for _ in range(2))
    other = generate("umaze", 39_998, num_mazes=NUM_MAZES, seed=1)
    for name, x in first.items():
        np.testing.assert_array_equal(x, again[name])
    assert not np.allclose(first["actions"], other["actions"])
    # Sixteen streams of 2500 steps, the last cut by two.
    for name, x in data("umaze").items():
        np.testing.assert_array_equal(first[name][:39_997], x[:39_997])
    assert len(first["timeouts"]) == 39_998 and first["timeouts"][-1]
    assert len(generate("umaze", 2, num_mazes=64)["actions"]) == 2


def check_statistics(rows: dict[str, np.ndarray], tolerance: float) -> None:
    """Those of D4RL's maze2d-large-v1 file."""
    observations = rows["observations"]
    np.testing.assert_allclose(
        observations.std(0), [1.807, 2.569, 2.437, 2.649], rtol=tolerance
    )
    np.testing.assert_allclose(rows["actions"].std(0), [0.7249, 0.7395], rtol=tolerance)
    np.testing.assert_allclose(
        observations.max(0), [7.214, 10.216, 5.22626, 5.22626], rtol=0.01
    )
    np.testing.assert_allclose(observations[:, :2].min(0), [0.490, 0.502], atol=0.1)
    np.testing.assert_allclose(observations[:, 2:].min(0), -5.22626, rtol=0.01)


def test_statistics_of_200k_steps():
    check_statistics(generate("large", 200_000), 0.06)


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1])
def test_statistics_of_1m_steps(seed):
    rows = generate("large", seed=seed)
    check_statistics(rows, 0.03)
    assert 0.006 < rows["rewards"].mean() < 0.012
    assert 215 < len(rows["actions"]) / rows["timeouts"].sum() < 250


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maze": "huge"}, "'huge'"),
        ({"num_steps": 0}, "0 steps"),
        ({"num_mazes": 0}, "0 mazes"),
        ({"noise": -0.5}, "noise.*-0.5"),
        ({"compat": "d4rl"}, "'d4rl'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        generate(**{"maze": "umaze", "num_steps": 10, **arguments})
