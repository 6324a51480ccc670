"""Kill -9 at random moments, of runs of all recipes and of a benchmark.

Every finish is the undisturbed one.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from offjax.catalog.load import load_dataset
from offjax.methods import METHODS, build
from offjax.runner.settings import known_names
from offjax.types import Actor

BUDGET = "offjax/budget/t10-smooth-v0"
FILES = ("scores.csv", "metrics.csv", "episodes.csv")
KILLS = int(os.environ.get("OFFJAX_KILLS", "50"))
PARTS = 2  # that pytest's workers can share
TINY = {
    "hidden_dims": "16,16",
    "batch_size": "8",
    "width": "16",
    "num_layers": "1",
    "context_length": "5",
    "return_target": "2.0",
}
"""Sizes, and what has no default here, where a method has them."""


def recipes():
    """The methods that Budget Allocation can train."""
    actors = {name: (r := build(name, None, "demo")).actor(r) for name in METHODS}
    return [n for n, actor in actors.items() if type(actor).embed is Actor.embed]


def start(tmp_path, method, runs, *flags):
    names = known_names(build(method, load_dataset(BUDGET).spec, "demo"))
    sizes = [f"--config.{n}={v}" for n, v in TINY.items() if n in names]
    command = [
        sys.executable, "-m", "experiments.run", f"--method={method}",
        "--preset=demo", f"--dataset={BUDGET}", f"--runs_dir={tmp_path / runs}",
        "--num_seeds=2", "--num_steps=300", "--eval_every=100", "--eval_episodes=2",
        "--checkpoint_every=20", *sizes, *flags,
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ,
    )  # fmt: skip


def finish(tmp_path, method, runs, *flags):
    process = start(tmp_path, method, runs, *flags)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed[-3000:]
    (path,) = (tmp_path / runs / method).glob("offjax/budget/*/2*")
    record = json.loads((path / "run.json").read_text())
    assert record["status"] == "finished"
    return [(path / f).read_text() for f in FILES], record["stages"]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_random_kills_over_all_recipes(part, tmp_path):
    methods, whole, kills = recipes()[part::PARTS], {}, 0
    random.shuffle(methods)
    while kills < KILLS // PARTS:
        method = methods[kills % len(methods)]
        if method not in whole:
            begin = time.monotonic()
            result = finish(tmp_path, method, f"whole-{method}")
            whole[method] = result, time.monotonic() - begin
        result, seconds = whole[method]
        runs = f"killed{kills}"
        process = start(tmp_path, method, runs)
        time.sleep(random.uniform(0.3, 0.95) * seconds)
        process.kill()
        process.communicate()
        files, stages = finish(tmp_path, method, runs, "--resume")
        assert stages == result[1], method
        for name, mine, wanted in zip(FILES, files, result[0], strict=True):
            assert mine.splitlines() == wanted.splitlines(), (method, name)
        kills += 1


SUITE = f"""
name = "tiny"
version = 1
preset = "demo"
num_seeds = 2
eval_every = 500
eval_episodes = 3

[[domains]]
name = "budget"
datasets = ["{BUDGET}", "offjax/budget/t20-smooth-v0"]
methods = ["bc", "percent_bc", "td3_bc", "iql", "asp_k1"]
size = 60
"""


def benchmark(folder, action, *flags):
    """`offjax benchmark` in a folder that has its file, its data and all it writes."""
    command = [
        sys.executable, "-m", "offjax", "benchmark", action,
        f"--file={folder / 'tiny.toml'}", f"--export={folder / 'export'}", *flags,
    ]  # fmt: skip
    if action == "run":
        command += [f"--runs_dir={folder / 'runs'}", f"--data_dir={folder / 'data'}"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, cwd=folder,
    )  # fmt: skip


def filled(folder):
    """Trains what is missing, and gives the table and every recorded number."""
    for action, *flags in (["run"], ["table", "--format=csv"]):
        process = benchmark(folder, action, *flags)
        printed, _ = process.communicate(timeout=1200)
        assert process.returncode == 0, printed[-3000:]
    runs = sorted((folder / "export").rglob("run.json"))
    assert len(runs) == 10
    files = [gzip.decompress((r.parent / "episodes.csv.gz").read_bytes()) for r in runs]
    return printed, files, [(r.parent / "scores.csv").read_text() for r in runs]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_benchmark_is_killed_three_times_and_moved(tmp_path):
    def begun(name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tiny.toml").write_text(SUITE)
        return folder

    begin = time.monotonic()
    expected = filled(begun("undisturbed"))
    seconds = time.monotonic() - begin

    folder = begun("first")
    for name in ("second", "third", "fourth"):
        process = benchmark(folder, "run")
        time.sleep(random.uniform(0.15, 0.4) * seconds)
        os.killpg(process.pid, signal.SIGKILL)  # with the jobs that it began
        process.communicate()
        folder = folder.rename(tmp_path / name)
    assert filled(folder) == expected
