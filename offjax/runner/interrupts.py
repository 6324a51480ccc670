"""SIGTERM (preemption): save and exit at the next chunk; a second one, at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import numpy as np

from offjax.devices import hosts

EXIT_CODE = 143
_REQUESTED = threading.Event()


class Interrupted(SystemExit):
    """A run that saved its state because it was asked to stop."""

    def __init__(self) -> None:
        super().__init__(EXIT_CODE)


def listen() -> None:
    """Handles SIGTERM from here on; for commands, not for live Python processes."""
    signal.signal(signal.SIGTERM, _handle)


def requested() -> bool:
    """Whether this host, or any other, was asked to stop."""
    return bool(np.any(hosts.gather(np.bool_(_REQUESTED.is_set()))))


def _handle(number: int, frame: FrameType | None) -> None:
    del number, frame
    if _REQUESTED.is_set():
        os._exit(EXIT_CODE)
    _REQUESTED.set()
    message = "SIGTERM: saving, then exiting; send it again to exit at once\n"
    os.write(2, message.encode())
