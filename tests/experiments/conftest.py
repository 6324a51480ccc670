"""Commands of `experiments`, each a fork of a process that has the imports."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.forks import Forks

IMPORTS = """import runpy
import jax, ml_collections, offjax.catalog.load, offjax.leaderboard, offjax.runner.train
import offjax.cli.command"""
# The module itself, with its flags, is run anew by each command.
CALL = """sys.argv = argv
        runpy.run_module(f"experiments.{argv[0]}", run_name="__main__")"""


class Done(NamedTuple):
    """What a command answered."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    """`experiment("run", *flags, **environment)` is `python -m experiments.run`."""
    folder = tmp_path_factory.mktemp("experiments")
    streams = [folder / "stdout", folder / "stderr"]
    forks = Forks(IMPORTS, CALL)

    def run(*arguments, **environment):
        words = [str(argument) for argument in arguments]
        code = forks(words, Path.cwd(), *streams, environment)
        return Done(code, *(path.read_text() for path in streams))

    yield run
    forks.close()
