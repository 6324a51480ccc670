"""What a run tells while it goes on, off a terminal; tests/cli has the terminal."""

import numpy as np
import pytest

from offjax.runner.progress import Progress


class Clock:
    """Passes when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def told(capsys):
    """Lines printed since it was last called."""
    return lambda: capsys.readouterr().out.splitlines()


def test_a_stage_has_a_line_at_its_begin_each_minute_and_at_its_end(told):
    clock = Clock()
    progress = Progress(seeds=2, clock=clock)
    progress.begin("asp", 500, 10_000, slots=2)
    assert told() == ["asp: 10,000 updates × 2 seeds, compiling"]
    metrics = {"asp/grad_norm": np.ones(2), "asp/loss": np.array([1.0, 3.0])}
    progress.chunk(1_500, 1_000, 4.0, metrics)
    assert told() == []
    clock.seconds = 60
    progress.chunk(2_500, 1_000, 4.0, metrics)
    # 250 updates of each seed a second; 8 000 of the stage's updates are left.
    line = "asp  2,000/10,000  250 updates/s × 2 seeds  ETA 0:32  loss 2"
    assert told() == [line]
    clock.seconds = 119
    progress.chunk(3_500, 1_000, 4.0, metrics)
    assert told() == []
    progress.chunk(10_500, 7_000, 28.0, metrics)
    (last,) = told()
    assert last.startswith("asp  10,000/10,000") and "ETA 0:00" in last
    progress.close()
    assert told() == []


def test_every_evaluation_has_a_line_and_the_last_score_stays(told):
    progress = Progress(seeds=3)
    progress.begin("bc", 0, 10, slots=3)
    progress.scores(np.array([[50.0, np.nan, 70.0]]), 5)
    assert told()[1:] == ["evaluated at 5: score 60"]
    progress.chunk(10, 10, 1.0, {"bc/loss": np.full(3, np.nan)})
    assert told()[0].endswith("loss -  score 60")


def test_settings_are_told_apart_from_seeds(told):
    progress = Progress(seeds=2)
    progress.begin("bc", 0, 10, slots=6, done=4)
    assert told() == ["bc: 6 of 10 updates × 2 seeds × 3 settings, compiling"]
    progress.scores(np.array([[1.0, 3.0], [5.0, np.nan], [9.0, 9.0]]), 5, "return")
    assert told() == ["evaluated at 5: return 2 to 9 over 3 settings"]
    progress.scores(np.full((3, 2), np.nan), 5)
    assert told() == ["evaluated at 5: score -"]


def test_long_times_have_hours(told):
    clock = Clock()
    progress = Progress(clock=clock)
    progress.begin("bc", 0, 8_000, slots=1)
    clock.seconds = 60
    told()
    progress.chunk(735, 735, 735.0, {})
    assert told() == ["bc  735/8,000  1 updates/s  ETA 2:01:05"]


def test_quiet(told):
    progress = Progress(quiet=True)
    progress.say("hello")
    progress.begin("bc", 0, 10, slots=1)
    progress.chunk(10, 10, 1.0, {})
    progress.scores(np.zeros((1, 1)), 10)
    progress.close()
    assert told() == []
