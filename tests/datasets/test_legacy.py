"""D4RL's HDF5 files: every family's quirks, against D4RL's rule as a plain loop."""

import h5py
import numpy as np
import pytest

from offjax.catalog.load import describe_datasets, list_datasets, load_dataset
from offjax.datasets import legacy
from offjax.datasets.convert import to_transitions
from offjax.envs import maze2d
from offjax.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def contents(rows, observation_dim, action_dim, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "observations": rng.normal(size=(rows, observation_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, action_dim)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.zeros(rows, bool),
    }


def gym_mujoco(rows=300):
    data = contents(rows, 11, 3)
    data["terminals"][[40, 41, 200]] = True
    data["timeouts"][[100, 250]] = True
    data["next_observations"] = np.zeros((rows, 11), np.float32)
    data["infos/qpos"] = np.zeros((rows, 6))
    data["infos/action_log_probs"] = np.zeros(rows)
    data["metadata/algorithm"] = np.bytes_("SAC")
    data["metadata/policy/fc0/weight"] = np.zeros((256, 11))
    return data


def maze(rows=700, timeouts=False):
    data = contents(rows, 4, 2)
    data["infos/goal"] = np.zeros((rows, 2))
    if not timeouts:
        del data["timeouts"]
    return data


def antmaze(rows=200):
    data = contents(rows, 29, 8)
    data["terminals"] = np.zeros(rows, np.float32)
    data["terminals"][[50, 51, 52, 120]] = 1.0
    data["timeouts"][[60, 150, 199]] = True
    return data


def adroit(rows=220):
    data = contents(rows, 45, 24)
    data["terminals"] = np.zeros((rows, 1), bool)
    data["timeouts"][[70, 140, 219]] = True
    data["infos/hand_qpos"] = np.zeros((rows, 30))
    return data


def kitchen(rows=150):
    data = contents(rows, 60, 9)
    data["rewards"] = np.zeros((rows, 1), np.float32)
    data["terminals"][149] = True
    data["terminals"][80] = data["timeouts"][80] = True
    return data


FILES = {
    "hopper-medium-v2": gym_mujoco,
    "maze2d-umaze-v1": maze,
    "antmaze-umaze-v2": antmaze,
    "pen-human-v1": adroit,
    "kitchen-mixed-v0": kitchen,
}


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in data.items():
            big = np.ndim(value) > 0
            file.create_dataset(key, data=value, compression="gzip" if big else None)


def place(folder, name, data):
    put(folder / legacy.table()[name].file.rsplit("/", 1)[1], data)


def qlearning_dataset(data, horizon):
    """D4RL's rule, a row at a time; steps are counted from the episode's first."""
    rows, step = [], 0
    for i in range(len(data["rewards"]) - 1):
        done = bool(np.ravel(data["terminals"])[i])
        cut = data["timeouts"][i] if "timeouts" in data else step == horizon - 1
        final = bool(cut)
        if not final:
            rows.append(
                (
                    data["observations"][i].astype(np.float32),
                    data["actions"][i].astype(np.float32),
                    np.ravel(data["rewards"])[i].astype(np.float32),
                    data["observations"][i + 1].astype(np.float32),
                    done,
                )
            )
        step = 0 if done or final else step + 1
    return [np.asarray(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", FILES)
def test_transitions_are_d4rls_bit_for_bit(folder, name):
    data = FILES[name]()
    place(folder, name, data)
    dataset = load_dataset(name)
    found = to_transitions(dataset)
    columns = (
        found.observations,
        found.actions,
        found.rewards,
        found.next_observations,
        found.terminals,
    )
    expected = qlearning_dataset(data, dataset.spec.horizon)
    for column, values in zip(columns, expected, strict=True):
        np.testing.assert_array_equal(column, values)
    assert dataset.card.notes == ()


def test_missing_timeouts_with_terminals_count_from_the_episode(folder):
    data = contents(3500, 11, 3)
    data["terminals"][[500, 2300]] = True
    del data["timeouts"]
    place(folder, "hopper-medium-v0", data)
    dataset = load_dataset("hopper-medium-v0")
    # 501 steps, 1000, 800 (terminal), 1000, and 200 that were cut.
    ends = [501, 1501, 2301, 3301, 3500]
    np.testing.assert_array_equal(dataset.episode_ends, ends)
    expected = qlearning_dataset(data, 1000)
    np.testing.assert_array_equal(to_transitions(dataset).observations, expected[0])


def official(data, horizon, terminate_on_end):
    """`d4rl.qlearning_dataset` to the letter, its count of steps included."""
    rows, step = [], 0
    for i in range(len(data["rewards"]) - 1):
        done = bool(data["terminals"][i])
        final = data["timeouts"][i] if "timeouts" in data else step == horizon - 1
        if not terminate_on_end and final:
            step = 0
            continue
        if done or final:
            step = 0
        observations = data["observations"]
        rows.append(
            (
                observations[i].astype(np.float32),
                data["actions"][i].astype(np.float32),
                np.float32(np.ravel(data["rewards"])[i]),
                observations[i + 1].astype(np.float32),
                done,
            )
        )
        step += 1
    return [np.asarray(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("timeouts", [False, True])
@pytest.mark.parametrize("compat", ["official", "official-terminate-on-end"])
@pytest.mark.parametrize(("name", "horizon"), [("pen-cloned-v0", 100)])
def test_compat_is_d4rls_code_bit_for_bit(folder, name, horizon, compat, timeouts):
    data = contents(950, 45, 24)
    # Among them a terminal on the very step at which the count reaches the horizon.
    data["terminals"][[30, 31, 229, 400, 598, 599]] = True
    data["timeouts"][[150, 300, 400, 949]] = True
    if not timeouts:
        del data["timeouts"]
    place(folder, name, data)
    dataset = load_dataset(name, compat=compat)
    found = to_transitions(dataset)
    expected = official(data, horizon, compat.endswith("end"))
    columns = (*found[:4], found.terminals)
    for column, values in zip(columns, expected, strict=True):
        np.testing.assert_array_equal(column, values)
    assert compat in str(dataset.card)
    plain = load_dataset(name).card
    assert timeouts or plain.identity != dataset.card.identity


def test_compat_is_for_d4rl_files_only(folder):
    place(folder, "hopper-medium-v2", gym_mujoco())
    with pytest.raises(UserError, match="compat='exact'"):
        load_dataset("hopper-medium-v2", compat="exact")
    with pytest.raises(UserError, match="is none of them"):
        load_dataset("offjax/budget/t10-smooth-v0", compat="official")


def test_published_maze2d_timeouts_end_the_episodes(folder):
    """v1 files mark each reached goal; v0 files have no marks, and full episodes."""
    data = maze(timeouts=True)
    data["timeouts"][[91, 144, 230]] = True
    place(folder, "maze2d-umaze-v1", data)
    assert load_dataset("maze2d-umaze-v1").episode_ends.tolist() == [92, 145, 231, 700]
    expected = qlearning_dataset(data, 300)
    found = to_transitions(load_dataset("maze2d-umaze-v1"))
    np.testing.assert_array_equal(found.observations, expected[0])


def test_antmaze_v0_carries_a_warning(folder):
    for version, warned in (("v0", True), ("v2", False)):
        place(folder, f"antmaze-umaze-{version}", antmaze())
        dataset = load_dataset(f"antmaze-umaze-{version}")
        assert ("out of step" in str(dataset.card)) == warned
        assert dataset.terminals.sum() == 4


def test_infos_are_read_on_request(folder):
    data = gym_mujoco()
    data["infos/qpos"] = np.arange(1800.0).reshape(300, 6)
    place(folder, "hopper-medium-v2", data)
    assert load_dataset("hopper-medium-v2").infos == {}
    dataset = load_dataset("hopper-medium-v2", infos=("qpos",))
    np.testing.assert_array_equal(dataset.infos["qpos"], data["infos/qpos"])
    assert dataset.card.identity == load_dataset("hopper-medium-v2").card.identity
    with pytest.raises(UserError, match=r"no infos/qvel.*action_log_probs, qpos"):
        load_dataset("hopper-medium-v2", infos=("qvel",))


def test_objects_in_a_file_are_refused(folder):
    data = gym_mujoco()
    data["rewards"] = np.full(300, "0.0", object)
    place(folder, "hopper-medium-v2", data)
    with pytest.raises(UserError, match="not of numbers"):
        load_dataset("hopper-medium-v2")


def test_every_family_is_listed_with_what_is_here(folder):
    place(folder, "hopper-medium-v2", gym_mujoco())
    lines = describe_datasets().splitlines()
    assert "hopper-medium-v2 *" in lines and "hopper-medium-v1" in lines
    assert "offjax/maze2d/umaze-v0" in lines and "scene-play-v0" in lines
    assert sum(line.startswith("# ") for line in lines) == 5


@pytest.mark.parametrize(
    "relative", ["hopper_medium-v2.hdf5", "gym_mujoco_v2/{}", "hopper-medium-v2.hdf5"]
)
def test_places_and_names(folder, tmp_path, monkeypatch, relative):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "elsewhere"))
    put(tmp_path / "mine" / relative.format("hopper_medium-v2.hdf5"), gym_mujoco())
    dataset = load_dataset("hopper-medium-v2", data_dir=tmp_path / "mine")
    assert dataset.card.rows == 300
    assert "hopper-medium-v2" in list_datasets(tmp_path / "mine")
    assert "hopper-medium-v2" not in list_datasets()


def test_home_is_searched_last(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place(tmp_path / "home/.d4rl/datasets", "hopper-medium-v2", gym_mujoco())
    assert load_dataset("hopper-medium-v2").card.rows == 300


def test_a_missing_file_is_named_with_its_places(folder):
    with pytest.raises(UserError) as error:
        load_dataset("hopper-medium-v2", data_dir="/nowhere")
    for words in ("hopper_medium-v2.hdf5", "/nowhere", str(folder), "--data_dir"):
        assert words in str(error.value)


def test_near_matches_of_d4rl_ids():
    with pytest.raises(UserError, match="Did you mean hopper-medium-v2"):
        load_dataset("hopper-medum-v2")


def test_a_d4rl_id_is_never_a_minari_dataset(folder):
    (folder / "minari/hopper-medium-v2/data").mkdir(parents=True)
    (folder / "minari/hopper-medium-v2/data/metadata.json").write_text("{}")
    with pytest.raises(UserError, match=r"two datasets.*hopper_medium-v2\.hdf5"):
        load_dataset("hopper-medium-v2")


@pytest.mark.parametrize("size", [0, 500, 5000])
def test_truncated_files(folder, size):
    place(folder, "hopper-medium-v2", gym_mujoco())
    path = folder / "hopper_medium-v2.hdf5"
    with path.open("r+b") as stream:
        stream.truncate(size)
    with pytest.raises(UserError, match="damaged or incomplete"):
        load_dataset("hopper-medium-v2")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rewards": None}, "no array rewards"),
        ({"observations": None, "terminals": None}, "observations, terminals"),
        ({"timeouts": np.zeros(299, bool)}, "`timeouts` has 299 rows"),
        ({"terminals": np.zeros(2, bool)}, "`terminals` has 2 rows"),
        ({"rewards": np.full(300, np.nan, np.float32)}, "first row 0"),
        ({"actions": np.zeros(300)}, "[rows, dimensions]"),
        ({"terminals": np.full(300, 0.5)}, "must be boolean"),
    ],
)
def test_bad_files_are_explained(folder, changes, words):
    data = {k: v for k, v in (gym_mujoco() | changes).items() if v is not None}
    place(folder, "hopper-medium-v2", data)
    with pytest.raises(UserError) as error:
        load_dataset("hopper-medium-v2")
    assert words in str(error.value) and "hopper_medium-v2.hdf5" in str(error.value)


def test_actions_outside_the_box_are_clipped_and_counted(folder):
    data = gym_mujoco()
    data["actions"][[3, 9]] = 1.5
    place(folder, "hopper-medium-v2", data)
    dataset = load_dataset("hopper-medium-v2")
    assert dataset.actions.max() == 1.0
    assert "actions of 2 rows clipped" in str(dataset.card)


def test_reference_scores():
    assert len(legacy.table()) == 121
    hopper = legacy.spec("hopper-medium-v2", 11, 3)
    np.testing.assert_allclose(hopper.score(np.array([-20.272305, 3234.3])), [0, 100])
    assert (hopper.id, hopper.horizon, hopper.action_dim) == ("Hopper-v4", 1000, 3)
    assert legacy.spec("antmaze-large-play-v2", 29, 8).horizon == 1000
    assert legacy.spec("kitchen-mixed-v0", 60, 9).id == "kitchen-mixed-v0"
    kitchen = legacy.spec("kitchen-complete-v0", 60, 9)
    assert (kitchen.horizon, kitchen.ref_max_score) == (280, 4.0)


@pytest.mark.parametrize("maze_name", ["umaze", "medium", "large"])
@pytest.mark.parametrize("dense", [False, True])
def test_maze2d_files_are_evaluated_in_this_projects_maze(maze_name, dense):
    name = f"maze2d-{maze_name}{'-dense' * dense}-v1"
    found, own = legacy.spec(name, 4, 2), maze2d.spec(maze_name, dense)
    for field in ("id", "kwargs", "horizon", "ref_min_score", "ref_max_score"):
        assert getattr(found, field) == getattr(own, field)
    assert (found.action_low, found.domain) == (own.action_low, own.domain)
