"""SIGTERM (preemption) and SIGINT (Ctrl-C): save and exit at the next chunk.

A second one exits at once. The exit code is the shell's: 128 and the signal's number.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import numpy as np

from offjax.devices import hosts

SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_CODES = tuple(128 + number for number in SIGNALS)
_REQUESTED = threading.Event()
_exit_code = EXIT_CODES[0]


class Interrupted(SystemExit):
    """A run that saved its state because it was asked to stop."""

    def __init__(self) -> None:
        super().__init__(_exit_code)


def listen(*signals: signal.Signals) -> None:
    """Handles the signals, all of `SIGNALS` if none are named; for commands alone."""
    for number in signals or SIGNALS:
        signal.signal(number, _handle)


def requested() -> bool:
    """Whether this host, or any other, was asked to stop."""
    return bool(np.any(hosts.gather(np.bool_(_REQUESTED.is_set()))))


def request() -> None:
    """Asks this process to save and exit, as SIGTERM does."""
    _REQUESTED.set()


def _handle(number: int, frame: FrameType | None) -> None:
    global _exit_code
    del frame
    _exit_code = 128 + number
    if _REQUESTED.is_set():
        os._exit(_exit_code)
    _REQUESTED.set()
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    newline = "\n" if os.isatty(2) else ""  # after the ^C that the terminal shows
    message = f"{newline}{name}: saving, then exiting; again to exit at once\n"
    os.write(2, message.encode())
