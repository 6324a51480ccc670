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


def require(need: Need, layout: Layout, num_seeds: int) -> None:
    """Refuses a stage that does not fit, before it is begun.

    Args:
      need: what it needs.
      layout: where its slots run.
      num_seeds: of the run, for the advice.

    Raises:
      UserError: it does not fit; the message says how many seeds do.
    """
    settings = max(1, layout.num_slots // num_seeds)
    own = device_bytes(layout.devices[0])
    copies: float = HOST_COPIES  # of all slots, on each host
    data = need.data
    if own is not None:
        each = DEVICE_COPIES[layout.kind] / layout.active
        _check(need, own, "each device", each, data, num_seeds, settings)
    else:
        copies += DEVICE_COPIES[layout.kind] / hosts.count()
        data *= len(layout.devices)
    _check(need, host_bytes(), "this host", copies, data, num_seeds, settings)


def _check(
    need: Need,
    free: int,
    where: str,
    copies: float,
    data: int,
    num_seeds: int,
    settings: int,
) -> None:
    """Raises `UserError` where `copies` of `num_seeds` × settings slots do not fit."""
    seed = copies * need.slot * settings
    wanted = data + seed * num_seeds
    if wanted <= free:
        return
    fits = max(0, int((free - data) / max(seed, 1)))
    several = f" × {settings} settings" if settings > 1 else ""
    remedy = "Not one seed fits: use smaller networks, or a part of the data."
    if fits:
        remedy = f"{fits:,} seeds fit: use --num_seeds={fits}, and --seed for the rest."
    elif need.streamable and seed <= free:
        remedy = (
            "Not one seed fits beside the data: add --stream, which leaves the data "
            "on the host, or on disk where the dataset was stored by `offjax store`."
        )
    raise UserError(
        f"num_seeds={num_seeds}{several} does not fit: stage {need.stage} needs about "
        f"{_text(wanted)} on {where} ({_text(seed)} for each seed, "
        f"{_text(data)} of data), and {_text(free)} are free. {remedy}"
    )


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
