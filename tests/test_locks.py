"""Locks between processes, and the status of a run whose process was killed."""

import concurrent.futures
import json
import subprocess
import sys
import time

import pytest

from benchmarks.leaderboard import write_run
from offjax import locks
from offjax.errors import UserError
from offjax.leaderboard import store
from offjax.runner.records import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from offjax import locks
with locks.held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
HOLD_EXCLUSIVE = """
import sys, time
from pathlib import Path
from offjax import locks
with locks.exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, info={"status": "running"})


@pytest.fixture
def holder(run):
    """A process that works on the run; its lock."""
    path = run / locks.RUNNING
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


def statuses(run):
    """What the runner and the leaderboard say of a run."""
    (note,) = store.read([run]).notes
    return RunFolder(run).record["status"], note.text.split("'")[1]


def test_a_run_is_running_until_its_process_is_killed(run, holder):
    assert statuses(run) == ("running", "running")
    holder[1].kill()  # SIGKILL
    holder[1].wait()
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    assert statuses(run) == ("killed", "killed")


def test_nothing_is_said_of_a_run_of_another_host(run):
    (run / locks.RUNNING).write_text("process 1 on another-host\n")
    assert statuses(run) == ("unknown", "unknown")
    (run / locks.RUNNING).unlink()
    assert statuses(run) == ("unknown", "unknown")


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted"])
def test_other_statuses_stand(tmp_path, status):
    run = write_run(tmp_path, info={"status": status})
    assert RunFolder(run).record["status"] == status


def test_holders_take_turns_and_leave_nothing(tmp_path):
    inside, most = [0], [0]

    def hold(_):
        with locks.exclusive(tmp_path / "lock"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.01)
            inside[0] -= 1

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(24)))
    assert most == [1] and list(tmp_path.iterdir()) == []


def test_a_killed_holder_frees_an_exclusive_lock(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_EXCLUSIVE, str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    waited, killed = [], []

    def wait():
        waited.append(True)
        holder.kill()
        killed.append(holder.wait())

    with locks.exclusive(tmp_path / "lock", wait):
        assert waited == [True] and killed == [-9]
    holder.stdout.close()
