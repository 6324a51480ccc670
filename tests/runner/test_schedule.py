"""When chunks end, and what is due there."""

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
