"""Host devices and the layout of slots over devices.

A slot is one seed with one setting of the traced hyperparameters: the outermost axis
of every state. `lift` turns a function of one slot into a program over all of them:
`jax.pmap` over devices, and inside a device the slots are vmapped (GPU, TPU) or
mapped one after another (CPU, one device per core).
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from offjax.errors import UserError
from offjax.types import Pytree

LAYOUTS = ("auto", "map", "vmap")


def prepare_host_devices(num_devices: int | None = None) -> None:
    """Makes one CPU device per core (or `num_devices`); call before JAX starts.

    Matrix products then stay on their device's own thread: seeds in parallel beat
    one product in parallel. No effect on accelerators, or where the user has set the
    number of host devices in XLA_FLAGS.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" in flags:
        return
    count = num_devices or len(os.sched_getaffinity(0))
    if "xla_cpu_multi_thread_eigen" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    jax.config.update("jax_num_cpu_devices", count)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Which slots run where.

    Attributes:
      kind: "map" or "vmap", inside a device.
      devices: the devices that are used.
      num_slots: number of slots, padding excluded.
    """

    kind: str
    devices: tuple[Any, ...]
    num_slots: int

    @property
    def per_device(self) -> int:
        """Slots on each device, padding included."""
        return -(-self.num_slots // len(self.devices))

    @property
    def sharding(self) -> NamedSharding:
        """The leading axis over the devices."""
        return NamedSharding(
            Mesh(np.array(self.devices), ("device",)), PartitionSpec("device")
        )

    def shard(self, tree: Pytree) -> Pytree:
        """[slots, …] on the host → [devices, per_device, …] on the devices.

        Padding repeats the last slot.
        """
        pad = len(self.devices) * self.per_device - self.num_slots

        def place(x: Any) -> jax.Array:
            x = np.asarray(x)
            x = np.concatenate([x, np.repeat(x[-1:], pad, axis=0)]) if pad else x
            x = x.reshape(len(self.devices), self.per_device, *x.shape[1:])
            return jax.device_put(x, self.sharding)

        return jax.tree.map(place, tree)

    def gather(self, tree: Pytree) -> Pytree:
        """[devices, per_device, …] → NumPy [slots, …], padding dropped."""

        def fetch(x: jax.Array) -> np.ndarray:
            host = np.asarray(x)
            return host.reshape(-1, *host.shape[2:])[: self.num_slots]

        return jax.tree.map(fetch, tree)

    def replicate(self, tree: Pytree) -> Pytree:
        """One copy on each device: [devices, …]."""

        def place(x: Any) -> jax.Array:
            x = np.asarray(x)
            return jax.device_put(
                np.broadcast_to(x, (len(self.devices), *x.shape)), self.sharding
            )

        return jax.tree.map(place, tree)

    def counts(self) -> jax.Array:
        """Slots of each device that are no padding, [devices]."""
        first = np.arange(len(self.devices)) * self.per_device
        counts = np.clip(self.num_slots - first, 0, self.per_device)
        return jax.device_put(counts.astype(np.int32), self.sharding)


def choose_layout(
    num_slots: int, kind: str = "auto", devices: Sequence[Any] | None = None
) -> Layout:
    """A layout by rule: vmap on accelerators, map on CPUs (measured faster there).

    Raises:
      UserError: an unknown kind, or no slots.
    """
    if kind not in LAYOUTS:
        raise UserError(f"seed layout {kind!r} is not one of {', '.join(LAYOUTS)}.")
    if num_slots < 1:
        raise UserError(f"{num_slots} seeds were asked for; at least 1 is needed.")
    devices = tuple(devices or jax.local_devices())[:num_slots]
    if kind == "auto":
        kind = "map" if devices[0].platform == "cpu" else "vmap"
    return Layout(kind, devices, num_slots)


def lift(fn: Callable[..., Pytree], layout: Layout) -> Any:
    """`fn(slot, shared)` of one slot as one program over all slots.

    Returns:
      A pmapped `(counts, slots, shared) → results`: `slots` and the results have
      leading axes [devices, per_device], `shared` and `counts` [devices].

    Under "map" the loop's length is an argument of the program, so that the compiler
    can neither unroll it nor fuse it with what is around: a slot's arithmetic is the
    same, bit for bit, whatever the number of slots and devices.
    """

    def on_device(count: jax.Array, slots: Pytree, shared: Pytree) -> Pytree:
        if layout.kind == "vmap":
            return jax.vmap(lambda slot: fn(slot, shared))(slots)

        def take(i: Any) -> Pytree:
            return jax.tree.map(
                lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False), slots
            )

        def body(i: Any, results: Pytree) -> Pytree:
            return jax.tree.map(
                lambda all_, one: all_.at[i].set(one), results, fn(take(i), shared)
            )

        shapes = jax.eval_shape(lambda: fn(take(0), shared))
        results = jax.tree.map(
            lambda s: jnp.zeros((layout.per_device, *s.shape), s.dtype), shapes
        )
        return jax.lax.fori_loop(0, count, body, results)

    return jax.pmap(on_device, axis_name="device", devices=list(layout.devices))
