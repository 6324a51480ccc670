"""What the documents teach works as it stands: tutorial, pages with code, notebooks."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tools import notebooks

ROOT = Path(__file__).parents[1]


@pytest.fixture
def shell(tmp_path):
    """Runs a line of a shell in an empty folder, with the `offjax` of this checkout."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "MINARI_DATASETS_PATH": str(tmp_path / "datasets"),
        "MPLBACKEND": "agg",
    }

    def run(line: str) -> str:
        words = shlex.split(line)
        if words[0] == "offjax":
            words[:1] = [sys.executable, "-m", "offjax"]
        elif words[0] == "python":
            words[0] = sys.executable
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run.folder = tmp_path
    return run


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, title, text) of the page's code blocks, in their order."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(r'```(\w+)(?: title="(.*?)")?\n(.*?)```', text, re.S)


def final_score(folder: Path, method: str) -> float:
    """Mean score over the seeds of the method's only run."""
    (path,) = folder.glob(f"runs/{method}/*/*/*/scores.csv")
    with path.open() as file:
        return float(np.mean([float(row["score"]) for row in csv.DictReader(file)]))


def test_the_tutorial_works_as_it_stands(shell):
    printed = []
    for language, title, text in blocks("tutorial.md"):
        if language == "python":
            (shell.folder / title).write_text(text)
        elif language == "bash":
            printed += [shell(line) for line in text.splitlines()]
        elif language == "text":  # what the page says that the last command prints
            assert text in printed[-1]
    bc, td3_bc = (final_score(shell.folder, method) for method in ("bc", "td3_bc"))
    assert td3_bc > bc + 10  # as the page says
    assert (shell.folder / "runs" / "leaderboard.html").is_file()
    assert "points up: True" in printed[-1]


def test_the_page_on_environments_works_as_it_stands(shell):
    ((_, _, text),) = [
        b for b in blocks("how_to/own_environment.md") if b[0] == "python"
    ]
    (shell.folder / "cart.py").write_text(text)
    assert re.search(r"\[-?[\d. -]+\]", shell("python cart.py"))


@pytest.mark.parametrize("name", ["quickstart", "own_method"])
def test_notebook_runs(name, shell):
    """With a twentieth of the data, and a tenth of the updates."""
    data = "--dataset=offjax/maze2d/umaze-v0 --num_transitions=50000"
    if name == "quickstart":
        shell(f"offjax collect {data}")
    path = ROOT / "examples" / f"{name}.ipynb"
    code = re.sub(r"(\d)_000\b", r"\g<1>00", notebooks.code(path))
    (shell.folder / "cells.py").write_text(code)
    shell("python cells.py")


@pytest.mark.parametrize("name", ["quickstart", "own_method"])
def test_notebook_is_stored_with_its_results(name):
    page, images = notebooks.page(ROOT / "examples" / f"{name}.ipynb")
    assert images
    assert "Traceback" not in page
