"""Places in processes against a simulator of one place."""

import numpy as np
import pytest

from offjax.envs.scene import Simulator
from offjax.envs.scene_batch import SceneBatch

pytest.importorskip("ogbench")


@pytest.fixture(scope="module")
def batch():
    made = SceneBatch("cube-double", 3, processes=2)
    yield made
    made.close()


def test_places_are_those_of_a_simulator(batch):
    simulator = Simulator("cube-double")
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 3, 5))
    first = batch.begin(np.array([2, 0, 1]), [12, 10, 11])
    assert first.shape == (3, 37) and first.dtype == np.float32
    rows = [batch.step(np.arange(3), step) for step in actions[:3]]
    # Place 1 stands still while the others go on.
    rows += [batch.step(np.array([2, 0]), step[[2, 0]]) for step in actions[3:]]
    for place in range(3):
        expected = simulator.reset(0, 10 + place)
        np.testing.assert_array_equal(first[[1, 2, 0][place]], expected)
        for t in range(3 if place == 1 else 6):
            found = rows[t][place] if t < 3 else rows[t][{2: 0, 0: 1}[place]]
            expected = simulator.step(0, actions[t, place])
            np.testing.assert_array_equal(found, expected)


def test_starts_can_be_recorded_states(batch):
    simulator = Simulator("cube-double")
    simulator.reset(0, 5)
    simulator.step(0, np.ones(5))
    snapshot = simulator.snapshot(0)
    expected = simulator.restore(0, snapshot)
    np.testing.assert_array_equal(batch.begin(np.array([1]), [snapshot])[0], expected)


def test_instructions_are_judged_from_where_they_were_given(batch):
    places = np.arange(3)
    batch.begin(places, [1, 2, 3])
    before = batch._now.copy()
    told = ["move_red_cube_left", "move_red_cube_right", "move_blue_cube_left"]
    batch.instruct(places, told)
    assert batch.instruction(2).name == "move_blue_cube_left"
    assert batch.limit("move_red_cube_left") == 150
    assert not batch.succeeded(places).any()
    batch._now[:, 20] += 0.6  # the red cube, 6 cm to the left
    np.testing.assert_array_equal(batch.succeeded(places), [True, False, False])
    np.testing.assert_array_equal(batch.succeeded(np.array([0])), [True])
    batch.instruct(np.array([0]), ["move_red_cube_left"])  # again, from here
    assert not batch.succeeded(np.array([0])).any()
    batch._now[:] = before


def test_a_process_that_ended_is_reported(batch):
    made = SceneBatch("cube-double", 1, processes=1)
    made._workers._workers[0].process.kill()
    with pytest.raises(RuntimeError, match="has ended, with exit code -9"):
        made.begin(np.array([0]), [0])
    made.close()
