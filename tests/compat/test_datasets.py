"""D4RL's functions on hand-made episodes; expected rows are counted by hand."""

from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from offjax.compat import d4rl, gym
from offjax.errors import UserError


def recorded(rows, terminals=(), timeouts=None, **more):
    """Row i observes i, does i / 10 and is paid 100 + i."""
    index = np.arange(rows)
    data = {
        "observations": index[:, None].astype(np.float64),
        "actions": index[:, None] / 10,
        "rewards": 100.0 + index,
        "terminals": np.isin(index, terminals),
        **more,
    }
    if timeouts is not None:
        data["timeouts"] = np.isin(index, timeouts)
    return data


def env(data, horizon=3):
    return SimpleNamespace(get_dataset=lambda: data, _max_episode_steps=horizon)


def rows_of(found):
    """Rows that became transitions, and those that they lead to."""
    rows = found["observations"][:, 0].astype(int).tolist()
    np.testing.assert_array_equal(found["rewards"], 100 + np.array(rows))
    np.testing.assert_allclose(found["actions"][:, 0], np.array(rows) / 10)
    return rows, found["next_observations"][:, 0].astype(int).tolist()


def test_time_outs_and_the_last_row_make_no_transition():
    found = d4rl.qlearning_dataset(env(recorded(7, terminals=[2], timeouts=[4])))
    assert rows_of(found) == ([0, 1, 2, 3, 5], [1, 2, 3, 4, 6])
    assert found["terminals"].tolist() == [False, False, True, False, False]
    assert {key: str(value.dtype) for key, value in found.items()} == {
        "observations": "float32",
        "actions": "float32",
        "next_observations": "float32",
        "rewards": "float32",
        "terminals": "bool",
    }


def test_terminate_on_end_keeps_time_outs_and_terminates_nothing():
    data = recorded(7, terminals=[2], timeouts=[4])
    found = d4rl.qlearning_dataset(env(data), terminate_on_end=True)
    # Row 4 leads into the next episode, whose first row is 5.
    assert rows_of(found) == ([0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6])
    assert np.flatnonzero(found["terminals"]).tolist() == [2]


def test_without_time_outs_steps_are_counted():
    found = d4rl.qlearning_dataset(env(recorded(8)))
    assert rows_of(found)[0] == [0, 1, 3, 4, 6]
    # After a terminal D4RL counts from 1: the next episode is cut a step early.
    found = d4rl.qlearning_dataset(env(recorded(8, terminals=[1])))
    assert rows_of(found)[0] == [0, 1, 2, 4, 5]
    found = d4rl.qlearning_dataset(env(recorded(8, terminals=[1])), None, True)
    assert rows_of(found)[0] == [0, 1, 2, 3, 4, 5, 6]


def test_arrays_that_are_given_are_used_and_left_as_they_are():
    data = recorded(4, timeouts=[3])
    found = d4rl.qlearning_dataset(env(None), dataset=data)
    found["rewards"] -= 1
    assert data["rewards"].tolist() == [100, 101, 102, 103]


def test_flags_may_be_columns_of_numbers():
    data = recorded(5, terminals=[1])
    data["terminals"] = data["terminals"].astype(np.float32)[:, None]
    data["timeouts"] = np.array([[0], [0], [1], [0], [0]], np.uint8)
    assert rows_of(d4rl.qlearning_dataset(env(data)))[0] == [0, 1, 3]


def episodes(data, horizon=3):
    return [
        e["observations"][:, 0].tolist()
        for e in d4rl.sequence_dataset(env(data, horizon))
    ]


def test_sequences_end_with_terminals_and_time_outs():
    data = recorded(7, terminals=[2], timeouts=[4])
    assert episodes(data) == [[0, 1, 2], [3, 4]]  # 5 and 6 are of no whole episode


def test_sequences_without_time_outs_are_cut_by_d4rls_count():
    assert episodes(recorded(9)) == [[0, 1, 2], [3, 4], [5, 6], [7, 8]]
    assert episodes(recorded(5, terminals=[0])) == [[0], [1, 2], [3, 4]]


def test_sequences_hold_every_array_with_a_row_for_each_step():
    more = {
        "infos/qpos": np.arange(10).reshape(5, 2),
        "metadata/algorithm": np.bytes_("SAC"),
        "metadata/policy/fc0/bias": np.zeros(3),
    }
    (first, second) = d4rl.sequence_dataset(env(recorded(5, [1], [4], **more)))
    assert first["infos/qpos"].tolist() == [[0, 1], [2, 3]]
    assert second["rewards"].tolist() == [102, 103, 104]
    assert set(first) == {
        "observations",
        "actions",
        "rewards",
        "terminals",
        "timeouts",
        "infos/qpos",
    }


def test_scores_are_shares_between_the_reference_returns():
    assert d4rl.infos.REF_MIN_SCORE["hopper-medium-v2"] == -20.272305
    assert d4rl.infos.REF_MAX_SCORE["maze2d-large-v1"] == 273.99
    assert d4rl.infos.DATASET_URLS["antmaze-umaze-v2"].endswith(".hdf5")
    assert "carla-lane-v0" not in d4rl.infos.REF_MIN_SCORE
    returns = np.array([-20.272305, 3234.3])
    for name in (
        "hopper-expert-v2",
        "offjax/hopper/medium-v0",
        "offjax-hopper-medium-v0",
    ):
        np.testing.assert_allclose(d4rl.get_normalized_score(name, returns), [0, 1])
    half = d4rl.reverse_normalized_score("antmaze-umaze-v2", 0.5)
    assert half == 0.5
    with pytest.raises(UserError, match="no-such-v0"):
        d4rl.get_normalized_score("no-such-v0", 1.0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def hopper(rows=6):
    return {
        "observations": np.ones((rows, 11), np.float32),
        "actions": np.ones((rows, 3), np.float32),
        "rewards": np.ones((rows, 1), np.float32),
        "terminals": np.zeros((rows, 1), bool),
        "timeouts": np.zeros(rows, bool),
        "infos/qpos": np.ones((rows, 6)),
        "metadata/algorithm": np.bytes_("SAC"),
    }


def write(path, data):
    with h5py.File(path, "w") as file:
        for key, value in data.items():
            file[key] = value


def test_a_file_is_read_whole_and_as_stored(folder):
    write(folder / "hopper_medium-v2.hdf5", hopper())
    made = gym.make("hopper-medium-v2")
    data = made.get_dataset()
    assert set(data) == set(hopper())
    assert data["rewards"].shape == data["terminals"].shape == (6,)
    assert data["infos/qpos"].dtype == np.float64
    data["rewards"] *= 0
    assert made.get_dataset()["rewards"].tolist() == [1] * 6
    assert made.dataset_filepath == str(folder / "hopper_medium-v2.hdf5")


def test_another_file_may_be_named(folder):
    write(folder / "mine.hdf5", hopper(4))
    found = d4rl.qlearning_dataset(
        gym.make("hopper-medium-v2"), h5path=folder / "mine.hdf5"
    )
    assert len(found["rewards"]) == 3


def test_rewards_of_antmaze_are_those_of_the_file(folder):
    write(
        folder
        / "Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed.hdf5",
        {
            "observations": np.zeros((4, 29), np.float32),
            "actions": np.zeros((4, 8), np.float32),
            "rewards": np.array([0, 1, 0, 0], np.float32),
            "terminals": np.array([0, 1, 0, 0], np.float32),
            "timeouts": np.array([0, 0, 1, 0], bool),
        },
    )
    found = d4rl.qlearning_dataset(gym.make("antmaze-umaze-v2"))
    assert found["rewards"].tolist() == [0, 1]
    assert found["terminals"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observations": np.ones((6, 12))}, r"observations.*\(6, 12\).*\(6, 11\)"),
        ({"rewards": np.ones((6, 2))}, "rewards"),
        ({"actions": None}, "no array actions"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(folder, change, message):
    data = {k: v for k, v in (hopper() | change).items() if v is not None}
    write(folder / "hopper_medium-v2.hdf5", data)
    with pytest.raises(UserError, match=message):
        gym.make("hopper-medium-v2").get_dataset()


def test_a_dataset_that_is_not_there_names_the_file_and_the_folder(folder):
    with pytest.raises(UserError, match=r"walker2d_medium-v2\.hdf5.*D4RL_DATASET_DIR"):
        d4rl.qlearning_dataset(gym.make("walker2d-medium-v2"))
    with pytest.raises(UserError, match=r"no file .*none\.hdf5"):
        gym.make("hopper-medium-v2").get_dataset(h5path=folder / "none.hdf5")
    (folder / "broken.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 50)
    with pytest.raises(UserError, match=r"broken\.hdf5.*Copy it again"):
        gym.make("hopper-medium-v2").get_dataset(h5path=folder / "broken.hdf5")


def test_a_dataset_of_this_project_has_d4rls_layout(folder):
    data = gym.make("offjax/budget/t10-smooth-v0").get_dataset()
    rows = len(data["rewards"])
    assert data["observations"].shape[0] == data["next_observations"].shape[0] == rows
    ends = np.flatnonzero(data["terminals"] | data["timeouts"])
    assert ends[:3].tolist() == [9, 19, 29]
    found = d4rl.qlearning_dataset(gym.make("offjax/budget/t10-smooth-v0"))
    dropped = data["timeouts"].copy()
    dropped[-1] = True
    assert len(found["rewards"]) == rows - dropped.sum()


def test_set_dataset_path_is_where_files_are_looked_for(tmp_path, folder):
    d4rl.set_dataset_path(tmp_path / "new")
    write(tmp_path / "new" / "hopper_medium-v2.hdf5", hopper(3))
    assert len(gym.make("hopper-medium-v2").get_dataset()["rewards"]) == 3
