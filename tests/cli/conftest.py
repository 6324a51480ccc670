"""Commands as a user gives them, each a fork of a process that has the imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

SERVER = """
import json, os, sys
import jax, offjax.runner.train, offjax.catalog.load, ml_collections
import offjax.cli.command, offjax.cli.main
for line in sys.stdin:
    argv, folder, environment, output, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.update(environment)
        for stream, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        offjax.cli.main.main(argv)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Done(NamedTuple):
    """What a command answered."""

    code: int
    output: str
    errors: str


class Offjax:
    """`offjax(*arguments)` runs `offjax ARGUMENTS` in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, *arguments, output=None, **environment):
        """`output`: a device to print to, in place of a file that is read."""
        streams = [str(output or self.folder / "stdout"), str(self.folder / "stderr")]
        environment = {"TERM": "xterm", "COLUMNS": "", "NO_COLOR": "", **environment}
        request = [arguments, str(self.folder), environment, *streams]
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        code = int(self._server.stdout.readline())
        printed = "" if output else Path(streams[0]).read_text()
        return Done(code, printed, Path(streams[1]).read_text())

    def close(self):
        self._server.stdin.close()
        self._server.wait()


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
