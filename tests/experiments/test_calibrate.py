"""The calibrate command."""

import h5py
import numpy as np
import pytest

from offjax.cli import calibrate
from offjax.datasets import minari_io
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec


def test_states_are_read_where_a_dataset_has_them(tmp_path):
    rows = np.arange(8, dtype=np.float32).reshape(4, 2) / 10
    ends = np.arange(4) == 3
    spec = EnvSpec("Nowhere-v0", 2, (-1.0, -1.0), (1.0, 1.0), 4)
    for name in ("mine/plain-v0", "mine/rich-v0"):
        dataset = Dataset.from_arrays(
            rows, rows, rows[:, 0], ends & False, ends, rows + 0.2, spec=spec, id=name
        )
        minari_io.write(dataset, {}, tmp_path)
    with h5py.File(tmp_path / "mine/rich-v0/data/main_data.hdf5", "a") as file:
        for name in ("qpos", "qvel"):
            file[f"episode_0/infos/{name}"] = np.ones((5, 3))
    found = calibrate.load("mine/rich-v0", str(tmp_path))
    assert found.infos["qpos"].shape == found.infos["qvel"].shape == (4, 3)
    assert not calibrate.load("mine/plain-v0", str(tmp_path)).infos
    with pytest.raises(UserError, match="no dataset 'mine/absent-v0'"):
        calibrate.load("mine/absent-v0", str(tmp_path))


def test_bad_input_is_one_paragraph(experiment):
    done = experiment("calibrate")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --dataset is missing")
