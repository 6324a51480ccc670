"""Pictures of the scenes: the same for the same state, and another for another."""

import numpy as np
import pytest

from offjax.behavior import scene_collect
from offjax.catalog import collected
from offjax.envs import opengl, scene_drawing
from offjax.envs.scene import Simulator, spec
from offjax.envs.scene_batch import SceneBatch
from offjax.errors import UserError
from offjax.evaluation import scene as evaluation
from offjax.networks.perception import unpack
from offjax.types import Camera

pytest.importorskip("ogbench", reason="the extra `ogbench` is not installed")
CAMERAS = (Camera("static", 24, 24), Camera("gripper", 16, 16))
WIDTH = 24 * 24 * 3 + 16 * 16 * 3


@pytest.fixture(scope="module", autouse=True)
def _can_draw():
    problem = opengl.problem("scene")
    if problem is not None:
        pytest.skip(problem)


@pytest.fixture(scope="module")
def played():
    """Twelve steps of play, seen by two small cameras, and the same play as states."""
    steps = {"num_steps": 12, "seed": 3, "processes": 1}
    seen = scene_collect.generate("scene", **steps, cameras=CAMERAS)
    return seen, scene_collect.generate("scene", **steps)


def test_the_play_is_that_of_the_states(played):
    seen, states = played
    np.testing.assert_array_equal(seen["infos/state"], states["observations"])
    np.testing.assert_array_equal(seen["actions"], states["actions"])
    assert seen["observations"].shape == (12, WIDTH)
    assert seen["observations"].dtype == np.uint8
    assert seen["final_observations"].shape == (1, WIDTH)
    moved = (seen["observations"][0] != seen["observations"][-1]).mean()
    assert moved > 0.02


def test_a_picture_is_a_function_of_the_state():
    batch = SceneBatch("scene", 2, processes=0, cameras=CAMERAS)
    try:
        given = evaluation.trials("scene", 2).singles[0]
        start = given.start
        first = batch.begin(np.arange(2), [start, start])
        np.testing.assert_array_equal(first[0], first[1])
        assert first.shape == (2, WIDTH) and first.dtype == np.uint8
        static, gripper = unpack(first, CAMERAS)
        assert static.std() > 20 and gripper.std() > 10
        actions = np.array([[0, 0, -1.0, 0, 0], [0, 0, 0, 0, 0]])
        for _ in range(5):
            after = batch.step(np.arange(2), actions)
        assert (after[0] != after[1]).mean() > 0.02
        again = batch.begin(np.array([0]), [start])
        np.testing.assert_array_equal(again[0], first[0])
    finally:
        batch.close()


def test_cameras_that_there_are_not_are_refused():
    with pytest.raises(UserError, match="no camera 'wrist'; there are static"):
        scene_drawing.Painter(Simulator("scene"), (Camera("wrist", 8, 8),))


def test_the_catalog_has_each_scene_in_pixels(tmp_path):
    entry = collected.parse("offjax/scene/pixels-v0")
    assert entry.spec().cameras == scene_drawing.CAMERAS
    assert entry.spec().observation_dim == 2 * 64 * 64 * 3
    assert entry.size == ("num_transitions", 100_000)
    assert spec("scene", CAMERAS).observation_dim == WIDTH


def test_text_of_cameras_is_read_back():
    text = scene_drawing.encode_cameras(CAMERAS)
    assert scene_drawing.decode_cameras(text) == CAMERAS
    assert scene_drawing.decode_cameras("") == ()
