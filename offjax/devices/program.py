"""A function of one slot as a program over all of them, compiled once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from offjax.devices.layout import Layout, lift
from offjax.devices.rounding import PRECISIONS
from offjax.types import Pytree


class Program:
    """A lifted function, compiled at its first call, or before."""

    def __init__(
        self, fn: Callable[..., Pytree], layout: Layout, replaced: Sequence[str] = ()
    ) -> None:
        """See `lift`. A call uses up the arrays of the entries that are `replaced`."""
        # vmapped slots are updated together, and keep their old values till the end.
        self._replaced = tuple(replaced) if layout.kind == "map" else ()
        self._lifted = lift(fn, layout, self._replaced)
        self._counts = layout.counts()
        self._precision = PRECISIONS[layout.precision]
        self._compiled: Any = None
        self.compile_seconds = 0.0
        self.compilations = 0

    def __call__(self, slots: Pytree, shared: Pytree) -> Pytree:
        """Dispatches on sharded `slots` and replicated `shared`."""
        self.compile(slots, shared)
        return self._compiled(*self._arguments(slots, shared))

    def compile(self, slots: Pytree, shared: Pytree) -> None:
        """Compiles it, if it is not yet, for arrays (or shapes) like these."""
        if self._compiled is not None:
            return
        begin = time.perf_counter()
        with jax.default_matmul_precision(self._precision):
            lowered = self._lifted.lower(*self._arguments(slots, shared))
        self._compiled = lowered.compile()
        self.compile_seconds += time.perf_counter() - begin
        self.compilations += 1

    def _arguments(self, slots: Pytree, shared: Pytree) -> tuple[Any, ...]:
        old = [slots[name] for name in self._replaced]
        if self._replaced:
            slots = {k: v for k, v in slots.items() if k not in self._replaced}
        return (self._counts, slots, shared, *old)
