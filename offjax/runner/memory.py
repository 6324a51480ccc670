"""Whether a run fits the memory that there is, before anything is allocated.

A stage needs, for each of its slots, several copies of the slot's state: the one that
is trained, the one that a diverged slot goes back to, and those that checkpoints, the
store and evaluations take on the host; and the data once on each device. What one
update needs besides is not counted.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offjax.datasets import streams
from offjax.datasets.stored import StoredDataset
from offjax.devices import hosts
from offjax.devices.layout import Layout
from offjax.errors import UserError
from offjax.runner.stages import StageRun
from offjax.types import Pytree

DEVICE_COPIES = {"map": 2, "vmap": 4}
"""Copies of the states on the devices; vmapped slots keep the old ones as well."""
HOST_COPIES = 5
"""Copies on the host. On CPUs the peak of a run with 60 seeds was 6.8 in all."""
JOINED_COPIES = 2
"""Copies on the host of the states of all seeds, where they are trained in waves."""


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that a stage needs.

    Attributes:
      stage: its name.
      slot: bytes of one slot's state, and of what it reads of other stages.
      data: bytes of the data that all slots share.
      streamable: whether the data could stay where they are, with `--stream`.
    """

    stage: str
    slot: int
    data: int
    streamable: bool = False


def need_of(
    run: StageRun, data: Pytree, states: Pytree, upstream: Pytree, buffers: int = 0
) -> Need:
    """What a stage needs, by its arrays with leading axis [slots].

    `buffers` are the bytes of the batches of streamed training.
    """
    each = (states, upstream, data if run.stage.view.per_seed else ())
    shared = 0 if run.stage.view.per_seed else size(data)
    slot = size(each) // run.slots.num_slots
    streamable = not buffers and streams.possible(run.stage.view)
    return Need(run.stage.name, slot, shared + buffers, streamable)


def require_rows(run: StageRun, dataset: StoredDataset, num_seeds: int) -> None:
    """Refuses a stored dataset that does not fit, before it is read into memory.

    Raises:
      UserError: it does not fit.
    """
    streamable = streams.possible(run.stage.view)
    need = Need(run.stage.name, 0, dataset.rows.nbytes, streamable)
    require(need, run.layout, num_seeds)


def size(tree: Pytree) -> int:
    """Bytes of arrays, or of their shapes."""
    return sum(
        int(np.prod(x.shape, dtype=np.int64)) * np.dtype(x.dtype).itemsize
        for x in jax.tree.leaves(tree)
    )


def host_bytes() -> int:
    """Bytes of the host's memory that are free: of its control group, if it has one."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    limit = _read("/sys/fs/cgroup/memory.max").strip()
    if limit.isdecimal():
        used = int(_read("/sys/fs/cgroup/memory.current").strip() or 0)
        for line in _read("/sys/fs/cgroup/memory.stat").splitlines():
            name, _, count = line.partition(" ")
            if name in ("inactive_file", "active_file"):  # given back when needed
                used -= int(count)
        free = min(free, int(limit) - used)
    return free


def device_bytes(device: Any) -> int | None:
    """Bytes of a device's own memory that are free; None where it uses the host's."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if not stats or "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


@dataclasses.dataclass(frozen=True)
class _Place:
    """A memory: how much is free there, and how many copies of the states it holds."""

    name: str
    free: int
    copies: float  # of the states of seeds that are trained together
    data: int  # bytes
    joined: float  # copies of the states of all seeds of a run in waves

    def fitting(self, seed: int, num_seeds: int = 0) -> int:
        """How many seeds of that many bytes fit; in waves where a number is given."""
        left = self.free - self.data - self.joined * num_seeds * seed
        return max(0, int(left / (self.copies * max(seed, 1))))


def _places(need: Need, layout: Layout) -> list[_Place]:
    """The memory of a device, if it has its own, and that of the host."""
    device = DEVICE_COPIES[layout.kind]
    own = device_bytes(layout.devices[0])
    if own is not None:
        each = _Place("each device", own, device / layout.active, need.data, 0)
        host = _Place("this host", host_bytes(), HOST_COPIES, need.data, JOINED_COPIES)
        return [each, host]
    copies = HOST_COPIES + device / hosts.count()
    data = need.data * len(layout.devices)
    return [_Place("this host", host_bytes(), copies, data, JOINED_COPIES)]


def require(
    need: Need, layout: Layout, num_seeds: int, all_seeds: int | None = None
) -> None:
    """Refuses a stage that does not fit, before it is begun.

    Args:
      need: what it needs.
      layout: where its slots run.
      num_seeds: that are trained together.
      all_seeds: of a run in waves.

    Raises:
      UserError: it does not fit; the message says how many seeds do.
    """
    settings = max(1, layout.num_slots // num_seeds)
    seed = need.slot * settings
    every = all_seeds or num_seeds
    waves = every if every > num_seeds else 0
    places = _places(need, layout)
    for place in places:
        if place.fitting(seed, waves) >= num_seeds:
            continue
        several = f" × {settings} settings" if settings > 1 else ""
        size = place.copies * seed
        joined = place.joined * waves * seed
        whole = f", {_text(joined)} for the states of all {waves:,}" if joined else ""
        raise UserError(
            f"num_seeds={every}{several} does not fit: stage {need.stage} needs about "
            f"{_text(place.data + size * num_seeds + joined)} on {place.name} for "
            f"{num_seeds:,} at once ({_text(size)} for each seed, {_text(place.data)} "
            f"of data{whole}), and {_text(place.free)} are free. "
            f"{_remedy(need, places, seed, every)}"
        )


def _remedy(need: Need, places: list[_Place], seed: int, num_seeds: int) -> str:
    """What to do about seeds of that many bytes that do not fit."""
    at_once = min(place.fitting(seed, num_seeds) for place in places)
    if at_once:
        return f"Use --seeds_at_once={at_once} to train so many at a time, in waves."
    fits = min(place.fitting(seed) for place in places)
    if fits:
        return f"{fits:,} seeds fit: use --num_seeds={fits}, and --seed for the others."
    alone = min(dataclasses.replace(place, data=0).fitting(seed) for place in places)
    if need.streamable and alone:
        return (
            "Not one seed fits beside the data: add --stream, which leaves the data "
            "on the host, or on disk where the dataset was stored by `offjax store`."
        )
    return "Not one seed fits: use smaller networks, or a part of the data."


def _text(count: float) -> str:
    """Bytes for a reader."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
