"""Two processes of `--distributed` on this machine are one, bit for bit."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time

import pytest

FILES = ("scores.csv", "metrics.csv", "episodes.csv")


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(tmp_path, runs, devices, *flags):
    command = [
        sys.executable, "-m", "experiments.run", "--method=bc", "--preset=demo",
        "--dataset=offjax/budget/t10-smooth-v0", f"--data_dir={tmp_path / 'data'}",
        f"--runs_dir={tmp_path / runs}", f"--host_devices={devices}",
        "--num_seeds=7", "--num_steps=1200", "--eval_every=600", "--eval_episodes=2",
        "--checkpoint_every=400", "--config.hidden_dims=16,16",
        "--config.batch_size=16", *flags,
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ,
    )  # fmt: skip


def start_both(tmp_path, runs, *flags):
    address = f"--coordinator=127.0.0.1:{port()}"
    shared = ("--distributed", address, "--num_processes=2", *flags)
    return [start(tmp_path, runs, 1, *shared, f"--process_id={i}") for i in range(2)]


def recorded(tmp_path, runs):
    (path,) = (tmp_path / runs / "bc" / "offjax" / "budget").glob("*/2*")
    record = json.loads((path / "run.json").read_text())
    assert record["status"] == "finished"
    return [(path / f).read_text() for f in FILES], record


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("hosts")
    process = start(tmp_path, "alone", 2)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 0, printed
    return tmp_path, *recorded(tmp_path, "alone")


def test_two_processes_are_one(alone):
    tmp_path, files, record = alone
    processes = start_both(tmp_path, "two")
    printed = [p.communicate(timeout=300)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], printed
    mine, other = recorded(tmp_path, "two")
    assert mine == files
    assert (other["hosts"], record["hosts"]) == (2, 1)
    assert other["stages"] == record["stages"]
    assert "bc  1,200/1,200" in printed[0] and "1,200" not in printed[1]


@pytest.mark.long
def test_one_is_killed_and_both_go_on(alone):
    tmp_path, files, _ = alone
    often = "--checkpoint_every=100"
    processes = start_both(tmp_path, "killed", often)
    while not list((tmp_path / "killed").glob("bc/*/*/*/2*/checkpoints/300")):
        assert all(p.poll() is None for p in processes)
        time.sleep(0.01)
    processes[random.randrange(2)].kill()
    for process in processes:  # the other notices, or is ended by its launcher
        try:
            process.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    processes = start_both(tmp_path, "killed", often, "--resume")
    printed = [p.communicate(timeout=300)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0], printed
    assert "resumed" in printed[0]
    assert recorded(tmp_path, "killed")[0] == files


def test_hosts_with_other_flags_are_told(tmp_path):
    address = f"--coordinator=127.0.0.1:{port()}"
    shared = ("--distributed", address, "--num_processes=2")
    processes = [
        start(tmp_path, "odd", 1, *shared, f"--process_id={i}", f"--seed={i}")
        for i in range(2)
    ]
    printed = [p.communicate(timeout=300)[0] for p in processes]
    assert all(p.returncode == 2 for p in processes), printed
    assert all("runs other code, versions or flags" in text for text in printed)
