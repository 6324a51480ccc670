"""Batches of streamed training, looked up behind the chunk that runs.

The row numbers of a batch are those that training in memory draws: `View.draw` of the
slot's key and its step, and of nothing else. A thread computes them for the next chunk,
looks the rows up, and puts them on the devices, while the present chunk trains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from offjax.datasets.streams import Stream
from offjax.devices.layout import Layout
from offjax.runner import programs
from offjax.types import Key, Pytree, Stage

CHUNK_BYTES = 32 * 10**6
"""Batches of one chunk, at most: of all slots on this host, and at least one update."""
ALIGNMENT = 64
"""Of XLA's arrays on CPUs, in bytes."""
CHUNKS = 3
"""Chunks whose batches exist at once: on the devices, prefetched, and on the host."""


class _Part(NamedTuple):
    """Batches of the updates `step` … `end` − 1, perhaps still to come."""

    step: int
    end: int
    batches: Future[jax.Array]


class Feed:
    """The batches of a stage's chunks, one chunk ahead."""

    def __init__(
        self, stage: Stage, stream: Stream, layout: Layout, state: Pytree, stride: int
    ) -> None:
        """Of slots with the states `state` [devices, per_device, …].

        `stride` is `programs.stride` of the stage.
        """
        self._stage, self._stream, self._layout = stage, stream, layout
        self._stride = stride
        self._keys = layout.gather(state.key)
        self.updates = capacity(stage, stream, layout)
        """Of a chunk, at most."""
        self.waited = 0.0
        """Seconds that the newest chunk had to wait for its batches."""
        self._next: _Part | None = None
        self._worker = ThreadPoolExecutor(1, "offjax-feed")
        with jax.default_device(_spare_device()):
            draw = jax.jit(self._numbers).lower(self._keys, self._steps(0))
            self._draw = draw.compile()

    def serve(self, step: int, end_of: Callable[[int], int]) -> tuple[int, jax.Array]:
        """The end of the chunk from `step`, and its batches [devices, per_device, …].

        `end_of` says where the chunk from a step ends. The following one is begun.
        """
        part = self._next
        if part is None or part.step != step:
            part = self._begin(step, end_of(step))
        begin = time.perf_counter()
        batches = part.batches.result()
        self.waited = time.perf_counter() - begin
        last = part.end == self._stage.num_steps
        self._next = None if last else self._begin(part.end, end_of(part.end))
        return part.end, batches

    def close(self) -> None:
        """Gives up what was begun."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _begin(self, step: int, end: int) -> _Part:
        return _Part(step, end, self._worker.submit(self._fetch, step, end))

    def _fetch(self, step: int, end: int) -> jax.Array:
        """The batches of some updates, on the devices."""
        with jax.default_device(_spare_device()):
            numbers = np.asarray(self._draw(self._keys, self._steps(step)))
        return jax.block_until_ready(
            self._layout.assemble(lambda slots: self._rows(numbers[slots], end - step))
        )

    def _steps(self, step: int) -> np.ndarray:
        """The states' steps at a chunk's updates from `step` on, [capacity]."""
        updates = np.arange(step, step + self.updates, dtype=np.int32)
        return updates * np.int32(self._stride)

    def _rows(self, numbers: np.ndarray, updates: int) -> np.ndarray:
        """Rows [slots, capacity, B, width]; those beyond `updates` are not set."""
        shape = (*numbers.shape, self._stream.width)
        out = _aligned(shape)
        for index, rows in zip(numbers[:, :updates], out[:, :updates], strict=True):
            self._stream.gather(index.reshape(-1), rows.reshape(-1, shape[-1]))
        return out

    def _numbers(self, keys: jax.Array, steps: jax.Array) -> jax.Array:
        """Row numbers [slots, updates, B] at the states' steps."""
        draw = _draw(self._stage, self._stream)
        return jax.vmap(lambda key: jax.vmap(lambda step: draw(key, step))(steps))(keys)


def capacity(stage: Stage, stream: Stream, layout: Layout) -> int:
    """Updates whose batches fit `CHUNK_BYTES`."""
    each = layout.local_slots * _batch_bytes(stage, stream)
    return max(1, min(CHUNK_BYTES // each, stage.num_steps))


def buffers(stage: Stage, stream: Stream, layout: Layout) -> int:
    """Bytes of all batches that exist at once, on one device or on the host."""
    updates = capacity(stage, stream, layout)
    return CHUNKS * updates * layout.local_slots * _batch_bytes(stage, stream)


def reader(stream: Stream) -> programs.Reader:
    """What a chunk's program reads: update `i` of the slot's `batches`."""
    return lambda i, state, data, slot: stream.unpack(slot["batches"][i])


def _draw(stage: Stage, stream: Stream) -> Callable[[Key, Any], jax.Array]:
    """`(key, step) → numbers [B]` of the batch at a state's step."""

    def draw(key: Key, step: Any) -> jax.Array:
        key = programs.sampler_key(key, step)
        return stream.draw(key, stage.config)

    return draw


def _batch_bytes(stage: Stage, stream: Stream) -> int:
    key = jax.eval_shape(lambda: jax.random.PRNGKey(0))
    numbers = jax.eval_shape(_draw(stage, stream), key, 0)
    return numbers.size * stream.width * np.dtype(np.float32).itemsize


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Memory for float32 that CPU devices take over without a copy."""
    spare = ALIGNMENT // np.dtype(np.float32).itemsize
    memory = np.empty(math.prod(shape) + spare, np.float32)
    first = -memory.ctypes.data % ALIGNMENT // memory.itemsize
    return memory[first : first + math.prod(shape)].reshape(shape)


def _spare_device() -> Any:
    """Where row numbers are computed: on the host, on its least busy device."""
    try:
        return jax.local_devices(backend="cpu")[-1]
    except RuntimeError:  # JAX_PLATFORMS names accelerators alone
        return jax.local_devices()[-1]
