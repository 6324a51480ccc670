"""How a peer takes its time: when it is told to, so that several work at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def report(work: Callable[[], object], device: str) -> None:
    """Says "ready", waits for a line, and prints the device and the seconds of `work`.

    Nobody is waited for at a terminal, or where nothing can be read.
    """
    print("ready", flush=True)
    if not sys.stdin.isatty():
        sys.stdin.readline()
    begin = time.perf_counter()
    work()
    print(device, time.perf_counter() - begin, flush=True)
