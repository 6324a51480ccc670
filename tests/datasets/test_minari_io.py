"""Local Minari datasets: what this project writes is read by Minari, and back."""

import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import warnings

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from offjax.datasets import Dataset, minari_io
from offjax.datasets.minari_io import exists, local_ids, read, write
from offjax.envs import maze2d
from offjax.errors import UserError

ID = "offjax/test/rows-v0"
LENGTHS = (3, 1, 5, 4)


def recording(seed=0, lengths=LENGTHS, scale=1):
    """Episodes that end in turn by time-out and terminal; the last is cut."""
    rng = np.random.default_rng(seed)
    lengths = [scale * length for length in lengths]
    rows = sum(lengths)
    last = np.cumsum(lengths) - 1
    observations = rng.normal(size=(rows, 4)).astype(np.float32)
    following = np.roll(observations, -1, axis=0)
    following[last] = rng.normal(size=(len(last), 4))
    terminals, timeouts = np.zeros(rows, bool), np.zeros(rows, bool)
    timeouts[last[0::2]], terminals[last[1::2]] = True, True
    return Dataset.from_arrays(
        observations,
        rng.uniform(-1, 1, (rows, 2)),
        rng.normal(size=rows),
        terminals,
        timeouts,
        following,
        spec=maze2d.spec("umaze"),
        id=ID,
        identity="abc" * 8,
    )


def assert_same(found, expected):
    for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(found, key), getattr(expected, key))
        assert getattr(found, key).dtype == getattr(expected, key).dtype
    np.testing.assert_array_equal(found.next_observations, expected.next_observations)


def without_cache(root):
    (root / ID / "offjax_rows.npz").unlink()


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_written_rows_are_read_back(root):
    dataset = recording()
    write(dataset, {"seed": 0})
    cached = read(ID)
    without_cache(root)
    plain = read(ID)
    for found in (cached, plain, read(ID)):
        assert_same(found, dataset)
        assert found.spec == dataset.spec
        assert found.card.identity == dataset.card.identity
        assert found.card.checksum == dataset.card.checksum
    assert exists(ID) and local_ids() == [ID]


def test_minari_reads_what_was_written(root):
    dataset = recording()
    write(dataset, {"seed": 0})
    found = minari.load_dataset(ID)
    assert list(minari.list_local_datasets()) == [ID]
    assert (found.total_steps, found.total_episodes) == (13, 4)
    start = 0
    for episode, length in zip(found.iterate_episodes(), LENGTHS, strict=True):
        end = start + length
        np.testing.assert_array_equal(
            episode.observations[:-1], dataset.observations[start:end]
        )
        np.testing.assert_array_equal(
            episode.observations[-1], dataset.next_observations[end - 1]
        )
        np.testing.assert_array_equal(episode.actions, dataset.actions[start:end])
        np.testing.assert_array_equal(episode.rewards, dataset.rewards[start:end])
        np.testing.assert_array_equal(
            episode.terminations, dataset.terminals[start:end]
        )
        np.testing.assert_array_equal(episode.truncations, dataset.timeouts[start:end])
        start = end
    assert found.recover_environment().spec.kwargs["maze"] == "umaze"
    score = minari.get_normalized_score(found, np.array([161.86]))
    np.testing.assert_allclose(score, [1.0])


def test_an_unfinished_last_episode_becomes_a_truncation(root):
    dataset = recording(lengths=(3, 2))
    open_end = Dataset.from_arrays(
        dataset.observations,
        dataset.actions,
        dataset.rewards,
        np.zeros(5, bool),
        dataset.timeouts,
        dataset.next_observations,
        spec=dataset.spec,
        id=ID,
    )
    write(open_end, {})
    assert minari.load_dataset(ID)[1].truncations.tolist() == [False, True]
    cached = read(ID)
    without_cache(root)
    for found in (cached, read(ID)):
        np.testing.assert_array_equal(found.timeouts, [0, 0, 1, 0, 1])


def test_cache_follows_the_files(root):
    write(recording(seed=0), {})
    read(ID)
    with h5py.File(root / ID / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/rewards"][0] = 123.0
    assert read(ID).rewards[0] == 123.0
    (root / ID / "offjax_rows.npz").write_bytes(b"PK\x03\x04 torn")
    assert read(ID).rewards[0] == 123.0


def test_a_place_that_cannot_be_written_is_read_without_cache(root, monkeypatch):
    dataset = recording()
    write(dataset, {})
    without_cache(root)

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(minari_io, "_save_cache", refuse)
    assert_same(read(ID), dataset)


def test_existing_datasets_stay_unless_replaced(root):
    write(recording(seed=0), {})
    write(recording(seed=1), {})
    assert_same(read(ID), recording(seed=0))
    write(recording(seed=1), {}, replace=True)
    assert_same(read(ID), recording(seed=1))
    assert not [name for name in os.listdir(root) if name.startswith(".")]


def test_rows_that_jump_within_an_episode_are_refused(root):
    dataset = recording()
    dataset.next_observations[5, 0] += 1.0
    with pytest.raises(UserError, match="row 5"):
        write(dataset, {})
    assert files(root) == []


def _write_one(root, seed, barrier):
    barrier.wait()
    write(recording(seed, scale=200), {"seed": seed}, root)


def test_two_writers_leave_one_whole_dataset(root):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    workers = [
        context.Process(target=_write_one, args=(root, seed, barrier))
        for seed in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    winner = minari_io.metadata(ID, root)["offjax"]["specification"]["seed"]
    without_cache(root)
    assert_same(read(ID), recording(winner, scale=200))
    assert not [name for name in os.listdir(root) if name.startswith(".")]


def _write_limited(root, queue):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        write(recording(scale=1000), {}, root)
    except UserError as error:
        queue.put(str(error))


def test_a_full_disk_leaves_nothing(root):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=_write_limited, args=(root, queue))
    worker.start()
    message = queue.get(timeout=30)
    worker.join()
    assert ID in message and "cannot be written" in message
    assert files(root) == [] and not exists(ID)


def test_a_root_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write(recording(), {}, tmp_path / "file")


@pytest.mark.parametrize("size", [0, 100, 2000])
def test_truncated_files_are_refused(root, size):
    write(recording(scale=20), {})
    without_cache(root)
    os.truncate(root / ID / "data" / "main_data.hdf5", size)
    with pytest.raises(UserError, match="damaged or incomplete"):
        read(ID)


def test_missing_keys_are_refused(root):
    write(recording(), {})
    with h5py.File(root / ID / "data" / "main_data.hdf5", "a") as file:
        del file["episode_2/rewards"]
    with pytest.raises(UserError, match="damaged or incomplete"):
        read(ID)


def test_missing_observations_are_refused(root):
    write(recording(), {})
    with h5py.File(root / ID / "data" / "main_data.hdf5", "a") as file:
        short = file["episode_2/observations"][:-1]
        del file["episode_2/observations"]
        file["episode_2/observations"] = short
    with pytest.raises(UserError, match="one observation more"):
        read(ID)


def test_broken_metadata_are_refused(root):
    write(recording(), {})
    (root / ID / "data" / "metadata.json").write_text("{")
    with pytest.raises(UserError, match="metadata"):
        read(ID)


def buffers(observation, rng, lengths=(4, 2)):
    """Episodes as Minari's own writer takes them, `observation(steps)` for each."""
    return [
        EpisodeBuffer(
            id=number,
            observations=observation(steps + 1),
            actions=rng.uniform(-1, 1, (steps, 2)),
            rewards=rng.normal(size=steps),
            terminations=np.zeros(steps, bool),
            truncations=np.arange(steps) == steps - 1,
            infos={"success": np.zeros(steps + 1, bool)},
        )
        for number, steps in enumerate(lengths)
    ]


def foreign(name, space, data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers(
            name,
            data,
            observation_space=space,
            action_space=gymnasium.spaces.Box(-1, 1, (2,), np.float64),
            **options,
        )


def box(width):
    return gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float64)


def test_foreign_box_dataset(root):
    rng = np.random.default_rng(0)
    data = buffers(lambda steps: rng.normal(size=(steps, 3)), rng)
    name = "mujoco/robot/expert-v0"
    foreign(name, box(3), data)
    metadata = root / name / "data" / "metadata.json"
    fields = json.loads(metadata.read_text())
    env = {"id": "Robot-v5", "max_episode_steps": 7, "kwargs": {"a": 1}}
    fields |= {"env_spec": json.dumps(env), "ref_min_score": -1.0, "ref_max_score": 3.0}
    metadata.write_text(json.dumps(fields))
    found = read(name)
    whole = [buffer.observations for buffer in data]
    np.testing.assert_array_equal(
        found.observations, np.concatenate([o[:-1] for o in whole]).astype(np.float32)
    )
    np.testing.assert_array_equal(
        found.next_observations,
        np.concatenate([o[1:] for o in whole]).astype(np.float32),
    )
    np.testing.assert_array_equal(found.timeouts, [0, 0, 0, 1, 0, 1])
    assert found.spec.id == "Robot-v5" and found.spec.kwargs == (("a", 1),)
    assert (found.spec.horizon, found.spec.domain) == (7, "locomotion")
    np.testing.assert_allclose(found.spec.score(np.array([1.0])), [50.0])
    assert found.card.identity == found.card.checksum


def test_foreign_dataset_without_environment_has_no_spec(root):
    rng = np.random.default_rng(0)
    foreign("mine/rows-v0", box(3), buffers(lambda n: rng.normal(size=(n, 3)), rng))
    assert read("mine/rows-v0").spec is None


def test_goal_observations_are_flattened_as_gymnasium_does(root):
    rng = np.random.default_rng(0)
    space = gymnasium.spaces.Dict(
        {"observation": box(4), "achieved_goal": box(2), "desired_goal": box(2)}
    )
    widths = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
    data = buffers(
        lambda steps: {k: rng.normal(size=(steps, w)) for k, w in widths.items()}, rng
    )
    foreign("D4RL/pointmaze/tiny-v0", space, data)
    found = read("D4RL/pointmaze/tiny-v0")
    assert found.observations.shape == (6, 8)
    step = {key: value[1] for key, value in data[1].observations.items()}
    flat = gymnasium.spaces.flatten(space, step).astype(np.float32)
    np.testing.assert_array_equal(found.observations[5], flat)
    np.testing.assert_array_equal(found.next_observations[4], flat)
    parts = ("achieved_goal", "desired_goal", "observation")
    np.testing.assert_array_equal(
        flat, np.concatenate([step[key] for key in parts]).astype(np.float32)
    )


def kitchen_space():
    """Nested goals as FrankaKitchen has them, of unequal widths."""
    goals = {"microwave": box(1), "kettle": box(7), "slide cabinet": box(1)}
    Dict = gymnasium.spaces.Dict
    return Dict(
        {
            "observation": box(4),
            "achieved_goal": Dict(goals),
            "desired_goal": Dict(goals),
        }
    )


def sampled(space, steps):
    """Arrays of `steps` samples in the nesting of the space."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {key: sampled(part, steps) for key, part in space.items()}
    return np.stack([space.sample() for _ in range(steps)])


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_kitchen_goals_are_flattened_as_gymnasium_does(root, data_format):
    if data_format == "arrow":
        pytest.importorskip("pyarrow")
    space = kitchen_space()
    space.seed(0)
    data = buffers(lambda steps: sampled(space, steps), np.random.default_rng(0))
    data = [dataclasses.replace(episode, infos=None) for episode in data]
    foreign("D4RL/kitchen/tiny-v0", space, data, data_format=data_format)
    found = read("D4RL/kitchen/tiny-v0")
    assert found.observations.shape == (6, 22)

    def step(value, t):
        if isinstance(value, dict):
            return {key: step(part, t) for key, part in value.items()}
        return value[t]

    for row, (episode, t) in enumerate([(0, t) for t in range(4)] + [(1, 0), (1, 1)]):
        for shift, column in ((0, found.observations), (1, found.next_observations)):
            expected = gymnasium.spaces.flatten(
                space, step(data[episode].observations, t + shift)
            )
            np.testing.assert_array_equal(column[row], expected.astype(np.float32))


@pytest.mark.parametrize("extra", [0, 1])
def test_infos_are_read_at_the_observations(root, extra):
    """Minari's collector keeps the info of the reset, T + 1 rows in all."""
    rng = np.random.default_rng(0)
    data = [
        dataclasses.replace(
            episode,
            infos={"qpos": rng.normal(size=(steps + extra, 3)), "deep": {"x": [0]}},
        )
        for episode, steps in zip(
            buffers(lambda n: rng.normal(size=(n, 3)), rng), (4, 2), strict=True
        )
    ]
    foreign("mine/rows-v0", box(3), data)
    for _ in range(2):  # without and with the cache
        found = read("mine/rows-v0", infos=("qpos",))
        np.testing.assert_array_equal(
            found.infos["qpos"],
            np.concatenate([data[0].infos["qpos"][:4], data[1].infos["qpos"][:2]]),
        )
    with pytest.raises(UserError, match="infos qvel"):
        read("mine/rows-v0", infos=("qvel",))
    with pytest.raises(UserError, match="another length"):
        read("mine/rows-v0", infos=("deep/x",))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "os:path-v0"},
        {"id": 3},
        {"max_episode_steps": -5},
        {"max_episode_steps": "many"},
    ],
)
def test_metadata_that_would_mislead_are_refused(root, changes):
    """An id with a colon would have Gymnasium import a module."""
    rng = np.random.default_rng(0)
    foreign("mine/rows-v0", box(3), buffers(lambda n: rng.normal(size=(n, 3)), rng))
    path = root / "mine/rows-v0/data/metadata.json"
    env = {"id": "Robot-v5", "max_episode_steps": 7, "kwargs": {}} | changes
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"env_spec": json.dumps(env)})
    )
    with pytest.raises(UserError, match="malformed"):
        read("mine/rows-v0")


def test_ids_without_version_are_not_written(root):
    dataset = recording()
    card = dataclasses.replace(dataset.card, id="mine/rows")
    with pytest.raises(UserError, match="mine/rows"):
        write(dataclasses.replace(dataset, card=card), {})
    assert files(root) == []


def test_published_actions_outside_the_bounds_are_clipped_and_counted(root):
    rng = np.random.default_rng(0)
    data = buffers(lambda steps: rng.normal(size=(steps, 3)), rng)
    data[0].actions[2] = 1.5
    foreign("mine/rows-v0", box(3), data)
    metadata = root / "mine/rows-v0/data/metadata.json"
    env = json.dumps({"id": "Robot-v5", "max_episode_steps": None})
    metadata.write_text(
        json.dumps(json.loads(metadata.read_text()) | {"env_spec": env})
    )
    found = read("mine/rows-v0")
    np.testing.assert_array_equal(found.actions[2], [1.0, 1.0])
    assert "actions of 1 rows clipped" in str(found.card)
    assert found.spec.horizon == 4  # the longest episode: the environment has no limit


def test_arrow_is_read_as_hdf5(root):
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    # Minari itself cannot read back scalar infos from Arrow files.
    data = [
        dataclasses.replace(episode, infos=None)
        for episode in buffers(lambda steps: rng.normal(size=(steps, 3)), rng)
    ]
    foreign("mine/plain-v0", box(3), data)
    foreign("mine/arrow-v0", box(3), data, data_format="arrow")
    assert_same(read("mine/arrow-v0"), read("mine/plain-v0"))


def test_a_format_whose_package_is_missing(root, monkeypatch):
    write(recording(), {})
    without_cache(root)
    path = root / ID / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_format": "arrow"}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in [key for key in sys.modules if "arrow_storage" in key]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"minari\[arrow\]"):
        read(ID)


@pytest.mark.parametrize(
    "space",
    [
        gymnasium.spaces.Dict({"observation": box(2), "image": box(2)}),
        gymnasium.spaces.Box(0, 1, (2, 2), np.float64),
        gymnasium.spaces.Discrete(3),
    ],
)
def test_unknown_layouts_are_named(root, space):
    rng = np.random.default_rng(0)

    def observe(steps):
        if isinstance(space, gymnasium.spaces.Dict):
            return {key: np.zeros((steps, 2)) for key in space.spaces}
        return np.stack([space.sample()] * steps)

    foreign("mine/odd-v0", space, buffers(observe, rng))
    with pytest.raises(UserError, match=r"mine/odd-v0.*layout is unknown"):
        read("mine/odd-v0")


def test_a_copied_dataset_is_read_anew(root, tmp_path):
    write(recording(), {})
    other = tmp_path / "copy"
    shutil.copytree(root / ID, other / ID, copy_function=shutil.copyfile)
    assert_same(read(ID, other), recording())
