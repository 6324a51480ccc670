"""A run that is killed and resumed is the run that was not, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from offjax.errors import UserError
from offjax.runner.options import Options
from offjax.runner.records import RunFolder, open_folder, write_json
from offjax.runner.run import finished

DATASET = "offjax/budget/t10-smooth-v0"
FILES = ("scores.csv", "metrics.csv", "episodes.csv")


class Command:
    """`experiments.run` on two seeds and four settings, thirty checkpoints long."""

    def __init__(self, root):
        self.root = root
        compiled = {
            "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.environment = {**os.environ, **compiled}

    def start(self, runs, *flags):
        command = [
            sys.executable, "-m", "experiments.run", "--method=asp", "--preset=demo",
            f"--dataset={DATASET}", f"--data_dir={self.root / 'data'}",
            f"--runs_dir={self.root / runs}", "--num_seeds=2", "--num_steps=1500",
            "--eval_every=400", "--eval_episodes=3", "--checkpoint_every=50",
            "--config.lr=1e-3,3e-3", "--config.temperature=1.0,2.0",
            "--config.hidden_dims=16,16", "--config.batch_size=16", *flags,
        ]  # fmt: skip
        return subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, text=True
        )

    def finish(self, runs, *flags):
        """Runs to the end; the run's folder."""
        process = self.start(runs, *flags)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        line = next(x for x in printed.splitlines() if x.startswith("run: "))
        return RunFolder(self.root / runs / line.removeprefix("run: ")), printed

    def kill(self, runs, fraction, *flags):
        """Begins, and kills where about `fraction` of the training is done."""
        process = self.start(runs, *flags)
        wanted, end = max(1, fraction * 1500), time.monotonic() + 300
        while self.progress(runs) < wanted and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(random.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def terminate(self, runs, fraction, number=signal.SIGTERM):
        """Begins, and sends a signal; exit code and what was printed.

        Chunks are so short that the run stops within a window of its metrics.
        """
        process = self.start(runs, "--chunk_seconds=0.002")
        while self.progress(runs) < fraction * 1500:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        printed, _ = process.communicate(timeout=120)
        return process.returncode, printed

    def progress(self, runs):
        """Step of the newest metrics, 0 before there are any; of the second wave."""
        steps = [0]
        folder = self.root / runs / "asp" / DATASET
        for path in (
            *folder.glob("*/metrics.csv"),
            *folder.glob("*/waves/2/metrics.csv"),
        ):
            lines = path.read_text().splitlines()[1:-1]
            steps += [int(line.split(",")[0]) for line in lines[-1:]]
        return max(steps)

    def parameters(self, runs, folder):
        """Leaves of the trained states, by position."""
        (key,) = folder.record["stages"].values()
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(self.root / runs / "stages" / key / "state")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    return Command(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def whole(command):
    """The run that nobody interrupts."""
    folder, _ = command.finish("whole")
    return folder, command.parameters("whole", folder)


def check(command, runs, whole, fractions):
    command.kill(runs, fractions[0])
    (path,) = (command.root / runs / "asp" / DATASET).glob("2*")
    assert RunFolder(path).record["status"] == "killed"
    with pytest.raises(UserError, match=r"status: killed.*--resume"):
        finished(path)
    for fraction in fractions[1:]:
        command.kill(runs, fraction, "--resume")
    folder, printed = command.finish(runs, "--resume")
    assert "resumed" in printed, fractions
    assert_is(command, runs, folder, whole)


def assert_is(command, runs, folder, whole):
    """A finished run is the one that nobody interrupted."""
    expected, parameters = whole
    for file in FILES:
        mine = (folder.path / file).read_text()
        assert mine == (expected.path / file).read_text(), file
        assert len(mine.splitlines()) > 8
    found = command.parameters(runs, folder)
    assert found.keys() == parameters.keys()
    for name, value in parameters.items():
        assert value.dtype == found[name].dtype
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert folder.record["status"] == "finished"
    assert folder.record["stages"] == expected.record["stages"]


def test_killed_and_resumed(command, whole):
    slots = 8  # 2 seeds × 2 × 2 settings
    firsts = [np.reshape(leaf, (slots, -1))[:, 0] for leaf in whole[1].values()]
    assert any(len(np.unique(first)) == slots for first in firsts)
    check(command, "killed", whole, [random.random() * 0.9])


def test_terminated_then_corrupted_then_resumed(command, whole):
    code, printed = command.terminate("terminated", 0.3)
    assert code == 143, printed
    assert "saved in" in printed and "--resume goes on" in printed
    (path,) = (command.root / "terminated" / "asp" / DATASET).glob("2*")
    folder = RunFolder(path)
    assert folder.record["status"] == "interrupted"
    steps = sorted(int(p.name) for p in (path / "checkpoints").iterdir())
    assert len(steps) == 2
    flip(path / "checkpoints" / str(steps[-1]))
    folder, printed = command.finish("terminated", "--resume")
    assert f"checkpoints/{steps[-1]} is damaged" in printed
    assert f"at step {steps[0]:,}" in printed
    for file in FILES:
        mine = (folder.path / file).read_text()
        assert mine == (whole[0].path / file).read_text(), file


def test_interrupted_by_ctrl_c_then_resumed(command, whole):
    code, printed = command.terminate("interrupted", 0.3, signal.SIGINT)
    assert code == 130, printed
    (path,) = (command.root / "interrupted" / "asp" / DATASET).glob("2*")
    told = next(x for x in printed.splitlines() if "interrupted at step" in x)
    assert str(path) in told and "--resume" in told
    again = next(x for x in printed.splitlines() if x.startswith("resume: "))
    assert again.startswith("resume: python -m experiments.run --method=asp ")
    assert again.endswith(" --resume")
    assert RunFolder(path).record["status"] == "interrupted"
    step = told.split("at step ")[1].split(":")[0]
    folder, printed = command.finish("interrupted", "--resume")
    assert f"resumed {path} at step {step} of 1,500" in printed
    for file in FILES:
        mine = (folder.path / file).read_text()
        assert mine == (whole[0].path / file).read_text(), file


def test_killed_in_the_second_wave_and_resumed(command, whole):
    command.kill("waves", random.random() * 0.8, "--seeds_at_once=1")
    (path,) = (command.root / "waves" / "asp" / DATASET).glob("2*")
    assert RunFolder(path / "waves" / "1").record["status"] == "finished"
    assert RunFolder(path / "waves" / "2").record["status"] == "killed"
    other = command.start("waves", "--resume")
    assert other.wait(timeout=120) == 2
    folder, printed = command.finish("waves", "--seeds_at_once=1", "--resume")
    assert folder.path == path
    assert "wave 1/2: trained before" in printed
    assert_is(command, "waves", folder, whole)


def flip(folder):
    """Changes a byte in the middle of the largest file, which holds the arrays."""
    path = max(
        (p for p in (folder / "state").rglob("*") if p.is_file()),
        key=lambda p: p.stat().st_size,
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def test_a_run_that_another_process_writes_is_refused(command):
    process = command.start("twice")
    while not command.progress("twice"):
        assert process.poll() is None
        time.sleep(0.01)
    (path,) = (command.root / "twice" / "asp" / DATASET).glob("2*")
    with pytest.raises(UserError, match="is running: wait"):
        finished(path)
    process.send_signal(signal.SIGSTOP)  # that it does not end before the other asks
    other = subprocess.run(
        [*process.args, "--resume"],
        env=command.environment,
        capture_output=True,
        text=True,
    )
    process.kill()
    process.communicate()
    assert other.returncode == 2
    assert f"is being written by process {process.pid} on" in other.stderr


@pytest.mark.long
@pytest.mark.parametrize("attempt", range(5))
def test_killed_twice_and_resumed(command, whole, attempt):
    first, second = sorted(random.random() * 0.9 for _ in range(2))
    check(command, f"killed{attempt}", whole, [first, second])


# -- which folder -----------------------------------------------------------


CONFIG = {"method": "bc", "dataset": "d-v0", "seeds": [0, 1], "stages": {"lr": 1}}


def opened(tmp_path, status, config_hash="aa", config=CONFIG, resume=True, saved=True):
    """The folder of a new run, after one of another status."""
    options = Options(runs_dir=str(tmp_path), resume=False, quiet=True)
    before, resumed = open_folder(CONFIG, "aa", options)
    assert not resumed
    write_json(before.path / "run.json", {"status": status, "config_hash": "aa"})
    if saved:
        (before.path / "checkpoints" / "50").mkdir(parents=True)
    options = Options(runs_dir=str(tmp_path), resume=resume, quiet=True)
    return before, *open_folder(config, config_hash, options)


def test_an_unfinished_run_goes_on_in_its_folder(tmp_path):
    before, folder, resumed = opened(tmp_path, "running")
    assert resumed and folder == before


def test_without_resume_a_new_folder_begins(tmp_path):
    before, folder, resumed = opened(tmp_path, "running", resume=False)
    assert not resumed and folder != before
    assert json.loads((folder.path / "config.json").read_text()) == CONFIG


def test_a_finished_run_is_returned_and_an_unfinished_one_preferred(tmp_path):
    before, folder, resumed = opened(tmp_path, "finished")
    assert resumed and folder == before
    failed, _ = open_folder(CONFIG, "aa", Options(runs_dir=str(tmp_path)))
    write_json(failed.path / "run.json", {"status": "failed", "config_hash": "aa"})
    _, folder, _ = opened(tmp_path, "finished")
    assert folder == failed


def test_what_differs_is_named(tmp_path):
    other = CONFIG | {"seeds": [0, 1, 2], "stages": {"lr": 2}}
    with pytest.raises(UserError) as error:
        opened(tmp_path, "running", "bb", other)
    assert "seeds is [0, 1] there, [0, 1, 2] here" in str(error.value)
    assert "stages.lr is 1 there, 2 here" in str(error.value)
    assert "method" not in str(error.value)


def test_a_finished_run_of_another_configuration_is_no_hindrance(tmp_path):
    before, folder, resumed = opened(tmp_path, "finished", "bb", CONFIG | {"seeds": []})
    assert not resumed and folder != before


@pytest.mark.parametrize(("status", "saved"), [("failed", True), ("running", False)])
def test_a_run_that_failed_or_saved_nothing_is_no_hindrance(tmp_path, status, saved):
    other = CONFIG | {"seeds": []}
    before, folder, resumed = opened(tmp_path, status, "bb", other, saved=saved)
    assert not resumed and folder != before
