"""When chunks end, what is due there, and which one is traced."""

from __future__ import annotations

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from offjax.errors import UserError
from offjax.runner import chunks
from offjax.runner.chunks import Schedule
from offjax.runner.options import Options


def stops(schedule):
    found = [0]
    while found[-1] < schedule.num_steps:
        found.append(schedule.next_stop(found[-1]))
    return found[1:]


def test_a_chunk_ends_where_something_is_due():
    options = Options(log_every=4, eval_every=5, checkpoint_every=10)
    schedule = Schedule.of(11, options, evaluated=True)
    assert stops(schedule) == [4, 5, 8, 10, 11]
    assert [s for s in stops(schedule) if schedule.evaluates(s)] == [5, 10, 11]
    assert [s for s in stops(schedule) if schedule.saves(s)] == [10, 11]


def test_earlier_stages_are_not_evaluated():
    options = Options(log_every=4, eval_every=5, checkpoint_every=10)
    schedule = Schedule.of(11, options, evaluated=False)
    assert stops(schedule) == [4, 8, 10, 11]
    assert not any(schedule.evaluates(step) for step in range(12))


def test_by_default_there_are_twenty_logs_and_ten_checkpoints():
    schedule = Schedule.of(1000, Options(), evaluated=True)
    assert stops(schedule) == list(range(50, 1001, 50))
    assert sum(schedule.saves(step) for step in stops(schedule)) == 10
    assert [s for s in stops(schedule) if schedule.evaluates(s)] == [1000]


class FakeChunk:
    """Some work, finished when it is waited for."""

    def __init__(self, updates):
        self.updates, self.waited = updates, False
        self.result = jax.jit(lambda x: x @ x)(jnp.ones((8, 8)))

    def wait(self):
        self.waited = True
        jax.block_until_ready(self.result)


@pytest.mark.parametrize("stops, traced", [((3, 6, 9), 6), ((9,), 9)])
def test_the_second_chunk_or_the_only_one(tmp_path, capsys, stops, traced):
    begin = chunks.profiled(lambda a, b: FakeChunk(b - a), 9, str(tmp_path))
    starts = (0, *stops[:-1])
    made = {end: begin(start, end) for start, end in zip(starts, stops, strict=True)}
    assert [end for end, chunk in made.items() if chunk.waited] == [traced]
    (path,) = tmp_path.rglob("perfetto_trace.json.gz")
    assert json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert str(path) in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--profile=.*another folder"):
        chunks.profiled(lambda a, b: FakeChunk(b - a), 9, str(tmp_path / "file/x"))


def test_without_a_folder_nothing_changes():
    def begin(start, end):
        raise AssertionError("not called")

    assert chunks.profiled(begin, 9, "") is begin
