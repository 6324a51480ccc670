"""Streamed training learns what training in memory learns, bit for bit."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import offjax
from offjax.datasets import stored
from offjax.datasets.dataset import Dataset
from offjax.devices.layout import choose_layout
from offjax.errors import UserError
from offjax.runner import feed, memory, sinks
from tests.runner.tiny_training import rows, train

METHODS = ("iql", pytest.param("cfpi", marks=pytest.mark.long))
"""Of one stage and, cfpi, of two."""


def recorded(following=None):
    """Episodes of 25 steps without an environment."""
    rng, count = np.random.default_rng(0), 500
    return Dataset.from_arrays(
        rng.normal(size=(count, 3)),
        rng.uniform(-1, 1, (count, 2)),
        rng.normal(size=count),
        np.arange(count) % 50 == 49,
        np.arange(count) % 50 == 24,
        following,
    )


@pytest.fixture(scope="module")
def dataset():
    """Its next observations are the next rows."""
    return recorded()


@pytest.fixture(scope="module")
def on_disk(dataset, tmp_path_factory):
    return stored.write("mine/robot-v0", [dataset], tmp_path_factory.mktemp("stored"))


@pytest.fixture(scope="module")
def in_memory(dataset, tmp_path_factory):
    """`in_memory(method)` is its run in memory, trained once."""
    folder = tmp_path_factory.mktemp("memory")
    return functools.cache(lambda method: train(dataset, folder, method))


def require_same(run, expected):
    for found, wanted in zip(
        run.states.values(), expected.states.values(), strict=True
    ):
        for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("method", METHODS)
def test_states_and_metrics_are_those_in_memory(on_disk, in_memory, tmp_path, method):
    run = train(on_disk, tmp_path, method, stream=True)
    require_same(run, in_memory(method))
    assert rows(run, "metrics.csv") == rows(in_memory(method), "metrics.csv")


def test_recorded_next_observations_are_streamed(tmp_path):
    """Two seeds on each device: with one, tests' compiler rounds otherwise."""
    dataset = recorded(np.random.default_rng(1).normal(size=(500, 3)))
    streamed = train(dataset, tmp_path, "td3_bc", stream=True, num_seeds=4)
    whole = train(dataset, tmp_path / "memory", "td3_bc", num_seeds=4)
    require_same(streamed, whole)


def test_data_in_memory_are_streamed_in_chunks_of_any_size(
    dataset, in_memory, tmp_path, monkeypatch
):
    monkeypatch.setattr(feed, "CHUNK_BYTES", 2_500)  # three updates of each seed
    options = {"log_every": 3, "checkpoint_every": 4, "stream": True}
    require_same(train(dataset, tmp_path, "iql", **options), in_memory("iql"))


class Killed(Exception):
    """Stands for the process that ends here."""


class Deadly:
    """A sink that ends the process when step 8 is written."""

    package = "json"

    def __init__(self, folder, config):
        pass

    def write(self, rows):
        if any(row[0] == 8 for row in rows):
            raise Killed

    def close(self):
        pass


@pytest.mark.parametrize("stream", [(True, True), (False, True)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    on_disk, in_memory, tmp_path, monkeypatch, stream
):
    monkeypatch.setitem(sinks.SINKS, "deadly", Deadly)
    before, after = stream
    options = {"log_every": 4, "checkpoint_every": 4}
    with pytest.raises(Killed):
        train(on_disk, tmp_path, "iql", stream=before, log=("deadly",), **options)
    run = train(on_disk, tmp_path, "iql", stream=after, resume=True, **options)
    require_same(run, in_memory("iql"))


@pytest.mark.parametrize(
    ("method", "view"),
    [("reinformer", "SegmentView"), ("percent_bc", "BestEpisodes")],
)
def test_other_views_are_refused_with_what_can_be_streamed(
    dataset, tmp_path, method, view
):
    with pytest.raises(UserError, match=rf"reads {view}.*td3_bc, rebrac, iql"):
        offjax.train(method, dataset, 1, stream=True, runs_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("method", "remedy"),
    [("td3_bc", "add --stream"), ("percent_bc", "smaller networks")],
)
def test_rows_that_do_not_fit_are_told_to_be_streamed(
    on_disk, tmp_path, method, remedy
):
    count = 2 * memory.host_bytes() // on_disk.rows[0].nbytes
    rows = np.broadcast_to(on_disk.rows[0], (count, on_disk.rows.shape[1]))
    huge = dataclasses.replace(on_disk, rows=rows)
    with pytest.raises(UserError, match=f"Not one seed fits.*{remedy}"):
        train(huge, tmp_path, method)


@pytest.mark.parametrize(
    ("buffers", "remedy"), [(0, "add --stream"), (1_000, "smaller networks")]
)
def test_data_that_do_not_fit_are_told_to_be_streamed(in_memory, buffers, remedy):
    run = in_memory("iql").training.stages[-1]
    data = jax.ShapeDtypeStruct((2 * memory.host_bytes(),), np.uint8)
    need = memory.need_of(run, data, run.states, {}, buffers)
    with pytest.raises(UserError, match=f"Not one seed fits.*{remedy}"):
        memory.require(need, choose_layout(1, "map"), num_seeds=1)
