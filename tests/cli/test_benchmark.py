"""The benchmark's command, from an empty folder to a table."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from benchmarks.leaderboard import write_run
from offjax.datasets import minari_io
from offjax.leaderboard import screenshot

NAME, OTHER = "offjax/budget/t10-smooth-v0", "offjax/budget/t50-smooth-v0"
SUITE = f"""
name = "tiny"
version = 1
preset = "demo"
num_seeds = 2
eval_episodes = 2

[[domains]]
name = "budget"
datasets = ["{NAME}", "{OTHER}"]
methods = ["bc"]
size = 30
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "tiny.toml").write_text(SUITE)
    return folder


@pytest.fixture
def benchmark(offjax, folder):
    """`benchmark(action, *flags)` is what `offjax benchmark` prints."""

    def run(action, *flags):
        if action in ("run", "status"):
            places = f"--runs_dir={folder / 'runs'}", f"--data_dir={folder / 'data'}"
            flags = (*places, *flags)
        given = f"--file={folder / 'tiny.toml'}", f"--export={folder / 'export'}"
        done = offjax("benchmark", action, *given, *flags)
        assert done.code == 0, done.errors
        return done.output

    return run


def test_it_is_filled_shown_and_not_trained_twice(benchmark, folder):
    assert "not collected" in benchmark("status")
    first = benchmark("run", "--host_devices=1")
    assert f"{NAME}: 1 of 1 to train" in first
    assert f"{OTHER}: 1 of 1 to train" in first
    (record,) = (folder / "runs" / "bc" / NAME).glob("*/run.json")
    assert json.loads(record.read_text())["trained_with"] == [OTHER]
    assert minari_io.read(NAME, folder / "data").card.episodes == 30
    assert "tiny version 1: 2 of 2 finished" in benchmark("status")
    assert f"{NAME}: 0 of 1 to train" in benchmark("run")
    # The exported runs alone make the table, and count as finished.
    (folder / "runs").rename(folder / "elsewhere")
    assert "2 of 2 finished" in benchmark("status")
    table = benchmark("table", "--format=markdown")
    assert NAME.removeprefix("offjax/") in table
    (folder / "data").rename(folder / "other data")
    told = benchmark("status")
    assert told.count("1/1  exported; not collected here") == 2
    assert "2 of 2 finished" in told


@pytest.fixture
def exported(tmp_path):
    """Exports of two methods on two of the benchmark's datasets."""
    for method, level in (("bc", 10.0), ("td3_bc", 30.0)):
        for dataset in ("offjax/maze2d/umaze-v0", "offjax/maze2d/medium-v0"):
            scores = level + np.array([[1.0], [2.0], [4.0]])
            if method == "bc":
                scores = scores[[1, 0, 2]]
            write_run(
                tmp_path / "exports", method, dataset, scores=scores,
                variants=("preset=small",),
            )  # fmt: skip
    return f"--export={tmp_path / 'exports'}"


def test_the_table_is_a_matrix(offjax, exported):
    done = offjax("benchmark", "table", "--format=markdown", exported)
    assert done.code == 0, done.errors
    assert "| maze2d/umaze-v0 | **32.3** | 12.3 |" in done.output
    assert "preset small. 4 of " in done.output
    assert "TD3+BC" in offjax("benchmark", "table", exported).output
    done = offjax("benchmark", "table", "--methods=bc", exported)
    assert done.code == 0 and "TD3+BC" not in done.output
    done = offjax("benchmark", "table", "--domains=gym", exported)
    assert done.code == 2 and "no run of this part" in done.errors


def test_the_table_goes_into_a_file(offjax, exported, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- board -->\nstale\n<!-- /board -->\nafter\n")
    flags = ("benchmark", "table", f"--into={path}", exported)
    assert offjax(*flags).code == 0
    text = path.read_text()
    assert text.startswith("before\n<!-- board -->\n|  | TD3+BC | BC |\n")
    assert text.endswith(".\n<!-- /board -->\nafter\n") and "stale" not in text
    assert offjax(*flags).code == 0
    assert path.read_text() == text
    done = offjax(*flags, "--format=csv")
    assert done.code == 2 and "--into takes markdown" in done.errors
    path.write_text("<!-- /board -->\n<!-- board -->\n")
    done = offjax(*flags)
    assert done.code == 2 and "needs a line <!-- board -->" in done.errors


def test_two_methods_are_compared(offjax, exported):
    done = offjax("benchmark", "compare", "--a=td3_bc", "--b=bc", exported)
    assert done.code == 0, done.errors
    assert "mean of 2" in done.output and "20.0 [" in done.output
    done = offjax("benchmark", "compare", "--a=td3_bc", exported)
    assert done.code == 2 and "compare needs --b" in done.errors
    done = offjax("benchmark", "compare", "--a=bc", "--b=bc", exported)
    assert done.code == 2 and "both bc" in done.errors
    done = offjax("benchmark", "compare", "--a=bc", "--b=no", exported)
    assert done.code == 2 and "--b=no is none of the methods" in done.errors


def test_the_page_has_a_picture_where_there_is_a_browser(offjax, exported, tmp_path):
    out = tmp_path / "board" / "page.html"
    done = offjax("benchmark", "page", f"--out={out}", exported)
    assert done.code == 0, done.errors
    assert "4 of " in out.read_text()
    if screenshot.find_browser():
        assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "no picture" in done.errors


def test_time_that_is_over_ends_it(benchmark, tmp_path):
    """Nothing is trained, though nothing is finished there."""
    runs, export = tmp_path / "runs", tmp_path / "export"
    out = benchmark("run", f"--runs_dir={runs}", f"--export={export}", "--hours=0")
    assert "stopped; " in out
    assert not list(runs.rglob("scores.csv"))


def test_a_flag_that_is_not_read_is_refused(offjax):
    done = offjax("benchmark", "status", "--hours=1")
    assert done.code == 2
    assert "status does not use --hours" in done.errors


def test_the_demonstrations_data_lie_beside_its_runs(offjax, folder, tmp_path):
    usual, runs = tmp_path / "usual", tmp_path / "runs"
    done = offjax(
        "demo", f"--file={folder / 'tiny.toml'}", f"--runs_dir={runs}", "--num_seeds=1",
        "--seed=4", MINARI_DATASETS_PATH=str(usual),
    )  # fmt: skip
    assert done.code == 0, done.errors
    assert minari_io.exists(NAME, runs / "data")
    assert not minari_io.exists(NAME, usual)
    assert (runs / "leaderboard.html").is_file()
    (scores,) = (runs / "bc" / NAME).rglob("scores.csv")
    with scores.open() as file:
        assert {row["seed"] for row in csv.DictReader(file)} == {"4"}


def test_what_to_do_must_be_said(offjax):
    done = offjax("benchmark")
    assert done.code == 2
    assert "say what to do, one of run, status, table, page, compare" in done.errors
