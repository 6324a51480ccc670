"""The calibrate command."""

import subprocess
import sys

import pytest

from offjax.catalog import load
from offjax.cli import calibrate
from offjax.errors import UserError


def test_states_are_read_where_a_dataset_has_them(monkeypatch):
    asked = []

    def load_dataset(name, data_dir, infos=(), progress=None):
        asked.append(infos)
        if infos and name == "plain":
            raise UserError("no infos")
        if name == "absent":
            raise UserError("no such dataset")
        return (name, infos)

    monkeypatch.setattr(load, "load_dataset", load_dataset)
    assert calibrate.load("rich", None) == ("rich", ("qpos", "qvel"))
    assert calibrate.load("plain", None) == ("plain", ())
    with pytest.raises(UserError, match="no such dataset"):
        calibrate.load("absent", None)


def test_bad_input_is_one_paragraph():
    done = subprocess.run(
        [sys.executable, "-m", "experiments.calibrate"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: --dataset is missing")
