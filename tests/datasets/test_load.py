"""Loading by name: collected once, read afterwards, refused when it would mislead."""

import json
import multiprocessing
import os

import numpy as np
import pytest

from offjax.catalog import collected
from offjax.catalog.entries import Request
from offjax.catalog.load import collect_dataset, list_datasets, load_dataset
from offjax.datasets import Dataset, minari_io
from offjax.envs import maze2d
from offjax.errors import UserError

NAME = "offjax/budget/t10-smooth-v0"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


def test_collected_on_first_use_only():
    lines = []
    first = load_dataset(NAME, progress=lines.append)
    second = load_dataset(NAME, progress=lines.append)
    assert len(lines) == 1 and f"collecting {NAME} (2,000 episodes)" in lines[0]
    np.testing.assert_array_equal(first.observations, second.observations)
    made_from = collected.specification(collected.parse(NAME), None, 0)
    assert first.card.identity == second.card.identity == collected.identity(made_from)
    assert first.card.episodes == 2000 and first.spec.horizon == 10


def test_data_dir_comes_before_the_environment_variable(root, tmp_path):
    other = tmp_path / "other"
    collect_dataset(NAME, size=3, data_dir=other)
    assert minari_io.exists(NAME, other) and not minari_io.exists(NAME)
    assert load_dataset(NAME, data_dir=other).card.episodes == 3


def _collect(root, queue):
    collect_dataset(NAME, size=3, data_dir=root, progress=queue.put)


def test_two_processes_collect_it_once(root):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_collect, args=(root, queue)) for _ in range(2)]
    with minari_io.writing(NAME, root, print):  # until both wait for their turn
        for worker in workers:
            worker.start()
        lines = [queue.get(timeout=60) for _ in range(2)]
    assert all("waiting for another process" in line for line in lines)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert "collecting" in queue.get(timeout=5) and queue.empty()
    assert load_dataset(NAME, collect=False).card.episodes == 3
    assert not [name for name in os.listdir(root) if name.startswith(".")]


def test_the_lock_of_a_dead_process_is_free(root):
    (root / f".{NAME.replace('/', '-')}.lock").touch()
    assert collect_dataset(NAME, size=3).card.episodes == 3


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        collect_dataset(NAME, size=3, data_dir=tmp_path / "file")


def test_without_collecting():
    with pytest.raises(UserError, match=r"offjax collect"):
        load_dataset(NAME, collect=False)
    assert not minari_io.exists(NAME)


def test_another_size_is_never_taken_silently():
    lines = []
    for _ in range(2):
        found = collect_dataset(NAME, size=3, seed=1, progress=lines.append)
        assert found.card.episodes == 3 and len(lines) == 1
    with pytest.raises(UserError, match="--force"):
        collect_dataset(NAME, size=4, seed=1)
    with pytest.raises(UserError, match="--force"):
        collect_dataset(NAME, size=3, seed=2)
    assert load_dataset(NAME).card.episodes == 3
    assert collect_dataset(NAME, size=4, force=True).card.episodes == 4
    assert load_dataset(NAME).card.episodes == 4


def test_data_of_another_generator_are_refused(root):
    collect_dataset(NAME, size=3)
    path = root / NAME / "data" / "metadata.json"
    fields = json.loads(path.read_text())
    fields["offjax"]["specification"]["generator_version"] = -1
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="generator version -1"):
        load_dataset(NAME)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("offjax/budget/t10-smoth-v0", "Did you mean offjax/budget/t10-smooth-v0"),
        ("offjax/budget/t10-smooth", "version"),
        ("budget/t10-smooth-v0", "Did you mean offjax/budget/t10-smooth-v0"),
        ("mujoco/hopper/expert-v0", "minari download mujoco/hopper/expert-v0"),
        ("mujoco/hopper/expert", "-v0"),
        ("", "-v0"),
    ],
)
def test_unknown_names_say_what_to_do(name, words):
    with pytest.raises(UserError) as error:
        load_dataset(name)
    assert words in str(error.value) and repr(name) in str(error.value)


def test_other_local_datasets_are_read_and_listed():
    dataset = Dataset.from_arrays(
        np.zeros((2, 4)),
        np.zeros((2, 2)),
        [0, 1],
        [0, 1],
        [0, 0],
        np.zeros((2, 4)),
        spec=maze2d.spec("umaze"),
        id="mine/maze/two-rows-v3",
    )
    minari_io.write(dataset, {})
    assert load_dataset("mine/maze/two-rows-v3").card.rows == 2
    collect_dataset(NAME, size=2)
    assert list_datasets() == [*collected.ids(), "mine/maze/two-rows-v3"]


def test_an_interrupted_collection_goes_on_and_leaves_no_parts(root):
    pytest.importorskip("mujoco.batch")
    from offjax.behavior import locomotion

    name = "offjax/hopper/random-v1"
    wanted = collected.specification(collected.parse(name), 150, 2)
    scratch = minari_io.scratch(name, root, collected.identity(wanted))
    # What is left of a collection that was killed before its data were written.
    expected = locomotion.generate(
        "hopper", "random", 150, seed=2, version=1, scratch=scratch
    )
    (chunk,) = (scratch / "0").iterdir()
    with np.load(chunk) as file:
        kept = dict(file)
    kept["rewards"][:] = 7.0  # to tell it from one that is collected again
    np.savez(chunk, **kept)
    assert not minari_io.exists(name) and list_datasets().count(name) == 1
    dataset = collect_dataset(name, size=150, seed=2)
    assert len(dataset) == 150 and (dataset.rewards == 7.0).all()
    np.testing.assert_array_equal(dataset.observations, expected["observations"])
    assert not scratch.exists()
    # Parts of another specification are not taken.
    other = collect_dataset(name, size=150, seed=3, force=True)
    assert (other.rewards != 7.0).any()


def test_a_replay_takes_no_seed():
    pytest.importorskip("mujoco.batch")
    with pytest.raises(UserError, match="--seed=1 does not apply"):
        collected.parse("offjax/hopper/medium-replay-v1").generate(Request(10, 1))
