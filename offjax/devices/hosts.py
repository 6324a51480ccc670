"""Several hosts: who writes, and how all of them come to the same decision.

Every host runs the same command and trains its own share of the slots. What is gathered
every host has whole, and the first one writes it. Without `initialize` there is one
host, and nothing here touches JAX.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from offjax.errors import UserError

_STATE = {"index": 0, "count": 1}
HEARTBEAT_SECONDS = 60
"""After that long without a sign of life of one host the others give up."""


def initialize(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins the other hosts; call before JAX starts.

    Without arguments the cluster says where they are (SLURM, GKE, TPU pods).

    Raises:
      UserError: there is no such cluster, or the coordinator does not answer.
    """
    given = (coordinator, num_processes, process_id)
    if any(v is None for v in given) and any(v is not None for v in given):
        raise UserError(
            "--coordinator, --num_processes and --process_id go together; under SLURM, "
            "GKE and on TPU pods leave all three out."
        )
    if num_processes is not None and not 0 <= (process_id or 0) < num_processes:
        raise UserError(
            f"--process_id={process_id} is not one of 0 … {num_processes - 1}."
        )
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--distributed: {str(error)[:300]}. Under SLURM, GKE and on TPU pods the "
            "hosts find each other; elsewhere give --coordinator=HOST:PORT, "
            "--num_processes and --process_id, the first host being the coordinator."
        ) from error
    _STATE.update(index=jax.process_index(), count=jax.process_count())
    devices = gather(np.int32(jax.local_device_count()))
    if len(set(devices.tolist())) > 1:
        raise UserError(
            f"the hosts have {devices.tolist()} devices; --distributed needs the same "
            "number on each (--host_devices sets it on CPUs)."
        )


def index() -> int:
    """Number of this host."""
    return _STATE["index"]


def count() -> int:
    """Number of hosts."""
    return _STATE["count"]


def is_writer() -> bool:
    """Whether this host writes files and speaks; the first one does."""
    return index() == 0


def gather(x: Any) -> np.ndarray:
    """An array of this host → those of all hosts, [hosts, …]."""
    if count() == 1:
        return np.asarray(x)[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(np.asarray(x)))


def barrier(name: str) -> None:
    """Returns when every host is here."""
    if count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def agree(decide: Callable[[], Any]) -> Any:
    """`decide()` on the first host, its answer (JSON) on all.

    Raises:
      UserError: on every host, where it was raised on the first.
    """
    if count() == 1:
        return decide()
    answer: dict[str, Any] = {}
    if is_writer():
        try:
            answer = {"value": decide()}
        except UserError as error:
            answer = {"error": str(error)}
    answer = _broadcast(answer)
    if "error" in answer:
        raise UserError(answer["error"])
    return answer["value"]


def require_same(what: dict[str, Any]) -> None:
    """Raises `UserError` on all hosts where `what` differs between them."""
    if count() == 1:
        return
    first = _broadcast(what)
    same = json.dumps(first, sort_keys=True) == json.dumps(what, sort_keys=True)
    differs = [str(i) for i, ok in enumerate(gather(np.bool_(same))) if not ok]
    if differs:
        mine = [k for k in what if what[k] != first.get(k)]
        detail = "".join(f" {k}: {first.get(k)} there, {what[k]} here." for k in mine)
        raise UserError(
            f"host {', '.join(differs)} runs other code, versions or flags than host "
            f"0.{detail} Install the same on all hosts and give the same command."
        )


def _broadcast(value: Any) -> Any:
    from jax.experimental import multihost_utils

    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
    buffer = np.zeros(size, np.uint8)
    if is_writer():
        buffer[:] = data
    buffer = multihost_utils.broadcast_one_to_all(buffer)
    return json.loads(np.asarray(buffer).astype(np.uint8).tobytes())
