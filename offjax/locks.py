"""Locks between processes on files; the kernel frees those of a killed holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from offjax.errors import UserError

RUNNING = ".running"
"""In a run's folder: held by the process that works on the run."""
READER_SECONDS = 5.0
"""How long `held` waits by default: `status` holds a lock for an instant."""
POLL_SECONDS = 0.2


@contextlib.contextmanager
def held(
    path: Path,
    wait_seconds: float = READER_SECONDS,
    waiting: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Holds the lock file `path` for the length of the block.

    Args:
      path: the lock file; it stays behind.
      wait_seconds: how long to wait for another holder.
      waiting: called once with who holds it, if anyone does.

    Raises:
      UserError: somebody else still holds it, naming them, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    except OSError as error:
        raise UserError(
            f"cannot write to {path.parent}: {error.strerror}. Make it writable, or "
            "choose another place with --runs_dir."
        ) from error
    with file:
        deadline = time.monotonic() + wait_seconds
        while not _held_or_refused(file.fileno(), path.parent):
            file.seek(0)
            holder = file.read().strip() or "another process"
            if waiting:
                waiting(holder)
                waiting = None
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


def status(folder: Path, recorded: str) -> str:
    """The status of a run: what its run.json has, unless its process is gone.

    Returns:
      `recorded`. Where that is "running", it becomes "killed" if no process holds
      `RUNNING`, and "unknown" if that cannot be told: another host's lock is not seen
      on every shared file system.
    """
    if recorded != "running":
        return recorded
    try:
        with (folder / RUNNING).open() as file:
            if not _try_lock(file.fileno(), fcntl.LOCK_SH):
                return "running"
            here = file.read().strip().endswith(f" on {socket.gethostname()}")
            return "killed" if here else "unknown"
    except OSError:
        return "unknown"


@contextlib.contextmanager
def exclusive(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the lock file `path`, whose folder exists, and removes it afterwards.

    `waiting` is called once where another process holds it. The operating system
    frees the lock of a process that dies. Where the file system knows no locks,
    nothing is locked, and only work is lost. OSError if the file cannot be made.
    """
    descriptor = _acquire(path, waiting)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
                waiting = None
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            return descriptor
        # The holder before may have removed the file while this process waited.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)


def _held_or_refused(descriptor: int, folder: Path) -> bool:
    """`_try_lock`; where there are no locks, two processes could take one run."""
    try:
        return _try_lock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise UserError(
            f"the file system of {folder} knows no locks ({error.strerror}), which "
            "keep two processes from one run. Choose another --runs_dir."
        ) from error


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
