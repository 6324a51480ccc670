"""AntMaze data: ways through the mazes, the episodes' rules, rewards."""

from __future__ import annotations

import numpy as np
import pytest

from offjax.behavior import ant_goal, antmaze
from offjax.datasets.dataset import Dataset
from offjax.envs import antmaze as env
from offjax.errors import UserError

pytest.importorskip("mujoco.batch")


def idle(features, noise):
    """A policy that stands still but for noise."""
    return 0.3 * noise


def collect(name="umaze", num_steps=1500, **kwargs):
    return antmaze.generate(name, num_steps, walk=idle, **kwargs)


@pytest.mark.parametrize("maze", sorted(env.MAZES))
def test_waypoints_lead_from_every_cell_to_every_goal(maze):
    """A point that moves .1 towards its aim never enters a wall, and arrives."""
    walls, rng = env.layout(maze).walls, np.random.default_rng(0)
    cells = env.layout(maze).free_cells
    pairs = np.array([(a, b) for a in cells for b in cells])
    places = env.centers(pairs[:, 0]) + rng.uniform(-0.5, 1, (len(pairs), 2))
    goals = env.centers(pairs[:, 1]) + rng.uniform(0, 1.5, (len(pairs), 2))
    spreads = rng.uniform(0, 1, (len(pairs), walls.size, 2))
    guide = antmaze.Navigators(maze, places, goals, spreads)
    arrived = np.zeros(len(pairs), bool)
    for _ in range(1200):
        gaps = guide.aim(places) - places
        far = np.linalg.norm(gaps, axis=1, keepdims=True)
        places = places + 0.1 * gaps / np.maximum(far, 0.1)
        assert not walls[tuple(env.cells_at(places).T)].any()
        arrived |= np.linalg.norm(places - goals, axis=1) <= env.GOAL_RADIUS
    assert arrived.all()


def test_an_ant_that_left_its_way_gets_a_new_one():
    start, goal = env.centers(np.array([(1, 1), (3, 1)]))
    guide = antmaze.Navigators("umaze", start[None], goal[None], np.zeros((1, 25, 2)))
    np.testing.assert_array_equal(guide.aim(start[None])[0], env.centers((1, 2)))
    np.testing.assert_array_equal(
        guide.aim(env.centers(np.array([(3, 3)])))[0], env.centers((3, 2))
    )
    np.testing.assert_array_equal(guide.aim(goal[None] + 1.2)[0], goal)


@pytest.mark.parametrize("name", antmaze.ANT_MAZES)
def test_starts_and_goals(name):
    what = antmaze.task(name)
    layout = env.layout(what.maze)
    drawn = antmaze.begin(what, env.Ants(what.maze, 1), 0, range(600))
    starts = drawn.qpos[:, :2]
    cells = {tuple(cell) for cell in env.cells_at(starts).tolist()}
    goals = {tuple(cell) for cell in env.cells_at(drawn.goals).tolist()}
    free = {tuple(cell) for cell in layout.free_cells.tolist()}
    if name == "umaze":
        assert np.abs(starts).max() <= 0.1 and goals == {(3, 1)}
    elif name == "medium-play":
        assert goals == {(2, 6), (5, 1), (6, 5)} and cells == free - goals
    elif name == "large-play":
        assert goals == {(1, 6), (3, 5), (3, 10), (5, 2), (7, 4), (7, 6), (7, 9)}
        assert cells == free - goals
    else:
        assert cells == goals == free
    assert len(np.unique(drawn.goals, axis=0)) == 600
    assert what.length == (700 if name == "umaze" else 1000)


def test_rows_are_continuous_and_their_dynamics_the_environments():
    rows = collect("medium-play", 1500)
    assert rows["observations"].shape == (1500, 29)
    assert np.flatnonzero(rows["timeouts"]).tolist() == [999, 1499]
    same = np.all(rows["next_observations"][:-1] == rows["observations"][1:], axis=1)
    assert np.flatnonzero(~same).tolist() == [999]
    ants = env.Ants("medium", 1)
    first = rows["observations"][0].astype(np.float64)[None]
    place = np.array([0])
    ants.place(place, first[:, :15], first[:, 15:])
    ants.advance(place, rows["actions"][:1])
    found = np.concatenate(ants.states(place), axis=1)[0]
    np.testing.assert_allclose(found, rows["next_observations"][0], atol=1e-4)


def test_episodes_depend_on_their_number_alone():
    short, long = collect(num_steps=600), collect(num_steps=1500)
    other = collect(num_steps=600, seed=1)
    for key in ("observations", "actions", "infos/goal"):
        np.testing.assert_array_equal(short[key], long[key][:600])
        assert not np.array_equal(short[key], other[key])


def test_rewards_are_for_the_evaluations_goal():
    """An ant that is led there is paid wherever it comes within .5 of the goal."""
    rows = collect("umaze", 700)
    assert rows["rewards"].max() == 0 and not rows["terminals"].any()
    middle = env.centers(np.array(env.layout("umaze").goal)) + 0.75
    np.testing.assert_array_equal(antmaze.rewarded_goal("umaze"), middle)
    rows["next_observations"][[5, 300], :2] = middle + 0.3
    rows["next_observations"][6, :2] = middle + 0.4
    paid = antmaze.rewarded(rows, "umaze")
    assert np.flatnonzero(paid["rewards"]).tolist() == [5, 300]
    assert np.flatnonzero(paid["terminals"]).tolist() == [5, 300]
    infos = {"goal": paid.pop("infos/goal")}
    spec = env.spec("umaze")
    dataset = Dataset.from_arrays(**paid, spec=spec, id="test/a-v0", infos=infos)
    assert dataset.episode_ends.tolist() == [6, 301, 700]


def test_features_do_not_change_when_everything_is_turned():
    rng, ants = np.random.default_rng(0), env.Ants(None, 1)
    qpos, qvel = (x[None] for x in ants.noisy(rng))
    goal = qpos[:, :2] + [[2.0, 1.0]]
    before = ant_goal.features(qpos, qvel, goal)
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    half = np.array([np.cos(angle / 2), 0, 0, np.sin(angle / 2)])
    w, x, y, z = qpos[0, 3:7]
    turned, spun = qpos.copy(), qvel.copy()
    turned[0, 3:7] = [
        half[0] * w - half[3] * z,
        half[0] * x - half[3] * y,
        half[0] * y + half[3] * x,
        half[0] * z + half[3] * w,
    ]
    turned[0, :2] = turn @ qpos[0, :2] + [3.0, -5.0]
    spun[0, :2] = turn @ qvel[0, :2]
    moved = (turn @ goal[0] + [3.0, -5.0])[None]
    np.testing.assert_allclose(
        ant_goal.features(turned, spun, moved), before, atol=1e-6
    )
    ahead = ant_goal.features(
        np.r_[qpos[0, :3], 1, 0, 0, 0, qpos[0, 7:]][None], qvel, goal
    )
    np.testing.assert_allclose(ahead[0, 4:7], np.array([2, 1, 0]) / 5**0.5, atol=1e-6)


def test_the_training_pays_progress_and_ends_with_a_fall():
    ants = ant_goal.AntGoal(2)
    scored = ant_goal.AntGoal(2, scored=True)
    places, rng = np.arange(2), np.random.default_rng(0)
    for batch in (ants, scored):
        seen = batch.reset(places, [3, 4])
    actions = rng.uniform(-1, 1, (2, 8)).astype(np.float32)
    _, rewards, fallen = ants.step(places, actions)
    _, progress, _ = scored.step(places, actions)
    cost = ant_goal.ACTION_COST * np.square(actions).sum(axis=1)
    speed = progress / env.SECONDS
    np.testing.assert_allclose(rewards, speed + ant_goal.BONUS - cost, atol=1e-5)
    assert seen.shape == (2, 29) and not fallen.any()
    ants._ants.qpos[1, 3:7] = 0, 1, 0, 0
    assert ants.step(places, actions)[2].tolist() == [False, True]


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="'large-medium'"):
        antmaze.generate("large-medium")
    with pytest.raises(UserError, match="at least 1"):
        antmaze.generate("umaze", 0)
