"""The benchmark's command, from an empty folder to a table."""

from __future__ import annotations

import csv
import os
import subprocess
import sys

import pytest

from offjax.datasets import minari_io

NAME = "offjax/budget/t10-smooth-v0"
SUITE = f"""
name = "tiny"
version = 1
preset = "demo"
num_seeds = 2
eval_episodes = 2

[[domains]]
name = "budget"
datasets = ["{NAME}"]
methods = ["bc"]
size = 30
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "tiny.toml").write_text(SUITE)
    return folder


def benchmark(folder, action, *flags):
    if action in ("run", "status"):
        flags = (
            f"--runs_dir={folder / 'runs'}", f"--data_dir={folder / 'data'}", *flags
        )  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-m", "offjax", "benchmark", action,
            f"--file={folder / 'tiny.toml'}", f"--export={folder / 'export'}", *flags,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_filled_shown_and_not_trained_twice(folder):
    assert "not collected" in benchmark(folder, "status")
    first = benchmark(folder, "run", "--host_devices=1")
    assert f"{NAME}: 1 of 1 to train" in first
    assert minari_io.read(NAME, folder / "data").card.episodes == 30
    assert "tiny version 1: 1 of 1 finished" in benchmark(folder, "status")
    assert f"{NAME}: 0 of 1 to train" in benchmark(folder, "run")
    # The exported runs alone make the table, and count as finished.
    (folder / "runs").rename(folder / "elsewhere")
    assert "1 of 1 finished" in benchmark(folder, "status")
    assert NAME in benchmark(folder, "table", "--format=markdown")


def test_time_that_is_over_ends_it(folder, tmp_path):
    """Nothing is trained, though nothing is finished there."""
    runs, export = tmp_path / "runs", tmp_path / "export"
    out = benchmark(
        folder, "run", f"--runs_dir={runs}", f"--export={export}", "--hours=0"
    )
    assert "stopped; " in out
    assert not list(runs.rglob("scores.csv"))


def test_a_flag_that_is_not_read_is_refused(folder):
    command = [sys.executable, "-m", "offjax", "benchmark", "status", "--hours=1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "status does not use --hours" in done.stderr


def test_the_demonstrations_data_lie_beside_its_runs(folder, tmp_path):
    usual, runs = tmp_path / "usual", tmp_path / "runs"
    command = [
        sys.executable, "-m", "offjax", "demo", f"--file={folder / 'tiny.toml'}",
        f"--runs_dir={runs}", "--num_seeds=1",
    ]  # fmt: skip
    environment = {"MINARI_DATASETS_PATH": str(usual), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment
    )
    assert done.returncode == 0, done.stderr
    assert minari_io.exists(NAME, runs / "data")
    assert not minari_io.exists(NAME, usual)
    assert (runs / "leaderboard.html").is_file()
    (scores,) = runs.rglob("scores.csv")
    with scores.open() as file:
        assert {row["seed"] for row in csv.DictReader(file)} == {"0"}


def test_what_to_do_must_be_said(folder):
    command = [sys.executable, "-m", "offjax", "benchmark"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "say what to do, one of run, status, table, page" in done.stderr
