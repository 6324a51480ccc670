"""Annotations: written, read, selected, and refused where they do not fit."""

import dataclasses

import numpy as np
import pytest

from offjax.datasets import language, minari_io
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from tests.methods.language_data import corners


def dataset(lengths=(7, 3, 12)):
    rows = sum(lengths)
    timeouts = np.zeros(rows, bool)
    timeouts[np.cumsum(lengths) - 1] = True
    observations = np.arange(rows, dtype=np.float32)[:, None] * [1, 0]
    return Dataset.from_arrays(
        observations,
        np.zeros((rows, 1)),
        np.zeros(rows),
        np.zeros(rows, bool),
        timeouts,
    )


def annotations(**changes):
    fields = {
        "starts": np.array([0, 5, 10]),
        "ends": np.array([4, 7, 20]),
        "instructions": np.array([1, 0, 1]),
        "texts": np.array([0, 2, 1]),
        "names": ("close", "open"),
        "sentences": ("open it", "open up", "shut it"),
        "snapshots": {"qpos": np.arange(6.0).reshape(3, 2)},
    }
    return language.Annotations(**{**fields, **changes})


def test_round_trip(tmp_path):
    before = annotations()
    before.save(tmp_path / "a.npz")
    after = language.Annotations.load(tmp_path / "a.npz")
    assert after.snapshots.keys() == {"qpos"}
    np.testing.assert_array_equal(after.snapshots["qpos"], before.snapshots["qpos"])
    for field in dataclasses.fields(before)[:-1]:
        expected, found = getattr(before, field.name), getattr(after, field.name)
        assert type(expected) is type(found)
        np.testing.assert_array_equal(expected, found)
    assert after.text(1) == "shut it"
    second = after.select(np.array([False, True, False]))
    assert second.text(0) == "shut it"
    np.testing.assert_array_equal(second.snapshots["qpos"], [[2, 3]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ends": np.array([4, 8, 20])}, "5 to 8.*the episode it begins in"),
        ({"ends": np.array([4, 7, 30])}, "10 to 30.*rows 0 to 22"),
        ({"starts": np.array([-1, 5, 10])}, "-1 to 4"),
        ({"starts": np.array([0, 7, 10])}, "7 to 7"),
        ({"texts": np.array([0, 3, 1])}, "sentence 3.*holds 3"),
        ({"instructions": np.array([0, 2, 1])}, "instruction 2.*holds 2"),
    ],
)
def test_spans_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        language.annotate(dataset(), annotations(**changes))


def test_bad_input(tmp_path):
    with pytest.raises(UserError, match="no language annotations"):
        language.require(dataset())
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="cannot be read"):
        language.Annotations.load(tmp_path / "a.npz")


def test_minari_keeps_annotations(tmp_path):
    before = corners(num_episodes=3)
    minari_io.write(before, {}, tmp_path)
    after = minari_io.read("test/corners-v0", tmp_path)
    assert isinstance(after, language.LanguageDataset)
    np.testing.assert_array_equal(after.actions, before.actions)
    np.testing.assert_array_equal(after.annotations.ends, before.annotations.ends)
    assert after.annotations.sentences == before.annotations.sentences
    assert after.annotations.text(5) == before.annotations.text(5)
    # One that was damaged is reported, not taken for a dataset without language.
    path = tmp_path / "test/corners-v0/data" / language.FILE
    path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        minari_io.read("test/corners-v0", tmp_path)
