"""Every benchmark runs in a tiny form, and writes its numbers beside the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

BUDGET = "offjax/budget/t10-smooth-v0"
QUICK = {
    "data_loading": (["--rows=2000", "--repeats=1"], "seconds"),
    "environments": (["--sizes=1,2", "--steps=100", "--repeats=1"], "steps_per_second"),
    "mujoco_batch": (
        ["--robots=hopper", "--num_envs=4", "--seconds=0.01", "--repeats=1"],
        "steps_per_second",
    ),
    "training": (
        [
            "--sections=throughput,memory", "--algorithms=bc", "--preset=demo",
            "--num_seeds=2", "--seconds=0.01", "--rounds=1",
        ],
        "throughput",
    ),
}  # fmt: skip
SLOW = {
    "datasets": (
        [
            "--method=bc", "--robots=hopper", "--num_steps=5", "--num_seeds=2",
            "--rows=300",
        ],
        "ratio",
    ),
    "planning": (["--preset=demo", "--batches=1", "--seconds=0.01"], "costs"),
    "evaluation": (
        [
            "--robots=hopper", "--num_seeds=2", "--episodes=1", "--steps=5",
            "--loop_steps=5", "--repeats=1",
        ],
        "steps_per_second",
    ),
    "improvement": (
        ["--states=16", "--network_states=4", "--loop_states=2"],
        "quadratic",
    ),
    "board": (["--methods=3", "--datasets=3"], "page_megabytes"),
    "leaderboard": (["--methods=1"], "table"),
    "sequence": (
        ["--updates=1", "--rounds=1", "--seeds=2", "--episodes=1"],
        "training",
    ),
    "startup": (
        [
            "--method=bc", f"--dataset={BUDGET}", "--updates=2", "--num_seeds=1",
            "--rounds=1",
        ],
        "first update, cold",
    ),
    "streaming": (
        [
            "--sections=rate", "--methods=td3_bc", "--presets=demo",
            "--held_rows=2000", "--seconds=0.1", "--rounds=1",
        ],
        "rate",
    ),
    "gpu": (["--tiny"], "memory"),
    "sweeps": (["--jobs=1", "--num_steps=2"], "ratio"),
}  # fmt: skip
CASES = [
    *QUICK,
    *(pytest.param(name, marks=pytest.mark.long) for name in SLOW),
]


@pytest.mark.parametrize("name", CASES)
def test_a_benchmark_writes_its_numbers(name, tmp_path):
    arguments, key = (QUICK | SLOW)[name]
    path = tmp_path / "found.json"
    done = subprocess.run(
        [
            sys.executable, "-m", f"benchmarks.{name}", *arguments, f"--json={path}",
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no accelerator at hand: CPU numbers" in done.stdout
    found = json.loads(path.read_text())
    assert {"processor", "cores", "platform", "versions", "commit"} <= set(
        found["machine"]
    )
    assert found[key]
