"""Whether a run is being worked on: a lock that its process holds in its folder.

A killed process writes no status, but the kernel frees its lock. Other hosts' locks are
not seen on every shared file system, so that nothing is said of theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import time
from collections.abc import Iterator
from pathlib import Path

LOCK = ".running"
PATIENCE = 5.0  # seconds; a reader holds the lock for an instant


@contextlib.contextmanager
def working(folder: Path) -> Iterator[None]:
    """Marks a run as being worked on by this process, for the length of the block.

    Raises:
      OSError: the file cannot be written, or another process works on the run.
    """
    with (folder / LOCK).open("a+") as file:
        deadline = time.monotonic() + PATIENCE
        while not _try_lock(file.fileno(), fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise BlockingIOError(f"another process works on {folder}")
            time.sleep(0.05)
        file.truncate(0)
        file.write(socket.gethostname())
        file.flush()
        yield


def status(folder: Path, recorded: str) -> str:
    """The status of a run: what it recorded, unless its process is gone.

    Args:
      folder: of the run.
      recorded: status of its run.json.

    Returns:
      `recorded`; of a run that recorded "running" it is "killed" where no process works
      on it any more, and "unknown" where that cannot be told from this host.
    """
    if recorded != "running":
        return recorded
    try:
        with (folder / LOCK).open() as file:
            if not _try_lock(file.fileno(), fcntl.LOCK_SH):
                return "running"
            return "killed" if file.read() == socket.gethostname() else "unknown"
    except OSError:
        return "unknown"


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
