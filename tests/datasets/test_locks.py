"""Locks on files: one holder at a time, nothing left behind, freed by death."""

import concurrent.futures
import subprocess
import sys
import time

from offjax.datasets import locks

HOLD = """
import sys, time, pathlib
from offjax.datasets import locks
with locks.exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


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


def test_a_killed_holder_frees_it(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE
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
