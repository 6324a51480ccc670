"""The demonstration's small datasets stay out of other commands' way."""

import os
import subprocess
import sys

from offjax.datasets import minari_io

NAME = "offjax/budget/t10-smooth-v0"
CODE = f"""
from absl import flags
from offjax.cli import demo
demo.define_flags()
flags.FLAGS(["demo", *{{arguments}}])
demo.SIZES = {{{{{NAME!r}: 30}}}}
assert demo._load({NAME!r}).card.episodes == 30
"""


def load(root, *arguments):
    subprocess.run(
        [sys.executable, "-c", CODE.format(arguments=list(arguments))],
        check=True,
        env=os.environ | {"MINARI_DATASETS_PATH": str(root), "JAX_PLATFORMS": "cpu"},
    )


def test_small_datasets_lie_beside_the_runs(tmp_path):
    usual, runs = tmp_path / "usual", tmp_path / "runs"
    load(usual, f"--runs_dir={runs}")
    assert minari_io.exists(NAME, runs / "data")
    assert not minari_io.exists(NAME, usual)
    load(usual, f"--runs_dir={runs}", f"--data_dir={tmp_path / 'given'}")
    assert minari_io.exists(NAME, tmp_path / "given")
