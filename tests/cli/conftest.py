"""Commands as a user gives them, each a fork of a process that has the imports."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.forks import Forks

IMPORTS = """import jax, offjax.runner.train, offjax.catalog.load, ml_collections
import offjax.cli.command, offjax.cli.main"""


class Done(NamedTuple):
    """What a command answered."""

    code: int
    output: str
    errors: str


class Offjax:
    """`offjax(*arguments)` runs `offjax ARGUMENTS` in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self._forks = Forks(IMPORTS, "offjax.cli.main.main(argv)")

    def __call__(self, *arguments, output=None, **environment):
        """`output`: a device to print to, in place of a file that is read."""
        streams = [str(output or self.folder / "stdout"), str(self.folder / "stderr")]
        environment = {"TERM": "xterm", "COLUMNS": "", "NO_COLOR": "", **environment}
        code = self._forks(arguments, self.folder, *streams, environment)
        printed = "" if output else Path(streams[0]).read_text()
        return Done(code, printed, Path(streams[1]).read_text())

    def close(self):
        self._forks.close()


@pytest.fixture(scope="session")
def offjax(tmp_path_factory):
    command = Offjax(tmp_path_factory.mktemp("offjax"))
    yield command
    command.close()


TINY = (
    "--method=bc", "--dataset=offjax/budget/t10-smooth-v0", "--preset=demo",
    "--num_seeds=2", "--num_steps=6", "--config.hidden_dims=8,8",
    "--config.batch_size=4", "--eval_episodes=2", "--data_dir=data",
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny():
    """Flags of a training of a moment."""
    return TINY


@pytest.fixture(scope="session")
def finished(offjax):
    """The folder of a tiny run in `runs`, and what the command printed."""
    done = offjax("run", *TINY)
    assert done.code == 0, done.errors
    lines = done.output.splitlines()
    return lines[-1].removeprefix("run: "), lines
