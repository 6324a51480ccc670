"""Images in Minari datasets: written, read by Minari itself, and read back as bytes."""

import dataclasses

import h5py
import minari
import numpy as np
import pytest

from offjax.datasets import minari_io
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import Camera, EnvSpec

CAMERAS = (Camera("static", 6, 4), Camera("gripper", 3, 5))
WIDTH = 6 * 4 * 3 + 3 * 5 * 3
SPEC = EnvSpec("offjax/none", WIDTH, (-1.0,), (1.0,), 7, cameras=CAMERAS)
LENGTHS = (7, 4, 7)


def images(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        c.name: rng.integers(0, 256, (rows, c.height, c.width, 3), dtype=np.uint8)
        for c in CAMERAS
    }


def recorded(observations=None, **changes):
    rows = sum(LENGTHS)
    timeouts = np.zeros(rows, bool)
    timeouts[np.cumsum(LENGTHS) - 1] = True
    given = {
        "actions": np.zeros((rows, 1), np.float32),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": timeouts,
        "spec": SPEC,
        "final_observations": images(len(LENGTHS), 1),
        "id": "test/pixels-v0",
    }
    observations = images(rows) if observations is None else observations
    return Dataset.from_arrays(observations, **(given | changes))


def flat(seen):
    return np.concatenate(
        [seen[c.name].reshape(len(seen[c.name]), -1) for c in CAMERAS], 1
    )


def test_images_become_rows_of_bytes_camera_after_camera():
    dataset = recorded()
    assert dataset.observations.dtype == np.uint8
    np.testing.assert_array_equal(dataset.observations, flat(images(18)))
    same = recorded(flat(images(18)))
    np.testing.assert_array_equal(same.observations, dataset.observations)


def test_minari_reads_what_is_written_and_so_does_the_project(tmp_path, monkeypatch):
    dataset = recorded()
    minari_io.write(dataset, {}, tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = list(minari.load_dataset("test/pixels-v0").iterate_episodes())
    assert [len(e.rewards) for e in episodes] == list(LENGTHS)
    for camera in CAMERAS:
        seen = np.concatenate([e.observations[camera.name][:-1] for e in episodes])
        np.testing.assert_array_equal(seen, images(18)[camera.name])
        last = np.stack([e.observations[camera.name][-1] for e in episodes])
        np.testing.assert_array_equal(last, images(3, 1)[camera.name])
    for _ in range(2):  # unpacked, then from the unpacked file
        back = minari_io.read("test/pixels-v0", tmp_path)
        assert back.spec.cameras == CAMERAS
        assert isinstance(back.observations, np.memmap)
        np.testing.assert_array_equal(back.observations, dataset.observations)
        np.testing.assert_array_equal(back.rewards, dataset.rewards)
        np.testing.assert_array_equal(back.timeouts, dataset.timeouts)
        np.testing.assert_array_equal(
            back.final_observations, dataset.final_observations
        )


def test_frames_of_another_size_in_the_file_are_damage(tmp_path):
    minari_io.write(recorded(), {}, tmp_path)
    with h5py.File(tmp_path / "test/pixels-v0/data/main_data.hdf5", "a") as file:
        whole = file["episode_1/observations/gripper"][()]
        del file["episode_1/observations/gripper"]
        file["episode_1/observations/gripper"] = whole[:, :2]
    with pytest.raises(UserError, match=r"camera 'gripper' has frames \(5, 2, 5, 3\)"):
        minari_io.read("test/pixels-v0", tmp_path)


def test_a_missing_frame_in_the_file_is_damage(tmp_path):
    minari_io.write(recorded(), {}, tmp_path)
    with h5py.File(tmp_path / "test/pixels-v0/data/main_data.hdf5", "a") as file:
        whole = file["episode_2/observations/static"][()]
        del file["episode_2/observations/static"]
        file["episode_2/observations/static"] = whole[:-1]
    with pytest.raises(UserError, match=r"frames \(7, 6, 4, 3\) of uint8"):
        minari_io.read("test/pixels-v0", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"static": s["static"]}, "no images of gripper"),
        (lambda s: s | {"static": s["static"] / 255.0}, "bytes"),
        (lambda s: s | {"static": s["static"][..., :1]}, "images of camera 'static'"),
        (lambda s: s | {"static": s["static"][:, :5]}, "images of camera 'static'"),
        (lambda s: flat(s)[:, :-1], "rows of 117 bytes"),
    ],
)
def test_other_images_than_the_cameras_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        recorded(change(images(18)))


def test_without_final_observations_pixels_cannot_be_stored(tmp_path):
    dataset = dataclasses.replace(recorded(), final_observations=None)
    with pytest.raises(UserError, match="final_observations"):
        minari_io.write(dataset, {}, tmp_path)
