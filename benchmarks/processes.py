"""Peers in processes of their own, which are timed together.

A peer is a script of benchmarks/peers: it prepares, says that it is ready, waits for a
line, works, and prints its device and the seconds that the work took.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile

from offjax.errors import UserError


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


class Peer:
    """A peer that has been started, and waits until it is told to begin."""

    def __init__(self, command: list[str], threads: int, core: int | None) -> None:
        """Starts it.

        Args:
          command: without the number of threads, which is its last argument.
          threads: of its own.
          core: the only one that it may use; None: any.
        """
        pinned = ["taskset", "-c", str(core)] if core is not None else []
        variables = {
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "XLA_FLAGS": "",
            # Several share an accelerator with each other and with us.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self._command = command
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [*pinned, *command, str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env=os.environ | variables,
            )
        except OSError as error:
            raise UserError(f"a peer cannot be started: {error}") from error

    def ready(self) -> None:
        """Waits until it has prepared, or has failed."""
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()) and line.strip() != "ready":
            pass

    def begin(self) -> None:
        """Has it work."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # `result` tells why it is gone
            self._process.stdin.write("begin\n")
            self._process.stdin.flush()

    def result(self) -> tuple[str, float]:
        """Its device and the seconds of its work.

        Raises:
          UserError: it failed.
        """
        out, _ = self._process.communicate()
        printed = out.split()
        if self._process.returncode or len(printed) < 2:
            self._errors.seek(0)
            lines = self._errors.read().strip().splitlines() or ["no message"]
            command = " ".join(self._command)
            raise UserError(f"a peer failed: {lines[-1]} ({command})")
        return printed[-2], float(printed[-1])

    def close(self) -> None:
        """Ends it, if it still runs."""
        self._process.kill()
        self._process.wait()


def rates(command: list[str], updates: int, sharing: int) -> dict[str, float]:
    """Updates per second of a peer, arranged in the two ways that people run it.

    Args:
      command: of the peer, for so many updates, without the number of threads.
      updates: of each process.
      sharing: processes on one accelerator, where the peer finds one.

    Returns:
      "one process" with all threads; then "process per core", each on its own, or on
      an accelerator "N processes", which share it. Several begin when all are ready,
      and their rates are added.

    Raises:
      UserError: the peer failed.
    """
    cores = available_cores()
    ((device, seconds),) = _together([Peer(command, len(cores), None)])
    if device == "cpu":
        many, name = [Peer(command, 1, core) for core in cores], "process per core"
    else:
        threads = max(1, len(cores) // sharing)
        many = [Peer(command, threads, None) for _ in range(sharing)]
        name = f"{sharing} processes"
    each = [updates / spent for _, spent in _together(many)]
    return {"one process": updates / seconds, name: sum(each)}


def _together(peers: list[Peer]) -> list[tuple[str, float]]:
    """Device and seconds of each of several that work at the same time."""
    try:
        for peer in peers:
            peer.ready()
        for peer in peers:
            peer.begin()
        return [peer.result() for peer in peers]
    finally:
        for peer in peers:
            peer.close()
