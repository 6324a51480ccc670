"""Host devices and the layout of slots over devices.

A slot is one seed with one setting of the traced hyperparameters: the first axis of
every state. `lift` makes a program over all slots of a function of one: `jax.pmap` over
devices; inside a device slots are vmapped (GPU, TPU) or mapped one after another (CPU).
Each host runs the program over its own devices with its share of the slots.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from offjax.devices import hosts
from offjax.devices.compilation import keep_programs
from offjax.devices.rounding import PRECISIONS, rounded
from offjax.errors import UserError
from offjax.types import Pytree

LAYOUTS = ("auto", "map", "vmap")


def prepare_host_devices(num_devices: int | None = None) -> int:
    """Makes CPU devices, one per core or `num_devices`; call before JAX starts.

    Matrix products then stay on their device's own thread. Where one device is asked
    for, here or in XLA_FLAGS, two are made, and `Layout` leaves the second idle: a
    program for one device is compiled in another way, and rounds differently. Compiled
    programs are kept on disk from now on (`keep_programs`).

    Returns:
      The number of devices to use. No effect on accelerators.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    forced = re.search(r"--xla_force_host_platform_device_count=(\d+)", flags)
    if forced:
        num_devices = int(forced.group(1))
        flags = flags.replace(forced.group(0), "")
    count = num_devices or len(os.sched_getaffinity(0))
    if "xla_cpu_multi_thread_eigen" not in flags:
        flags += " --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags.strip()
    jax.config.update("jax_num_cpu_devices", max(2, count))
    keep_programs()
    return count


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which slots run where."""

    kind: str  # "map" or "vmap", inside a device
    devices: tuple[Any, ...]  # this host's devices, those of the program
    lanes: int  # how many of them may have slots; the rest only pad the program
    num_slots: int  # number of slots on all hosts, padding excluded
    precision: str = "default"  # of matrix products, a name of `PRECISIONS`

    @property
    def active(self) -> int:
        """How many devices of all hosts have slots."""
        return min(self.lanes * hosts.count(), self.num_slots)

    @property
    def per_device(self) -> int:
        """Slots on each device, padding included."""
        return -(-self.num_slots // self.active)

    @property
    def local_slots(self) -> int:
        """Slots on this host's devices, padding excluded."""
        return int(self._counts().sum())

    @property
    def sharding(self) -> NamedSharding:
        """The leading axis over the devices."""
        return NamedSharding(
            Mesh(np.array(self.devices), ("device",)), PartitionSpec("device")
        )

    def shard(self, tree: Pytree) -> Pytree:
        """[slots, …] of all hosts → [devices, per_device, …] on this host's devices.

        Padding repeats the last slot.
        """
        slots = self._slots()

        def place(x: Any) -> jax.Array:
            return jax.device_put(np.asarray(x)[slots], self.sharding)

        return jax.tree.map(place, tree)

    def gather(self, tree: Pytree) -> Pytree:
        """[devices, per_device, …] → NumPy [slots, …] of all hosts, padding dropped."""

        def fetch(x: jax.Array) -> np.ndarray:
            host = hosts.gather(np.asarray(x)[: self.lanes])
            slots = math.prod(host.shape[:3])
            return host.reshape(slots, *host.shape[3:])[: self.num_slots]

        return jax.tree.map(fetch, tree)

    def replicate(self, tree: Pytree) -> Pytree:
        """One copy on each device: [devices, …]."""

        def place(x: Any) -> jax.Array:
            x = np.asarray(x)
            return jax.device_put(
                np.broadcast_to(x, (len(self.devices), *x.shape)), self.sharding
            )

        return jax.tree.map(place, tree)

    def assemble(self, make: Callable[[np.ndarray], np.ndarray]) -> jax.Array:
        """[devices, per_device, …] of what is made for the slots of each device.

        `make` takes numbers of slots [per_device] and gives [per_device, …]. Padding
        repeats the last slot, and a device without slots has those of the one before.
        """
        parts: list[jax.Array] = []
        for device, slots, count in zip(
            self.devices, self._slots(), self._counts(), strict=True
        ):
            if count or not parts:
                made = make(slots)[None]
            parts.append(jax.device_put(made, device))
        shape = (len(parts), *parts[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self.sharding, parts)

    def counts(self) -> jax.Array:
        """Slots of each device that are no padding, [devices]."""
        return jax.device_put(self._counts(), self.sharding)

    def _counts(self) -> np.ndarray:
        counts = np.clip(self.num_slots - self._first_slots(), 0, self.per_device)
        return counts.astype(np.int32)

    def _slots(self) -> np.ndarray:
        """Numbers of the slots of each device, [devices, per_device]."""
        slots = self._first_slots()[:, None] + np.arange(self.per_device)
        return np.minimum(slots, self.num_slots - 1)

    def _first_slots(self) -> np.ndarray:
        """Number of the first slot of each of this host's devices, [devices]."""
        device = np.arange(len(self.devices))
        number = hosts.index() * self.lanes + device
        return np.where(device < self.lanes, number * self.per_device, self.num_slots)


def choose_layout(
    num_slots: int,
    kind: str = "auto",
    max_devices: int | None = None,
    precision: str = "default",
) -> Layout:
    """A layout of `num_slots` seeds × settings on at most `max_devices` local devices.

    `kind` "auto" is vmap on accelerators, map on CPUs (measured faster there).

    Raises:
      UserError: an unknown kind or precision, or no slots.
    """
    if kind not in LAYOUTS:
        raise UserError(f"seed layout {kind!r} is not one of {', '.join(LAYOUTS)}.")
    if precision not in PRECISIONS:
        raise UserError(
            f"matmul_precision {precision!r} is not one of {', '.join(PRECISIONS)}."
        )
    if num_slots < 1:
        raise UserError(f"{num_slots} seeds were asked for; at least 1 is needed.")
    devices = tuple(jax.local_devices())
    on_cpu = devices[0].platform == "cpu"
    lanes = min(len(devices), max_devices or len(devices))
    if hosts.count() == 1:
        lanes = min(lanes, num_slots)
    if kind == "auto":
        kind = "map" if on_cpu else "vmap"
    used = devices[: max(2, lanes) if on_cpu else lanes]
    return Layout(kind, used, lanes, num_slots, precision)


def first_slot(tree: Pytree) -> Pytree:
    """Leaves [slots, …] → NumPy […] of the first slot."""
    return jax.tree.map(lambda x: np.asarray(x)[0], tree)


def _without_empty_inputs(tree: Pytree) -> Pytree:
    """Arrays without elements as constants of the program, not as its inputs.

    jax 0.11.2 crashes when it compiles a program for several devices that reads one.
    """
    return jax.tree.map(lambda x: x if x.size else jnp.zeros(x.shape, x.dtype), tree)


def lift(
    fn: Callable[..., Pytree], layout: Layout, replaced: Sequence[str] = ()
) -> Any:
    """`fn(slot, shared)` of one slot as one program over all slots.

    Args:
      fn: of a slot and what all share.
      layout: where the slots run.
      replaced: names of entries of `slots`; the first results of `fn` are their new
        values, of the same shapes. For "map" only.

    Returns:
      A pmapped `(counts, slots, shared, *old) → results`: `slots` and the results have
      leading axes [devices, per_device], `shared` and `counts` [devices]; `old` are
      the entries to be replaced, which `slots` then lacks. New values are written over
      their arrays.

    Under "map" the loop's length is an argument, so that the compiler can neither
    unroll it nor fuse it with what is around: a slot's arithmetic is the same, bit for
    bit, whatever the number of slots and devices.
    """
    if layout.devices[0].platform == "cpu":  # which cannot round by itself
        fn = rounded(fn, layout.precision)

    def on_device(count: jax.Array, slots: Pytree, shared: Pytree, *old: Any) -> Pytree:
        slots, shared, old = _without_empty_inputs((slots, shared, old))
        if layout.kind == "vmap":
            return jax.vmap(lambda slot: fn(slot, shared))(slots)

        def take(i: Any, results: Sequence[Pytree]) -> Pytree:
            slot, values = jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False),
                (slots, tuple(results[: len(replaced)]) if replaced else ()),
            )
            return slot | dict(zip(replaced, values, strict=True)) if replaced else slot

        def body(i: Any, results: Pytree) -> Pytree:
            return jax.tree.map(
                lambda all_, one: all_.at[i].set(one),
                results,
                fn(take(i, results), shared),
            )

        shapes = jax.eval_shape(lambda: fn(take(0, old), shared))
        results = jax.tree.map(
            lambda s: jnp.zeros((layout.per_device, *s.shape), s.dtype), shapes
        )
        if replaced:
            results = (*old, *results[len(replaced) :])
        return jax.lax.fori_loop(0, count, body, results)

    return jax.pmap(
        on_device,
        axis_name="device",
        devices=list(layout.devices),
        donate_argnums=tuple(range(3, 3 + len(replaced))),
    )


class Program:
    """A lifted function, compiled at its first call, or before."""

    def __init__(
        self, fn: Callable[..., Pytree], layout: Layout, replaced: Sequence[str] = ()
    ) -> None:
        """See `lift`. A call uses up the arrays of the entries that are `replaced`."""
        # vmapped slots are updated together, and keep their old values until the end.
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

    def required_bytes(self) -> dict[str, int]:
        """What a call needs on each device, by the compiler's count; once compiled.

        "arrays" are its arguments and results, those that take the place of others
        counted once; "temporary" is what it needs besides while it runs.
        """
        found = self._compiled.memory_analysis()
        arrays = found.argument_size_in_bytes + found.output_size_in_bytes
        arrays -= found.alias_size_in_bytes
        return {"arrays": arrays, "temporary": found.temp_size_in_bytes}

    def _arguments(self, slots: Pytree, shared: Pytree) -> tuple[Any, ...]:
        old = [slots[name] for name in self._replaced]
        if self._replaced:
            slots = {k: v for k, v in slots.items() if k not in self._replaced}
        return (self._counts, slots, shared, *old)
