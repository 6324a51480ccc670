"""Checkpoints: whole, few, and independent of the classes they hold."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from offjax.errors import UserError
from offjax.runner.checkpoints import Checkpoints, StageStore


class State(NamedTuple):
    params: Any
    step: Any


class Renamed(NamedTuple):
    weights: Any
    count: Any


def state(seed=0):
    rng = np.random.default_rng(seed)
    params = {"a": rng.normal(size=(3, 4)).astype(np.float32), "b": np.arange(3)}
    return State(params, np.array([2**31 + seed, 5], np.uint32))


def zeros():
    return State(
        {"a": np.zeros((3, 4), np.float32), "b": np.arange(3)}, np.zeros(2, np.uint32)
    )


def equal(one, other):
    np.testing.assert_array_equal(one.params["a"], other.params["a"])
    np.testing.assert_array_equal(one.params["b"], other.params["b"])
    np.testing.assert_array_equal(one.step, other.step)
    assert one.params["a"].dtype == np.float32 and one.step.dtype == np.uint32


def test_the_newest_two_are_kept_and_come_back_exactly(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest_step() is None
    for step in (10, 20, 30):
        checkpoints.save(step, state(step), {"hash": f"h{step}"})
    checkpoints.close()
    again = Checkpoints(tmp_path / "checkpoints")
    assert again.latest_step() == 30
    assert again.meta(30) == {"hash": "h30"}
    equal(again.restore(30, zeros()), state(30))
    equal(again.restore(20, zeros()), state(20))
    assert not (tmp_path / "checkpoints" / "10").exists()
    again.close()


def test_a_checkpoint_that_was_being_written_does_not_count(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    checkpoints.save(10, state(), {})
    checkpoints.close()
    (folder / "20.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    again = Checkpoints(folder)
    assert again.latest_step() == 10
    again.close()


def test_other_shapes_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, state(), {})
    checkpoints.close()
    again = Checkpoints(tmp_path / "checkpoints")
    wide = zeros()._replace(step=np.zeros(3, np.uint32))
    with pytest.raises(UserError, match=r"checkpoints/1 is damaged"):
        again.restore(1, wide)
    again.close()


def test_stages_are_stored_once_and_read_into_any_classes(tmp_path):
    store = StageStore(tmp_path)
    assert not store.has("ab")
    store.save("ab", state(1), {"name": "bc", "diverged": [[1, 5]]})
    store.save("ab", state(2), {"name": "other"})
    assert store.has("ab") and store.meta("ab")["name"] == "bc"
    equal(store.load("ab", zeros()), state(1))
    like = Renamed(*zeros())
    assert isinstance(store.load("ab", like), Renamed)
    assert sorted(p.name for p in (tmp_path / "stages").iterdir()) == ["ab"]


def test_a_stage_that_is_missing_or_half_there_is_told(tmp_path):
    store = StageStore(tmp_path)
    (tmp_path / "stages" / "cd" / "state").mkdir(parents=True)
    assert not store.has("cd")
    with pytest.raises(UserError, match="trained stage cd is not in"):
        store.load("cd", zeros())
    store.save("ab", state(), {})
    for file in (tmp_path / "stages" / "ab" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"\0")
    with pytest.raises(UserError, match="is damaged"):
        store.load("ab", zeros())


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        StageStore(tmp_path / "file").save("ab", state(), {})
    with pytest.raises(UserError, match="cannot write to"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def largest_file(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def damage(kind, folder):
    path = largest_file(folder / "state")
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        middle = len(content) // 2
        path.write_bytes(
            content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
        )
    else:
        path.unlink()


def big_state(seed):
    rng = np.random.default_rng(seed)
    return State({"a": rng.normal(size=(50, 40)), "b": np.arange(3)}, np.arange(2))


@pytest.mark.parametrize("kind", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, kind):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (10, 20):
        checkpoints.save(step, big_state(step), {"hash": "h"})
    checkpoints.close()
    damage(kind, tmp_path / "checkpoints" / "20")
    again = Checkpoints(tmp_path / "checkpoints")
    said = []
    assert again.newest_whole(said.append) == 10
    assert len(said) == 1 and "checkpoints/20 is damaged" in said[0]
    np.testing.assert_array_equal(
        again.restore(10, big_state(0)).params["a"], big_state(10).params["a"]
    )
    again.save(20, big_state(21), {"hash": "h"})  # the place is free again
    again.close()
    assert Checkpoints(tmp_path / "checkpoints").newest_whole(said.append) == 20


def test_a_stage_whose_arrays_changed_is_damaged(tmp_path):
    store = StageStore(tmp_path)
    store.save("ab", big_state(1), {})
    path = tmp_path / "stages" / "ab" / "stage.json"
    first, *rest = path.read_text().split('"00000": ')
    number, tail = rest[0].split(",", 1)
    path.write_text(f'{first}"00000": {int(number) + 1},{tail}')
    with pytest.raises(UserError, match="is damaged"):
        store.load("ab", big_state(0))
    store.discard("ab")
    assert not store.has("ab")


def test_a_disk_without_room_is_told_before_writing(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    usage = type("Usage", (), {"free": 1_000})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"0 MB free.*--resume"):
        checkpoints.save(10, big_state(0), {})
    with pytest.raises(UserError, match="MB free"):
        StageStore(tmp_path).save("ab", big_state(0), {})
    assert checkpoints.latest_step() is None
    assert [p.name for p in (tmp_path / "stages").iterdir()] == []
