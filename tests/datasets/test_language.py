"""Annotated spans against the rows that they were drawn from."""

import dataclasses
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from offjax.datasets import language, minari_io
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError


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


@pytest.fixture(scope="module")
def play():
    encoding = np.eye(3, dtype=np.float32)
    return language.from_dataset(language.annotate(dataset(), annotations()), encoding)


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


def test_statistics_have_a_floor(play):
    np.testing.assert_allclose(play.statistics.observation_mean, [10.5, 0])
    expected = np.sqrt((22**2 - 1) / 12)  # of 22 consecutive integers
    np.testing.assert_allclose(play.statistics.observation_std, [expected, 0.01], 1e-6)


@pytest.mark.parametrize("length", [3, 5])
def test_play_windows_stay_in_their_episode(play, length):
    drawn = language.play_windows(play, jax.random.key(0), 500, length)
    rows, mask = np.asarray(drawn.rows), np.asarray(drawn.mask)
    episode = np.repeat([0, 1, 2], [7, 3, 12])[rows]
    assert (episode == episode[:, :1]).all()
    size = np.array([7, 3, 12])[episode[:, 0]]
    np.testing.assert_array_equal(mask.sum(axis=1), np.minimum(length, size))
    for row, valid in zip(rows, mask, strict=True):
        assert (np.diff(row[valid]) == 1).all()
        assert (row[~valid] == row[valid][-1]).all()
    starts = set(range(7 - length + 1)) | {7} | set(range(10, 22 - length + 1))
    starts |= set(range(7, 10 - length + 1))
    assert set(rows[:, 0]) == starts


def test_annotated_windows_by_step(play):
    drawn = language.annotated_windows(play, jax.random.key(0), 16_000, 3, stride=2)
    rows, mask = np.asarray(drawn.rows), np.asarray(drawn.mask)
    span = np.asarray(drawn.annotations)
    starts, ends = np.array([0, 5, 10]), np.array([4, 7, 20])
    first = rows[:, 0]
    assert ((starts[span] <= first) & (first < ends[span])).all()
    wanted = first[:, None] + 2 * np.arange(3)
    np.testing.assert_array_equal(mask, wanted < ends[span][:, None])
    np.testing.assert_array_equal(rows, np.minimum(wanted, ends[span][:, None] - 1))
    counts = np.bincount(first, minlength=22) / 16_000
    inside = [0, 1, 2, 3, 5, 6, *range(10, 20)]
    np.testing.assert_allclose(counts[inside], 1 / 16, atol=0.01)
    assert counts.sum() == pytest.approx(counts[inside].sum())


def test_annotated_windows_by_span(play):
    drawn = language.annotated_windows(play, jax.random.key(1), 6000, 2, first="span")
    share = np.bincount(np.asarray(drawn.annotations)) / 6000
    np.testing.assert_allclose(share, 1 / 3, atol=0.03)
    assert set(np.asarray(drawn.rows)[:, 0]) == {0, 1, 2, 3, 5, 6, *range(10, 20)}
    drawn = language.annotated_windows(play, jax.random.key(1), 100, 2, first="start")
    assert set(np.asarray(drawn.rows)[:, 0]) == {0, 5, 10}
    with pytest.raises(UserError, match="'step', 'span' or 'start'"):
        language.annotated_windows(play, jax.random.key(1), 2, 2, first="end")


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
        language.from_dataset(dataset())
    with pytest.raises(UserError, match=r"2\s+rows, but there are 3 sentences"):
        language.from_dataset(
            language.annotate(dataset(), annotations()), np.zeros((2, 5))
        )
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="cannot be read"):
        language.Annotations.load(tmp_path / "a.npz")


def test_minari_keeps_annotations(tmp_path):
    corners = runpy.run_path(str(Path(__file__).with_name("language_data.py")))
    before = corners["corners"](num_episodes=3)
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
