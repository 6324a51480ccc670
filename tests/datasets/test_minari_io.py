"""Local Minari datasets: what this project writes is read by Minari, and back."""

import dataclasses
import importlib.metadata
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys

import h5py
import minari
import numpy as np
import pytest

from offjax.datasets import Dataset, minari_io
from offjax.datasets.minari_io import exists, local_ids, read, write
from offjax.envs import maze2d, mujoco
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


def cache_file(root):
    return root / ID / "offjax_rows.npz"


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_written_rows_are_read_back(root):
    dataset = recording()
    write(dataset, {"seed": 0})
    for found in (read(ID), read(ID)):  # without and with the cache
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


def test_a_relative_root_is_a_folder_beneath_the_working_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dataset = recording()
    write(dataset, {}, "some/data")
    assert local_ids("some/data") == [dataset.card.id]
    assert_same(read(dataset.card.id, "some/data"), dataset)
    assert [path.name for path in (tmp_path / "some/data").iterdir()] == ["offjax"]


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
    for found in (read(ID), read(ID)):
        np.testing.assert_array_equal(found.timeouts, [0, 0, 1, 0, 1])


def test_cache_follows_the_files(root):
    write(recording(seed=0), {})
    read(ID)
    with h5py.File(root / ID / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/rewards"][0] = 123.0
    assert read(ID).rewards[0] == 123.0
    assert cache_file(root).is_file()
    cache_file(root).write_bytes(b"PK\x03\x04 torn")
    assert read(ID).rewards[0] == 123.0


def test_a_cache_that_cannot_be_written_is_done_without(root):
    dataset = recording()
    write(dataset, {})
    (cache_file(root) / "in the way").mkdir(parents=True)
    assert_same(read(ID), dataset)
    assert cache_file(root).is_dir()


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


def test_ids_without_version_are_not_written(root):
    dataset = recording()
    card = dataclasses.replace(dataset.card, id="mine/rows")
    with pytest.raises(UserError, match="mine/rows"):
        write(dataclasses.replace(dataset, card=card), {})
    assert files(root) == []


def test_a_format_whose_package_is_missing(root, monkeypatch):
    write(recording(), {})
    path = root / ID / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_format": "arrow"}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for name in [key for key in sys.modules if "arrow_storage" in key]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"minari\[arrow\]"):
        read(ID)


def test_a_copied_dataset_is_read_anew(root, tmp_path):
    write(recording(), {})
    other = tmp_path / "copy"
    shutil.copytree(root / ID, other / ID, copy_function=shutil.copyfile)
    assert_same(read(ID, other), recording())


@pytest.mark.parametrize(
    ("version", "words"),
    [(None, "while {} is installed"), ("same", ""), ("absent", None)],
)
def test_the_card_tells_the_simulator(tmp_path, version, words):
    """A recording of another major version of MuJoCo carries a warning."""
    installed = importlib.metadata.version("mujoco")
    other = f"{int(installed.partition('.')[0]) - 1}.3.7"
    spec = mujoco.spec("hopper")
    rng = np.random.default_rng(0)
    dataset = Dataset.from_arrays(
        rng.normal(size=(4, 11)),
        rng.uniform(-1, 1, (4, 3)),
        rng.normal(size=4),
        np.array([False, True, False, True]),
        next_observations=rng.normal(size=(4, 11)),
        timeouts=np.array([True, False, True, False]),
        spec=spec,
        id=ID,
    )
    write(dataset, {}, tmp_path)
    path = tmp_path / ID / "data" / "metadata.json"
    data = json.loads(path.read_text())
    assert data["offjax"]["mujoco"] == installed
    if version is None:
        data["offjax"]["mujoco"] = other
    elif version == "absent":  # as what was written before it was noted
        del data["offjax"]["mujoco"]
    path.write_text(json.dumps(data))
    notes = read(ID, tmp_path).card.notes
    if words is None:
        assert notes == ()
    else:
        recorded = other if version is None else installed
        assert notes[0].startswith(f"recorded with MuJoCo {recorded}")
        assert words.format(installed) in notes[0]
        assert ("calibrate" in notes[0]) == (version is None)


def test_what_runs_on_device_has_no_simulator(tmp_path):
    write(recording(), {}, tmp_path)
    data = json.loads((tmp_path / ID / "data" / "metadata.json").read_text())
    assert "mujoco" not in data["offjax"]
