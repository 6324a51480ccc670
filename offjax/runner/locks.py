"""Locks between processes that share a runs folder; a killed holder frees its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from offjax.errors import UserError
from offjax.runner.records import writing

POLL_SECONDS = 0.2


@contextlib.contextmanager
def held(
    path: Path, wait_seconds: float, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Holds the lock file `path` for the length of the block.

    Args:
      path: the lock file; it stays behind.
      wait_seconds: how long to wait for another holder.
      waiting: called once with who holds it, if anyone does.

    Raises:
      UserError: somebody else still holds it, naming them.
    """
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        deadline, told = time.monotonic() + wait_seconds, False
        while not _try_lock(file.fileno()):
            file.seek(0)
            holder = file.read().strip() or "another process"
            if waiting and not told:
                waiting(holder)
                told = True
            if time.monotonic() >= deadline:
                raise UserError(
                    f"{path.parent} is being written by {holder}. Wait until it is "
                    "done, stop it, or choose another --runs_dir."
                )
            time.sleep(POLL_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
