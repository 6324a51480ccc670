"""A killed run is told from a live one."""

import json
import signal
import subprocess
import sys

import pytest

from benchmarks.leaderboard import write_run
from offjax import liveness
from offjax.leaderboard import store
from offjax.runner.records import RunFolder

WORK = """
import sys, time
from pathlib import Path
from offjax import liveness
with liveness.working(Path(sys.argv[1])):
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, info={"status": "running"})


@pytest.fixture
def process(run):
    """A process that works on the run."""
    started = subprocess.Popen(
        [sys.executable, "-c", WORK, str(run)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout.readline() == "at work\n"
    yield started
    started.kill()
    started.communicate()


def statuses(run):
    """What the runner and the leaderboard say of a run."""
    (note,) = store.read([run]).notes
    return RunFolder(run).record["status"], note.text.split("'")[1]


def test_a_run_is_running_until_its_process_is_killed(run, process):
    assert statuses(run) == ("running", "running")
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert statuses(run) == ("killed", "killed")


def test_another_process_cannot_work_on_it_meanwhile(run, process, monkeypatch):
    monkeypatch.setattr(liveness, "PATIENCE", 0.1)
    with (
        pytest.raises(BlockingIOError, match="another process"),
        liveness.working(run),
    ):
        raise AssertionError("not refused")
    process.kill()
    process.wait()
    with liveness.working(run):
        assert statuses(run) == ("running", "running")


def test_nothing_is_said_of_a_run_of_another_host(run):
    with liveness.working(run):
        pass
    (run / liveness.LOCK).write_text("another-host")
    assert statuses(run) == ("unknown", "unknown")
    (run / liveness.LOCK).unlink()
    assert statuses(run) == ("unknown", "unknown")


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted"])
def test_other_statuses_stand(tmp_path, status):
    run = write_run(tmp_path, info={"status": status})
    assert RunFolder(run).record["status"] == status
