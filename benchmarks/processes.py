"""Work in processes of its own, which is timed together or in turn.

A process prepares, says that it is ready, waits for a line, works, and prints what it
found. Peers are scripts of benchmarks/peers: they print their device and the seconds
that their work took.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from offjax.errors import UserError

PEERS = Path(__file__).parent / "peers"
IN_PYTORCH = ("td3_bc", "iql", "bc", "cql")
"""What benchmarks/peers/value_based.py has."""


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


class Process:
    """A process that has been started, and waits until it is told to begin."""

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        core: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Starts it.

        Args:
          command: program and arguments.
          variables: of the environment, beside those of this process.
          core: the only one that it may use; None: any.
          seconds: after which it is killed; None: never.

        Raises:
          UserError: there is no such program.
        """
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        self._command, self._late = command, False
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [*pinned, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=os.environ | variables,
            )
        except OSError as error:
            raise UserError(f"a process cannot be started: {error}") from error
        self._timer = None if seconds is None else threading.Timer(seconds, self._stop)
        if self._timer:
            self._timer.daemon = True
            self._timer.start()

    def _stop(self) -> None:
        self._late = True
        self._process.kill()

    def ready(self) -> None:
        """Waits until it has prepared, or has failed."""
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()) and line.strip() != "ready":
            pass

    def begin(self) -> None:
        """Has it work."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `output` tells why it is gone
            self._process.stdin.write("begin\n")
            self._process.stdin.flush()

    def output(self) -> str:
        """What it printed after it began, when it has ended.

        Raises:
          LateError: its time was over.
          UserError: it failed.
        """
        out, _ = self._process.communicate()
        if self._late:
            raise LateError("its time was over")
        if self._process.returncode or not out.strip():
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines() or ["no message"]
            command = " ".join(self._command[:4])
            raise UserError(f"a process failed: {lines[-1]} ({command})")
        return out

    def close(self) -> None:
        """Ends it, if it still runs."""
        if self._timer:
            self._timer.cancel()
        self._process.kill()
        self._process.wait()


class LateError(UserError):
    """A process did not end in its time."""


def peers(
    algorithm: str, updates: int, torch_python: str | None, projects: Sequence[str]
) -> dict[str, list[str]]:
    """Name → command, without the number of threads, of every peer of an algorithm.

    Args:
      algorithm: a method.
      updates: that each process takes.
      torch_python: interpreter that has torch, if there is one.
      projects: public projects' checkouts, NAME:FOLDER; they are timed at TD3+BC.

    Raises:
      UserError: a checkout that is no folder.
    """
    found: dict[str, list[str]] = {}
    if torch_python and algorithm in IN_PYTORCH:
        script = str(PEERS / "value_based.py")
        found["PyTorch"] = [torch_python, script, algorithm, str(updates)]
    for entry in projects if algorithm == "td3_bc" else []:
        name, colon, path = entry.partition(":")
        if not colon or not Path(path).is_dir():
            raise UserError(f"--projects={entry}: use NAME:FOLDER, a local checkout.")
        python = (torch_python if name == "corl" else None) or sys.executable
        script = str(PEERS / "projects.py")
        found[name] = [python, script, name, path, str(updates)]
    return found


def rates(
    command: list[str], updates: int, sharing: int, seconds: float | None = None
) -> dict[str, float]:
    """Updates per second of a peer, arranged in the two ways that people run it.

    Args:
      command: of the peer, for so many updates, without the number of threads.
      updates: of each process.
      sharing: processes on one accelerator, where the peer finds one.
      seconds: that each arrangement may take; None: any.

    Returns:
      "one process" with all threads; then "process per core", each on its own, or on
      an accelerator "N processes", which share it. Several begin when all are ready,
      and their rates are added.

    Raises:
      UserError: the peer failed.
    """
    cores = available_cores()

    def peer(threads: int, core: int | None = None) -> Process:
        variables = {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "XLA_FLAGS": "",
            # Several share an accelerator with each other and with us.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        return Process([*command, str(threads)], variables, core, seconds)

    ((device, spent),) = _together([peer(len(cores))])
    if device == "cpu":
        many, name = [peer(1, core) for core in cores], "process per core"
    else:
        threads = max(1, len(cores) // sharing)
        many = [peer(threads) for _ in range(sharing)]
        name = f"{sharing} processes"
    each = [updates / spent for _, spent in _together(many)]
    return {"one process": updates / spent, name: sum(each)}


def _together(peers: list[Process]) -> list[tuple[str, float]]:
    """Device and seconds of each of several that work at the same time."""
    try:
        for peer in peers:
            peer.ready()
        for peer in peers:
            peer.begin()
        printed = [peer.output().split() for peer in peers]
        return [(words[-2], float(words[-1])) for words in printed]
    finally:
        for peer in peers:
            peer.close()
