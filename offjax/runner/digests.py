"""Digests of states: whether two trainings came to the same, without keeping either."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import jax
import numpy as np

from offjax.types import Pytree


def of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of arrays in their order, as hexadecimal digits."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.str}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def of_slots(states: Pytree) -> list[str]:
    """The digest of each slot's leaves; `states` are NumPy, [slots, …]."""
    leaves = jax.tree.leaves(states)
    return [of_arrays(x[slot, ...] for x in leaves) for slot in range(len(leaves[0]))]
