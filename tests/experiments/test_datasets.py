"""The page about the datasets, and bad input to it and to the training of policies."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from offjax.behavior import policies
from offjax.catalog import collected
from offjax.datasets import Dataset, minari_io
from offjax.envs import mujoco


@pytest.fixture
def run(experiment, tmp_path):
    def run(*arguments):
        return experiment(*arguments, MINARI_DATASETS_PATH=str(tmp_path))

    return run


def test_page_counts_complete_episodes_only(run, tmp_path):
    """Three episodes: return 1000 in full, 300 by a fall, and one that is cut short."""
    lengths = [1000, 100, 50]
    rewards = np.repeat([1.0, 3.0, 9.0], lengths)
    ends = np.cumsum(lengths) - 1
    terminals, timeouts = np.zeros((2, 1150), bool)
    terminals[ends[1]] = timeouts[ends[0]] = timeouts[ends[2]] = True
    zeros = np.zeros((1150, 11))
    entry = collected.parse("offjax/hopper/random-v0")
    dataset = Dataset.from_arrays(
        zeros,
        np.zeros((1150, 3)),
        rewards,
        terminals,
        timeouts,
        zeros,
        spec=mujoco.spec("hopper"),
        id=entry.name,
    )
    minari_io.write(dataset, collected.specification(entry, 1150, 0), tmp_path)
    page = tmp_path / "page.md"
    marks = "<!-- begin: experiments.datasets -->\nold\n<!-- end -->"
    page.write_text(f"# Title\n\n{marks}\n\nThe end.\n")
    done = run("datasets", f"--datasets={entry.name}", f"--out={page}")
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    score = 100 * (650 + 20.272305) / (3234.3 + 20.272305)
    row = f"| {entry.name} | 1,150 | 3 | 550 | 300 | 650 | 650 | 1,000 | {score:.1f} |"
    assert row in text and "old" not in text
    assert text.startswith("# Title") and text.endswith("The end.\n")
    assert "| hopper |" in text  # where the policies come from
    page.write_text("no marks")
    done = run("datasets", f"--datasets={entry.name}", f"--out={page}")
    assert done.returncode == 2 and "does not have the lines" in done.stderr
    assert page.read_text() == "no marks"


def test_learning_curves_are_drawn(run, tmp_path):
    path = tmp_path / "curves.png"
    packaged = policies.packaged(1)
    done = run("behavior", f"--curves={path}")
    if not packaged:
        assert done.returncode == 2 and "train_behavior" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    height, width = matplotlib.image.imread(path).shape[:2]
    assert width > 0.8 * len(packaged) * height  # side by side


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("datasets", "--datasets=hoper"), "--datasets=hoper"),
        (("train_behavior", "--robot=hopper"), "--out"),
        (("train_behavior", "--robot=cat", "--out=x"), "hopper"),
        (("behavior",), "--curves"),
        (("behavior", "--curves=x.png", "--robots=cat"), "hopper"),
    ],
)
def test_bad_input_is_one_paragraph_and_exit_code_2(run, command, words):
    done = run(*command)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and words in done.stderr
