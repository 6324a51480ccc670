"""AntMaze data: ways through the mazes, the episodes' rules, rewards."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from offjax.behavior import ant_goal, antmaze, packaging, policies, sac, training
from offjax.catalog import collected
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
        gaps = guide.aim(np.arange(len(places)), places) - places
        far = np.linalg.norm(gaps, axis=1, keepdims=True)
        places = places + 0.1 * gaps / np.maximum(far, 0.1)
        assert not walls[tuple(env.cells_at(places).T)].any()
        arrived |= np.linalg.norm(places - goals, axis=1) <= env.GOAL_RADIUS
    assert arrived.all()


def test_an_ant_that_left_its_way_gets_a_new_one():
    start, end, corner = env.centers(np.array([(1, 1), (3, 1), (3, 3)]))
    both = np.zeros((2, 25, 2))
    guide = antmaze.Navigators(
        "umaze", np.array([start] * 2), np.array([end] * 2), both
    )

    def aim(place):
        return guide.aim(np.array([1]), place[None])[0].tolist()

    assert aim(start) == [4, 0] == aim(start + 0.9)
    assert aim(np.array([3.2, 0])) == [8, 0]  # near the waypoint: on to the next
    assert aim(corner) == [4, 8]
    assert aim(start) == [4, 0]
    assert aim(end + 1.2) == end.tolist()
    assert guide.aim(np.array([0]), start[None])[0].tolist() == [4, 0]  # led apart


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
    rows = collect("medium-play", 1100)
    assert rows["observations"].shape == (1100, 29)
    assert np.flatnonzero(rows["timeouts"]).tolist() == [999, 1099]
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
    """Also with the packaged policy, beside others or alone."""
    short, long = antmaze.generate("umaze", 200), antmaze.generate("umaze", 900)
    other = antmaze.generate("umaze", 200, seed=1)
    for key in ("observations", "actions", "infos/goal"):
        np.testing.assert_array_equal(short[key], long[key][:200])
        assert not np.array_equal(short[key], other[key])


def test_episodes_end_at_their_hidden_goals():
    rows = antmaze.generate("umaze", 2000)
    ends = np.flatnonzero(rows["terminals"] | rows["timeouts"])
    assert ends[-1] == 1999 and not (rows["terminals"] & rows["timeouts"]).any()
    goals = rows["infos/goal"]  # in umaze the two are the same
    there = np.linalg.norm(rows["next_observations"][:, :2] - goals, axis=1) <= 0.5
    np.testing.assert_array_equal(rows["terminals"], there)
    np.testing.assert_array_equal(rows["rewards"], there)
    begins = np.abs(rows["observations"][ends[:-1] + 1, :2]).max(axis=1) <= 0.1
    assert len(ends) > 4 and begins.all()
    assert rows["terminals"].sum() > 0.7 * (len(ends) - 1)
    infos = {"goal": rows.pop("infos/goal")}
    spec = env.spec("umaze")
    dataset = Dataset.from_arrays(**rows, spec=spec, id="test/a-v0", infos=infos)
    assert (dataset.episode_ends - 1).tolist() == ends.tolist()


@pytest.mark.parametrize("name", ["umaze-diverse", "large-play"])
def test_hidden_goals_are_evaluations(name):
    what = antmaze.task(name)
    drawn = antmaze.begin(what, env.Ants(what.maze, 1), 0, range(600))
    layout = env.layout(what.maze)
    offsets = drawn.hidden - env.centers(np.array(layout.goal))
    assert offsets.min() >= 0 and 1.3 < offsets.max() <= 1.5
    led_there = (env.cells_at(drawn.goals) == layout.goal).all(axis=1)
    same = (drawn.goals == drawn.hidden).all(axis=1)
    np.testing.assert_array_equal(led_there, same)
    assert 0 < led_there.mean() < 0.3


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


@pytest.mark.long
@pytest.mark.parametrize("name", antmaze.ANT_MAZES)
def test_the_packaged_ant_reaches_goals_in_every_maze(name):
    rows = antmaze.generate(name, 50_000)
    arrived = np.linalg.norm(
        rows["next_observations"][:, :2] - rows["infos/goal"], axis=1
    )
    ends = np.flatnonzero(rows["terminals"] | rows["timeouts"]) + 1
    episodes = np.split(arrived <= env.GOAL_RADIUS, ends)[:-2]  # the last may be cut
    paid = np.split(rows["rewards"], ends)[:-2]
    reached = [a.any() or p.any() for a, p in zip(episodes, paid, strict=True)]
    assert np.mean(reached) > 0.9


def test_a_training_scores_resumes_and_packages_one_policy(tmp_path):
    plan = training.Plan(
        "ant_goal",
        num_steps=80,
        warmup=40,
        num_envs=4,
        num_snapshots=1,
        eval_episodes=1,
        algorithm=sac.Config(hidden_dims=(8,), batch_size=8),
    )
    told: list[str] = []
    training.Training(plan, tmp_path / "run", told.append).run()
    longer = dataclasses.replace(plan, num_steps=120)
    training.Training(longer, tmp_path / "run", told.append).run()
    assert "goes on from step 80" in told[-2] and "120/120" in told[-1]
    rows = packaging.package(longer, tmp_path / "run", tmp_path / "out", "cmd", 1)
    assert [row["roles"] for row in rows] == ["expert"]
    assert int(rows[0]["env_steps"]) >= 60  # of the second half
    assert not (tmp_path / "out" / "ant_goal.json").exists()
    actor = policies.load(tmp_path / "out" / "ant_goal.npz")[rows[0]["snapshot"]]
    assert actor.weights[0].shape == (29, 8) and actor.action_dim == 8


def test_the_dataset_is_found_by_its_id():
    entry = collected.parse("offjax/antmaze/umaze-v0")
    dataset = collected.generate(entry, 350, seed=1)
    assert dataset.spec == env.spec("umaze") and len(dataset) == 350
    assert dataset.infos["goal"].shape == (350, 2)
    assert collected.specification(entry, None, 0)["num_transitions"] == 1_000_000
