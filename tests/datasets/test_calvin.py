"""CALVIN's folders: written and read back, and all that can be wrong with one."""

import os

import numpy as np
import pytest

from offjax.datasets import calvin, calvin_export
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, annotate
from offjax.datasets.text import encode
from offjax.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))


def play(lengths=(6, 4)):
    """Rows with a scene's 40 entries; effector, yaw and gripper in their places."""
    rng = np.random.default_rng(0)
    rows = sum(lengths)
    timeouts = np.zeros(rows, bool)
    timeouts[np.cumsum(lengths) - 1] = True
    states = rng.normal(size=(rows + 1, 40)).astype(np.float32)
    dataset = Dataset.from_arrays(
        states[:-1],
        rng.uniform(-1, 1, (rows, 5)),
        np.zeros(rows),
        np.zeros(rows, bool),
        timeouts,
        states[1:],
        id="test/play-v0",
    )
    return annotate(
        dataset,
        Annotations(
            np.array([1, 3, 6]),
            np.array([3, 6, 10]),
            np.array([1, 0, 1]),
            np.array([0, 2, 1]),
            ("close", "open"),
            ("open it", "open up", "shut it"),
        ),
    )


@pytest.fixture
def folder(tmp_path):
    calvin_export.write(play(), tmp_path / "task", rows=0)
    return tmp_path / "task"


def test_round_trip(folder):
    before, after = play(), calvin.read(folder)
    np.testing.assert_array_equal(after.observations, before.observations)
    np.testing.assert_array_equal(after.actions, before.actions)
    np.testing.assert_array_equal(after.episode_ends, before.episode_ends)
    spans, expected = after.annotations, before.annotations
    np.testing.assert_array_equal(spans.starts, expected.starts)
    np.testing.assert_array_equal(spans.ends, expected.ends)
    for i in range(3):
        assert spans.text(i) == expected.text(i)
        name = expected.names[expected.instructions[i]]
        assert spans.names[spans.instructions[i]] == name
    assert after.spec.domain == "calvin" and after.spec.horizon == 360


def test_files_are_laid_out_as_calvins(folder):
    place = folder / "training"
    with np.load(place / "episode_0000002.npz") as file:
        assert set(file) == {"robot_obs", "scene_obs", "rel_actions", "actions"}
        following = play().next_observations[2]
        np.testing.assert_allclose(
            file["actions"][:3], following[12:15] / 10 + [0.425, 0, 0], rtol=1e-5
        )
        yaw = np.arctan2(following[16], following[15])
        np.testing.assert_allclose(file["actions"][3:], [yaw, following[17] / 3], 1e-5)
    np.testing.assert_array_equal(
        np.load(place / "ep_start_end_ids.npy"), [[0, 5], [6, 9]]
    )
    np.testing.assert_array_equal(np.load(place / "ep_lens.npy"), [6, 4])
    path = place / "lang_annotations" / "auto_lang_ann.npy"
    described = np.load(path, allow_pickle=True).item()
    assert described["info"]["indx"] == [(1, 2), (3, 5), (6, 9)]
    assert described["language"]["task"] == ["open", "close", "open"]
    assert described["language"]["ann"] == ["open it", "shut it", "open up"]


def test_some_rows_only(tmp_path):
    calvin_export.write(play(), tmp_path / "part", rows=8)
    found = calvin.read(tmp_path / "part")
    assert len(found) == 6 and len(found.annotations) == 2
    with pytest.raises(UserError, match="at least 6"):
        calvin_export.write(play(), tmp_path / "less", rows=5)
    with pytest.raises(UserError, match="is there already"):
        calvin_export.write(play(), tmp_path / "part")


def test_what_was_read_is_kept(folder, tmp_path):
    first = calvin.read(folder)
    (kept,) = (tmp_path / "cache" / "calvin").iterdir()
    rows = dict(np.load(kept))
    np.savez(kept, **rows | {"actions": rows["actions"] / 2})  # to tell it from frames
    np.testing.assert_array_equal(calvin.read(folder).actions, first.actions / 2)
    other = calvin.read(folder, keys=("robot_obs",))  # others than were kept
    np.testing.assert_array_equal(other.actions, first.actions)
    kept.write_bytes(b"damaged")
    np.testing.assert_array_equal(calvin.read(folder).actions, first.actions)
    # A frame in the middle is replaced, or goes: what is kept is of other files.
    path = folder / "training" / "episode_0000004.npz"
    frames = dict(np.load(path))
    np.savez_compressed(path, **frames | {"rel_actions": frames["rel_actions"] / 2})
    changed = calvin.read(folder)
    np.testing.assert_array_equal(changed.actions[4], first.actions[4] / 2)
    path.unlink()
    with pytest.raises(UserError, match="1 of the 10 frames"):
        calvin.read(folder)


def test_latents_instead_of_frames(folder):
    seen = []

    def encode(frames):
        seen.append(set(frames))
        return frames["scene_obs"][:, :2] * 2

    found = calvin.read(folder, keys=("scene_obs",), encode=encode, name="twice")
    np.testing.assert_allclose(found.observations, play().observations[:, 19:21] * 2)
    assert seen == [{"scene_obs"}]
    calvin.read(folder, keys=("scene_obs",), encode=encode, name="twice")
    assert len(seen) == 1
    with pytest.raises(UserError, match=r"pass\s+`name`"):
        calvin.read(folder, encode=encode)


def described(folder, **changes):
    """Rewrites the annotations with some entries changed."""
    path = folder / "training" / "lang_annotations" / "auto_lang_ann.npy"
    content = np.load(path, allow_pickle=True).item()
    for key, value in changes.items():
        part = "info" if key == "indx" else "language"
        if value is None:
            del content[part][key]
        else:
            content[part][key] = value
    np.save(path, np.array(content, object))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"indx": [(1, 2), (3, 6), (6, 9)]}, r"'shut it'.*\[3, 6\].*one recording"),
        ({"indx": [(1, 2), (3, 5), (6, 12)]}, "another split"),
        ({"indx": [(1, 2), (5, 3), (6, 9)]}, "another split"),
        ({"indx": [(1, 2), (3, 5)]}, "not laid out.*3, 3 and 2"),
        ({"task": None}, "not laid out.*KeyError: 'task'"),
        ({"indx": "nothing"}, "not laid out"),
    ],
)
def test_annotations_that_do_not_fit(folder, changes, message):
    described(folder, **changes)
    with pytest.raises(UserError, match=message):
        calvin.read(folder)


def test_frames_that_do_not_fit(folder):
    place = folder / "training"
    path = place / "episode_0000003.npz"
    whole = dict(np.load(path))
    np.savez(path, **{key: whole[key] for key in ("robot_obs", "actions")})
    with pytest.raises(
        UserError, match="scene_obs, rel_actions; it holds robot_obs, actions"
    ):
        calvin.read(folder)
    np.savez(path, **{**whole, "scene_obs": np.zeros(3)})
    with pytest.raises(UserError, match=r"'scene_obs'.*\(3,\), but \(21,\)"):
        calvin.read(folder)
    path.write_bytes(b"not a frame")
    with pytest.raises(UserError, match="damaged"):
        calvin.read(folder)
    path.unlink()
    with pytest.raises(UserError, match=r"1 of the 10 frames.*episode_0000003"):
        calvin.read(folder)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (np.zeros((2, 3), int), "shape"),
        (np.array([[0, 5], [4, 9]]), "overlap"),
        (np.array([[5, 0]]), "before they"),
        (np.zeros((0, 2), int), "no recordings"),
        (np.array([[0.0, 5.0]]), "integers"),
    ],
)
def test_bounds_that_are_wrong(folder, bounds, message):
    np.save(folder / "training" / "ep_start_end_ids.npy", bounds)
    with pytest.raises(UserError, match=message):
        calvin.read(folder)


def test_folder_of_another_kind(tmp_path):
    with pytest.raises(UserError, match="A split of CALVIN's is a folder"):
        calvin.read(tmp_path)


class Evil:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_malicious_pickles_are_not_run(folder, tmp_path):
    path = folder / "training" / "lang_annotations" / "auto_lang_ann.npy"
    np.save(path, np.array({"language": Evil(tmp_path / "mark")}, object))
    with pytest.raises(UserError, match=r"posix\.system, which is not data"):
        calvin.read(folder)
    assert not (tmp_path / "mark").exists()
    np.load(path, allow_pickle=True)  # which does run it
    assert (tmp_path / "mark").exists()


def test_embeddings_that_calvin_ships(folder):
    described(folder, emb=np.arange(6, dtype=np.float32).reshape(3, 1, 2))
    place = folder / "training" / "lang_annotations"
    tested = {"open": {"ann": ["please open"], "emb": np.array([[[7.0, 8.0]]])}}
    np.save(place / "embeddings.npy", np.array(tested, object))
    found = calvin.table(folder)
    np.testing.assert_array_equal(found["shut it"], [2, 3])
    np.testing.assert_array_equal(found["please open"], [7, 8])
    assert calvin.sentences(folder, "training") == {"open": "please open"}
    assert calvin.table(place / "embeddings.npy").keys() == {"please open"}
    assert calvin.table(place / "auto_lang_ann.npy").keys() == found.keys() - {
        "please open"
    }


def test_our_own_export_has_embeddings(folder):
    found = calvin.table(folder)
    spoken = ["open it", "open up", "shut it"]
    expected = encode(spoken).sentence
    for sentence, vector in zip(spoken, expected, strict=True):
        np.testing.assert_array_equal(found[sentence], vector)
    said = {"open": "open it", "close": "shut it"}
    assert calvin.sentences(folder, "training") == said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not laid out.*list, not a dict.*for each task, ann"),
        ({"open": {"ann": ["open it"]}}, "KeyError: 'emb'.*for each task, ann"),
        ({"open": {"emb": np.ones(2)}}, "KeyError: 'ann'.*for each task, ann"),
    ],
)
def test_tested_sentences_that_are_laid_out_otherwise(folder, content, message):
    path = folder / "training" / "lang_annotations" / "embeddings.npy"
    whole = np.empty((), object)
    whole[()] = content
    np.save(path, whole)
    with pytest.raises(UserError, match=message):
        calvin.table(folder)
    if "'emb'" not in message:
        with pytest.raises(UserError, match=message):
            calvin.sentences(folder, "training")


def test_tables_that_are_none(folder, tmp_path):
    with pytest.raises(UserError, match="holds no table"):
        calvin.table(tmp_path)
    described(folder, emb=np.zeros((3, 1, 0), np.float32))
    with pytest.raises(UserError, match=r"of lengths \[0, 64\]"):
        calvin.table(folder)
    path = folder / "training" / "lang_annotations" / "auto_lang_ann.npy"
    with pytest.raises(UserError, match="holds no table"):
        calvin.table(path)
    np.save(path, np.array([1], object)[0:1].reshape(()))
    with pytest.raises(UserError, match=r"not laid out.*language/ann"):
        calvin.table(path)
