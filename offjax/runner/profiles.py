"""Traces of what a device does in a chunk of updates."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from offjax.errors import UserError
from offjax.runner.chunks import Chunk

Begin = Callable[..., Chunk]


def profiled(begin: Begin, num_steps: int, folder: str) -> Begin:
    """`begin`, with a trace of the second chunk: the first one compiles.

    Args:
      begin: `(step, end, …)` → the chunk that updates from `step` to `end`.
      num_steps: of the stage; where the first chunk is all there is, it is traced.
      folder: where the trace goes; empty: no trace, and `begin` as it is.

    Raises:
      UserError: a folder that cannot be written.
    """
    if not folder:
        return begin
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--profile={folder} cannot be written ({error}): name another folder."
        ) from error
    chunks = itertools.count(1)

    def traced(step: int, end: int, *more: Any) -> Chunk:
        number = next(chunks)
        if number != 2 and not (number == 1 and end == num_steps):
            return begin(step, end, *more)
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            chunk = begin(step, end, *more)
            chunk.wait()
        traces = sorted(Path(folder).rglob("perfetto_trace.json.gz"))
        print(f"profile of {chunk.updates:,} updates: {traces[-1]} (ui.perfetto.dev)")
        return chunk

    return traced
