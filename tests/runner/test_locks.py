"""Locks between processes."""

import subprocess
import sys

import pytest

from offjax.errors import UserError
from offjax.runner import locks

HOLD = """
import sys, time
from pathlib import Path
from offjax.runner import locks
with locks.held(Path(sys.argv[1]), 0):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "runs" / ".lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.communicate()


def test_the_holder_is_named(holder):
    path, process = holder
    waiting = []
    with (
        pytest.raises(UserError, match=f"is being written by process {process.pid} on"),
        locks.held(path, 0.3, waiting.append),
    ):
        raise AssertionError("not held")
    assert len(waiting) == 1


def test_a_killed_holder_frees_it(holder):
    path, process = holder
    process.kill()
    with locks.held(path, 20):  # raises where it is not free in time
        pass
    with locks.held(path, 0):  # and again
        pass
