"""OGBench's npz files: conversion and rewards, row by row in plain loops."""

import numpy as np
import pytest

from offjax.catalog.load import describe_datasets, list_datasets, load_dataset
from offjax.datasets import ogbench
from offjax.datasets.convert import to_transitions
from offjax.errors import UserError

LENGTHS = (4, 3, 5)  # states of each trajectory: one more than its steps


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OGBENCH_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def contents(observation_dim=29, action_dim=8, positions=15, buttons=0):
    rng = np.random.default_rng(0)
    rows = sum(LENGTHS)
    data = {
        "observations": rng.normal(size=(rows, observation_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, action_dim)).astype(np.float32),
        "terminals": np.isin(np.arange(rows), np.cumsum(LENGTHS) - 1),
        "qpos": rng.normal(size=(rows, positions)).astype(np.float32),
        "qvel": rng.normal(size=(rows, positions)).astype(np.float32),
    }
    if buttons:
        data["button_states"] = rng.integers(0, 2, (rows, buttons))
    return data


def put(folder, name, data):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / name, **data)


def steps():
    """(row, is the trajectory's last step) of every executed action."""
    row, found = 0, []
    for length in LENGTHS:
        found += [(row + t, t == length - 2) for t in range(length - 1)]
        row += length
    return found


def test_trajectories_become_steps_without_their_last_state(folder):
    data = contents()
    put(folder, "antmaze-large-navigate-v0.npz", data)
    dataset = load_dataset("antmaze-large-navigate-v0", infos=("qpos", "qvel"))
    assert dataset.card.rows == len(steps()) and dataset.card.episodes == 3
    found = to_transitions(dataset)
    for place, (row, last) in enumerate(steps()):
        for key, column in (
            ("observations", found.observations),
            ("actions", found.actions),
            ("qpos", dataset.infos["qpos"]),
            ("qvel", dataset.infos["qvel"]),
        ):
            np.testing.assert_array_equal(column[place], data[key][row])
        following = data["observations"][row + 1]
        np.testing.assert_array_equal(found.next_observations[place], following)
        assert dataset.timeouts[place] == last and found.terminals[place] == 0.0
        assert found.has_next_action[place] == (not last)
    assert not dataset.rewards.any() and "goal-conditioned" in str(dataset.card)
    assert dataset.spec.id == "antmaze-large-navigate-v0"  # no fixed task to run
    assert dataset.spec.horizon == 1000 and np.isnan(dataset.spec.score(np.ones(1)))


@pytest.mark.parametrize(
    ("env", "suffix", "goal", "tolerance"),
    [
        ("pointmaze-medium", "", (20, 20), 1.0),
        ("antmaze-large", "-task2", (0, 24), 0.5),
        ("humanoidmaze-giant", "-task1", (52, 36), 0.5),
    ],
)
def test_rewards_of_mazes(folder, env, suffix, goal, tolerance):
    data = contents()
    data["qpos"][:, :2] = (500, 500)
    data["qpos"][1, :2] = np.add(goal, (0.0, 0.99 * tolerance))
    data["qpos"][2, :2] = np.add(goal, (1.01 * tolerance, 0.0))
    data["qpos"][3, :2] = goal  # the last state: no action was taken there
    put(folder, f"{env}-navigate-v0.npz", data)
    dataset = load_dataset(f"{env}-navigate-singletask{suffix}-v0")
    expected = np.full(len(steps()), -1.0)
    expected[1] = 0.0
    np.testing.assert_array_equal(dataset.rewards, expected)
    np.testing.assert_array_equal(dataset.terminals, expected == 0.0)
    assert dataset.spec.id == f"{env}-singletask{suffix}-v0"


def test_rewards_of_the_ball(folder):
    data = contents(positions=22)
    data["qpos"][:, :2] = (20, 4)  # the ant at the goal counts for nothing
    data["qpos"][:, 15:17] = (50, 50)
    data["qpos"][5, 15:17] = (0.2, 20.2)
    put(folder, "antsoccer-arena-stitch-v0.npz", data)
    dataset = load_dataset("antsoccer-arena-stitch-singletask-v0")
    assert [row for row, _ in steps()][int(np.argmax(dataset.rewards))] == 5
    assert dataset.rewards.sum() == 1 - len(steps())


def test_rewards_of_cubes_count_those_out_of_place(folder):
    data = contents(positions=28)
    first, second = (0.35, 0.1, 0.02), (0.50, 0.1, 0.02)  # task 2, the default
    data["qpos"][0, 14:17], data["qpos"][0, 21:24] = first, second
    data["qpos"][1, 14:17], data["qpos"][1, 21:24] = second, first
    data["qpos"][2, 14:17] = first
    data["qpos"][2, 21:24] = np.add(second, (0, 0, 0.041))
    put(folder, "cube-double-play-v0.npz", data)
    dataset = load_dataset("cube-double-play-singletask-v0")
    np.testing.assert_array_equal(dataset.rewards[:3], [0, -2, -1])
    same = load_dataset("cube-double-play-singletask-task2-v0")
    np.testing.assert_array_equal(dataset.rewards, same.rewards)


def test_rewards_of_the_scene(folder):
    # Task 4: cube in the drawer, buttons (1, 0), drawer and window at 0.
    data = contents(positions=25, buttons=2)
    data["qpos"][:, 14:17] = (0.33, -0.356, 0.066)
    data["qpos"][:, 23:25] = (-0.03, 0.03)
    data["button_states"][:] = (1, 0)
    data["button_states"][1] = (0, 1)
    data["qpos"][2, 23] = -0.05
    data["qpos"][4, 14] = 0.4
    put(folder, "scene-play-v0.npz", data)
    dataset = load_dataset("scene-play-singletask-task4-v0")
    np.testing.assert_array_equal(dataset.rewards[:4], [0, -2, -1, -1])
    assert dataset.spec.horizon == 750


def test_rewards_of_puzzles_count_wrong_buttons(folder):
    data = contents(positions=23, buttons=9)
    data["button_states"][0] = 1  # task 4, the default: all lit
    data["button_states"][1] = [1, 1, 1, 0, 1, 1, 0, 1, 1]
    put(folder, "puzzle-3x3-noisy-v0.npz", data)
    dataset = load_dataset("puzzle-3x3-noisy-singletask-v0", infos=("button_states",))
    np.testing.assert_array_equal(dataset.rewards[:2], [0, -2])
    rows = [row for row, _ in steps()]
    np.testing.assert_array_equal(
        dataset.infos["button_states"], data["button_states"][rows]
    )


def test_rewards_are_those_of_ogbench_itself():
    relabel = pytest.importorskip("ogbench.relabel_utils").relabel_dataset
    import gymnasium

    rng = np.random.default_rng(0)
    for env_id, name, width, buttons, tasks in (
        ("antmaze-medium", "antmaze-medium-navigate", 15, 0, (3,)),
        ("scene", "scene-play", 25, 2, (5,)),
        ("cube-double", "cube-double-noisy", 28, 0, (4,)),
    ):
        for task in tasks:
            env = gymnasium.make(f"{env_id}-singletask-task{task}-v0")
            entry = ogbench.parse(f"{name}-singletask-task{task}-v0")
            qpos = rng.uniform(-0.2, 0.5, (400, width)).astype(np.float32)
            if "goal" in entry.goal:
                qpos[:, :2] = entry.goal["goal"] + rng.normal(size=(400, 2)) / 3
            for index, place in enumerate(entry.goal.get("cubes", ())):
                start = 14 + 7 * index
                qpos[:, start : start + 3] = place + rng.normal(size=(400, 3)) / 60
            states = {"qpos": qpos}
            if buttons:
                slides = (entry.goal["drawer"], entry.goal["window"])
                qpos[:, 23:25] = slides + rng.uniform(-0.05, 0.05, (400, 2))
                states["button_states"] = rng.integers(0, 2, (400, buttons))
            expected = dict(states)
            relabel(f"{env_id}-singletask-task{task}-v0", env, expected)
            found = ogbench.rewards(entry, states)
            np.testing.assert_array_equal(found, expected["rewards"])
            np.testing.assert_array_equal(found < 0, expected["masks"])
            assert env.spec.max_episode_steps == entry.horizon
            assert {0.0, -1.0} <= set(found.tolist())
            env.close()


def test_validation_part_and_places(folder, tmp_path, monkeypatch):
    put(folder, "scene-play-v0-val.npz", contents())
    assert ogbench.read("scene-play-v0", split="val").card.rows == len(steps())
    with pytest.raises(UserError, match=r"scene-play-v0\.npz"):
        load_dataset("scene-play-v0")
    put(tmp_path / "mine", "scene-play-v0.npz", contents())
    assert load_dataset("scene-play-v0", data_dir=tmp_path / "mine").card.episodes == 3
    assert "scene-play-v0" in list_datasets(tmp_path / "mine")
    assert "scene-play-v0 *" in describe_datasets(tmp_path / "mine").splitlines()
    with pytest.raises(UserError, match="split='test'"):
        ogbench.read("scene-play-v0", split="test")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("antmaze-large-play-v1", "no dataset"),
        ("antmaze-large-noisy-v0", "collections in antmaze-large are"),
        ("visual-antsoccer-arena-stitch-v0", "antsoccer-arena-stitch-v0 has states"),
        ("visual-scene-navigate-v0", "collections in scene are noisy, play"),
        ("scene-play-singletask-task6-v0", "tasks 1 to 5"),
        ("scene-play-singletask-task0-v0", "tasks 1 to 5"),
        ("scene-pla-v0", "Did you mean scene-play-v0"),
    ],
)
def test_names_that_mean_nothing(name, words):
    with pytest.raises(UserError, match=words):
        load_dataset(name)


def test_one_meaning_for_each_name(folder):
    path = folder / "minari/scene-play-v0/data/metadata.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UserError, match="names two datasets"):
        load_dataset("scene-play-v0")
    assert ogbench.parse("antmaze-umaze-v0") is None
    states = [name for name in ogbench.ids() if not name.startswith("visual-")]
    assert len(states) == 47 and "visual-scene-play-v0" in ogbench.ids()
    assert not [name for name in ogbench.ids() if name.startswith("visual-point")]


def images(**arrays):
    data = contents(**arrays)
    shape = len(data["terminals"]), 64, 64, 3
    frames = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    return data | {"observations": frames}


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path / "cache"))


def test_images_stay_bytes_in_a_mapped_file(folder, caches):
    data = images()
    put(folder, "visual-antmaze-large-navigate-v0.npz", data)
    dataset = load_dataset("visual-antmaze-large-navigate-v0", infos=("qpos",))
    rows = [row for row, _ in steps()]
    assert isinstance(dataset.observations, np.memmap)
    assert dataset.observations.dtype == np.uint8
    assert dataset.spec.cameras == (("pixels", 64, 64),)
    expected = data["observations"][rows].reshape(len(rows), -1)
    np.testing.assert_array_equal(dataset.observations, expected)
    np.testing.assert_array_equal(dataset.infos["qpos"], data["qpos"][rows])
    np.testing.assert_array_equal(dataset.timeouts, [last for _, last in steps()])
    # Rows whose next frame is left out are dropped, and only those.
    found = to_transitions(dataset)
    kept = [row for row, last in steps() if not last]
    following = data["observations"][np.add(kept, 1)].reshape(len(kept), -1)
    np.testing.assert_array_equal(found.next_observations, following)
    # A file that has changed is unpacked anew.
    data["observations"] = 255 - data["observations"]
    put(folder, "visual-antmaze-large-navigate-v0.npz", data)
    again = load_dataset("visual-antmaze-large-navigate-v0")
    np.testing.assert_array_equal(again.observations, 255 - expected)


def test_rewards_of_images_are_those_of_states(folder, caches):
    data = images(positions=25, buttons=2)
    data["qpos"][2, 14:17] = (0.33, -0.356, 0.066)
    put(folder, "visual-scene-play-v0.npz", data)
    put(folder, "scene-play-v0.npz", data | {"observations": data["qpos"]})
    seen = load_dataset("visual-scene-play-singletask-task4-v0")
    known = load_dataset("scene-play-singletask-task4-v0")
    np.testing.assert_array_equal(seen.rewards, known.rewards)
    np.testing.assert_array_equal(seen.terminals, known.terminals)
    assert len(set(known.rewards.tolist())) > 1
    assert seen.spec.id == "visual-scene-singletask-task4-v0"
    assert seen.spec.horizon == known.spec.horizon == 750


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((12, 64, 64, 3), np.float32), "of float32"),
        (np.zeros((12, 64, 64), np.uint8), r"\(12, 64, 64\)"),
        (np.zeros((12, 84, 84, 3), np.uint8), r"\(12, 84, 84, 3\)"),
        (np.zeros((11, 64, 64, 3), np.uint8), r"\(11, 64, 64, 3\)"),
    ],
)
def test_other_images_are_refused(folder, caches, frames, words):
    put(folder, "visual-scene-play-v0.npz", images() | {"observations": frames})
    with pytest.raises(UserError, match=words):
        load_dataset("visual-scene-play-v0")


def test_horizons_and_environments_of_images_are_ogbenchs():
    gymnasium = pytest.importorskip("gymnasium")
    pytest.importorskip("ogbench")
    for name in ogbench.ids():
        if name.startswith("visual-"):
            entry = ogbench.parse(name.replace("-v0", "-singletask-task2-v0"))
            registered = gymnasium.spec(entry.env_id)
            assert registered.max_episode_steps == entry.horizon
            sizes = registered.kwargs["height"], registered.kwargs["width"]
            assert sizes == (64, 64)


class Payload:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_is_unpickled(folder, tmp_path):
    data = contents()
    objects = np.empty(len(data["terminals"]), object)
    objects[:] = [Payload(tmp_path / "ran")] * len(objects)
    np.savez(folder / "scene-play-v0.npz", **data | {"terminals": objects})
    with pytest.raises(UserError, match="not of numbers"):
        load_dataset("scene-play-v0")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actions": None}, "no array actions"),
        ({"terminals": np.zeros(12, bool)}, "last row of `terminals`"),
        ({"terminals": np.ones(12, bool)}, "no step"),
        ({"terminals": np.zeros(5, bool)}, "`terminals` has 5 rows"),
        ({"qpos": np.zeros((12, 3))}, "needs 21 or more"),
        ({"qpos": np.zeros((4, 25))}, "`qpos` has 4 rows"),
        ({"qpos": None}, "no array qpos"),
        ({"observations": np.full((12, 3), np.nan)}, "first row 0"),
    ],
)
def test_bad_files_are_explained(folder, changes, words):
    data = {k: v for k, v in (contents() | changes).items() if v is not None}
    put(folder, "cube-single-play-v0.npz", data)
    with pytest.raises(UserError) as error:
        load_dataset("cube-single-play-singletask-v0")
    assert words in str(error.value) and "cube-single-play-v0.npz" in str(error.value)


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_truncated_files(folder, size):
    put(folder, "scene-play-v0.npz", contents())
    with (folder / "scene-play-v0.npz").open("r+b") as stream:
        stream.truncate(size)
    with pytest.raises(UserError, match="damaged or incomplete"):
        load_dataset("scene-play-v0")
