"""AntMaze on the batched engine against a plain MuJoCo loop, and its rules."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from offjax.datasets import legacy
from offjax.envs import antmaze
from offjax.envs.batched import GymnasiumBatch, make_batched
from offjax.envs.mujoco import adds_margins, quiet
from offjax.errors import UserError
from offjax.evaluation import environments

mj = pytest.importorskip("mujoco")
pytest.importorskip("mujoco.batch")

MAPS = {
    "umaze": ["#####", "#   #", "### #", "#   #", "#####"],
    "medium": [
        "########",
        "#  ##  #",
        "#  #   #",
        "##   ###",
        "#  #   #",
        "# #  # #",
        "#   #  #",
        "########",
    ],
    "large": [
        "############",
        "#    #     #",
        "# ## # # # #",
        "#      #   #",
        "# #### ### #",
        "#  # #     #",
        "## # # # ###",
        "#  #   #   #",
        "############",
    ],
}
GOALS = {"umaze": (0.0, 8.0), "medium": (20.0, 20.0), "large": (32.0, 24.0)}
"""The middle of the goal's cell, (x, y)."""


def plain_model(rows: list[str]):
    """D4RL's model, as text: Gymnasium's file with D4RL's numbers, and boxes."""
    assets = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    tree = ET.parse(assets / "ant.xml")
    tree.find("option").set("timestep", "0.02")
    default = tree.find("default/geom")
    default.set("solimp", ".8 .8 .01")
    default.set("solref", ".02 1")
    for motor in tree.findall("actuator/motor"):
        motor.attrib.pop("gear")
        motor.set("ctrlrange", "-30 30")
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            if tile == "#":
                box = {"type": "box", "size": "2 2 1", "contype": "1"}
                box |= {"conaffinity": "1", "pos": f"{4 * x - 4} {4 * y - 4} 1"}
                ET.SubElement(tree.find("worldbody"), "geom", box)
    with quiet():
        model = mj.MjModel.from_xml_string(ET.tostring(tree.getroot(), "unicode"))
    if adds_margins():
        model.geom_margin[:] /= 2
    return model


class Plain:
    """One AntMaze, one simulation, one step at a time."""

    def __init__(self, rows: list[str], goal: tuple[float, float]) -> None:
        self.model = plain_model(rows)
        self.data = mj.MjData(self.model)
        self.corner = np.array(goal)
        self.free = [
            (y, x)
            for y, row in enumerate(rows)
            for x, tile in enumerate(row)
            if tile == " " and (4 * x - 4, 4 * y - 4) != goal
        ]
        self.walls_touched = 0

    def reset(self, seed: int, random_start: bool) -> np.ndarray:
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        self.goal = self.corner + rng.uniform(0, 1, 2) + rng.uniform(0, 0.5, 2)
        qpos = np.zeros(15)
        qpos[[2, 3]] = 0.75, 1.0
        qpos += rng.uniform(-0.1, 0.1, 15)
        qvel = 0.1 * rng.standard_normal(14)
        if random_start:
            y, x = rng.choice(self.free)
            qpos[:2] = np.array([4 * x - 4, 4 * y - 4]) + rng.uniform(0, 1, 2)
        self.place(qpos, qvel)
        return self._observation()

    def place(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        mj.mj_resetData(self.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mj.mj_forward(self.model, self.data)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        self.data.ctrl[:] = np.float32(30) * action
        for _ in range(5):
            mj.mj_step(self.model, self.data)
        geoms = self.data.contact.geom
        boxes = self.model.geom_type == mj.mjtGeom.mjGEOM_BOX
        self.walls_touched += bool(boxes[geoms].any())
        there = bool(np.hypot(*(self.data.qpos[:2] - self.goal)) <= 0.5)
        return self._observation(), float(there), there

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel]).astype(np.float32)


@pytest.mark.parametrize("maze", sorted(antmaze.MAZES))
@pytest.mark.parametrize("random_start", [False, True])
def test_equals_a_plain_loop_bit_for_bit(maze, random_start):
    spec = antmaze.spec(maze, random_start)
    batch, plain = make_batched(spec, 3), Plain(MAPS[maze], GOALS[maze])
    assert isinstance(batch, antmaze.AntMazeBatch)
    rng = np.random.default_rng(0)
    places = np.array([2, 0])  # place 0 is followed, the others are busy or idle
    for seed in (3, 4):
        seen = batch.reset(places, [seed + 100, seed])[1]
        np.testing.assert_array_equal(seen, plain.reset(seed, random_start))
        np.testing.assert_allclose(batch.goals[0], plain.goal, rtol=1e-12)
        if seed == 4:  # into a corner, against two walls
            qpos, qvel = batch.ants.states(places)
            qpos[1, :2] = -1.3
            batch.ants.place(places, qpos, qvel)
            plain.place(qpos[1], qvel[1])
        for _ in range(60):
            actions = rng.uniform(-1, 1, (2, 8)).astype(np.float32)
            found = [column[1] for column in batch.step(places, actions)]
            observation, reward, terminal = plain.step(actions[1])
            np.testing.assert_array_equal(found[0], observation)
            assert (found[1], found[2]) == (reward, terminal)
        np.testing.assert_array_equal(batch.ants.qpos[0], plain.data.qpos)
        np.testing.assert_array_equal(batch.ants.qvel[0], plain.data.qvel)
    assert plain.walls_touched > 5


def test_the_model_is_d4rls():
    """What the simulator reads from both is equal."""
    ours, plain = antmaze.ant_model("large"), plain_model(MAPS["large"])
    for name in (
        *("body_mass", "body_inertia", "dof_armature", "dof_damping", "jnt_range"),
        *("geom_pos", "geom_size", "geom_type", "geom_friction", "geom_solimp"),
        *("geom_solref", "geom_margin", "geom_contype", "geom_conaffinity"),
        *("actuator_gear", "actuator_ctrlrange", "geom_condim", "qpos0"),
    ):
        expected = getattr(plain, name)
        np.testing.assert_array_equal(getattr(ours, name), expected, err_msg=name)
    assert ours.opt.timestep * antmaze.FRAME_SKIP == pytest.approx(antmaze.SECONDS)


@pytest.mark.parametrize("maze", sorted(antmaze.MAZES))
def test_maps_and_goals(maze):
    found = antmaze.layout(maze)
    free = [[tile == " " for tile in row] for row in MAPS[maze]]
    np.testing.assert_array_equal(found.walls, ~np.array(free))
    np.testing.assert_array_equal(antmaze.centers(np.array(found.goal)), GOALS[maze])
    for cell in (antmaze.START, found.goal, *found.goals):
        assert not found.walls[cell]
    cells = found.free_cells
    inside = antmaze.centers(cells)[:, None] + np.array([[-1.9, 1.9], [1.9, -1.9]])
    back = antmaze.cells_at(inside)
    np.testing.assert_array_equal(back, np.repeat(cells[:, None], 2, axis=1))


@pytest.mark.parametrize("random_start", [False, True])
def test_goals_and_starts_lie_where_d4rl_puts_them(random_start):
    batch = make_batched(antmaze.spec("medium", random_start), 300)
    places = batch.reset(np.arange(300), range(300))[:, :2]
    offsets = batch.goals - GOALS["medium"]
    assert offsets.min() >= 0 and 1.3 < offsets.max() <= 1.5
    np.testing.assert_allclose(offsets.mean(axis=0), 0.75, atol=0.06)
    if not random_start:
        assert np.abs(places).max() <= 0.1
        return
    cells = antmaze.cells_at(places)
    offsets = places - antmaze.centers(cells)
    assert offsets.min() >= 0 and 0.9 < offsets.max() <= 1
    goal = antmaze.layout("medium").goal
    assert len(np.unique(cells, axis=0)) == len(antmaze.layout("medium").free_cells) - 1
    assert not (cells == goal).all(axis=1).any()


def test_reaching_ends_and_falling_does_not():
    batch = make_batched(antmaze.spec("umaze"), 3)
    places, still = np.arange(3), np.zeros((3, 8), np.float32)
    batch.reset(places, [0, 2, 1])
    qpos, qvel = batch.ants.states(places)
    # D4RL: within half a meter. Away from walls an ant at rest hardly moves.
    for place, distance in enumerate((0.48, 0.52, 0.7)):
        qpos[place, :2] = batch.goals[place] + [distance, 0.0]
    qpos[2, 3:7] = 0, 1, 0, 0  # upside down
    batch.ants.place(places, qpos, 0 * qvel)
    _, rewards, terminals = batch.step(places, still)
    assert rewards.tolist() == [1.0, 0.0, 0.0]
    assert terminals.tolist() == [True, False, False]


def test_random_actions_score_nothing():
    spec = antmaze.spec("umaze")
    batch, rng = make_batched(spec, 8), np.random.default_rng(0)
    places, returns = np.arange(8), np.zeros(8)
    batch.reset(places, range(8))
    for _ in range(spec.horizon):
        actions = rng.uniform(-1, 1, (8, 8)).astype(np.float32)
        returns += batch.step(places, actions)[1]
    assert spec.score(returns).max() == 0.0


def test_gymnasium_plays_the_same_episodes():
    spec = antmaze.spec("umaze")
    env = gymnasium.make(spec.id, maze="umaze", disable_env_checker=True)
    batch, threads = make_batched(spec, 2), GymnasiumBatch(spec, 1)
    seen, _ = env.reset(seed=5)
    assert seen in env.observation_space
    np.testing.assert_array_equal(batch.reset(np.array([1]), [5])[0], seen)
    np.testing.assert_array_equal(threads.reset(np.array([0]), [5])[0], seen)
    action = np.full(8, 0.5, np.float32)
    for _ in range(spec.horizon):
        seen, reward, terminal, truncated, info = env.step(action)
    np.testing.assert_array_equal(info["goal"], batch.goals[1])
    assert (reward, terminal, truncated) == (0.0, False, True)
    first, _ = env.reset()
    again, _ = env.reset()
    assert not np.array_equal(first, again)
    env.reset(options={"goal": (0.2, 0.0)})
    assert env.step(action)[1:3] == (1.0, True)


def test_d4rls_files_are_evaluated_in_it():
    names = [name for name in legacy.table() if name.startswith("antmaze-")]
    assert len(names) == 12
    for name in names:
        found = legacy.spec(name, 29, 8)
        own = antmaze.spec(name.split("-")[1])
        for field in ("id", "kwargs", "horizon", "domain", "action_low"):
            assert getattr(found, field) == getattr(own, field)
        assert found.score(np.array([0.0, 1.0])).tolist() == [0.0, 100.0]
        assert environments.missing(found) is None
        assert environments.describe(found)["stepped_by"] == "mujoco.batch"


def test_unknown_mazes_and_arguments_are_refused():
    with pytest.raises(UserError, match="'tiny'"):
        antmaze.spec("tiny")
    odd = dataclasses.replace(antmaze.spec("umaze"), kwargs=(("size", 3),))
    with pytest.raises(UserError, match="size"):
        make_batched(odd, 1)
