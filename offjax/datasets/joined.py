"""The data of several datasets in one store, of which every slot reads its own part.

All rows lie one after another, without padding. A slot knows where its own begin and
how many they are, and draws from them as it would if they were alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from offjax.types import Array, Pytree


class Rows:
    """The rows of one dataset in a leaf of the store: its shape, and rows by number.

    It is no array: JAX refuses to compute with all rows. A view whose `sample` has to
    do that says `by_rows = False`.
    """

    def __init__(self, rows: Array, first: Array, count: Array) -> None:
        """Of the `count` rows from `first` on."""
        self._rows, self._first = rows, first
        self.shape = (count, *rows.shape[1:])
        self.dtype = rows.dtype

    def __getitem__(self, index: Array) -> Array:
        """Rows of the dataset, by their numbers in it."""
        return self._rows[self._first + index]


class Joined(NamedTuple):
    """The data of D datasets.

    Attributes:
      rows: leaves [sum of N, …] of those that have rows; the others are absent.
      parts: what `part` needs of each dataset, NumPy with leading axis [D].
    """

    rows: list[Array]
    parts: Pytree


def join(each: Sequence[Pytree]) -> Joined:
    """Puts the data of several datasets together.

    Args:
      each: arrays of one view, all of one structure. Scalars and `statistics` are those
        of a dataset; all else has rows.
    """
    split = [_split(data) for data in each]
    rows = [list(leaves) for leaves in zip(*(rows for rows, _ in split), strict=True)]
    counts = np.array([[len(leaf) for leaf in mine] for mine, _ in split], np.int32)
    return Joined(
        [np.concatenate(leaves) for leaves in rows],
        {
            "first": np.cumsum(counts, axis=0, dtype=np.int32) - counts,
            "count": counts,
            "own": jax.tree.map(lambda *xs: np.stack(xs), *(own for _, own in split)),
        },
    )


def part(like: Pytree, rows: Sequence[Array], mine: Pytree) -> Pytree:
    """The data of one dataset, as its view reads them.

    Args:
      like: the data of any of the datasets; only their structure is read.
      rows: of `Joined`.
      mine: `Joined.parts` of the dataset.
    """
    parts = (
        Rows(leaf, mine["first"][i], mine["count"][i]) for i, leaf in enumerate(rows)
    )
    own = iter(mine["own"])
    leaves, structure = jax.tree.flatten(like)
    found = [
        next(parts) if has else next(own)
        for has, _ in zip(_have_rows(like), leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, found)


def shapes(data: Pytree) -> Pytree:
    """What data must have in common to be joined, comparable."""
    leaves, structure = jax.tree.flatten(data)
    each = [
        (np.shape(leaf)[1:] if has else np.shape(leaf), np.dtype(leaf.dtype))
        for has, leaf in zip(_have_rows(data), leaves, strict=True)
    ]
    return structure, each


def _split(data: Pytree) -> tuple[list[Any], list[Any]]:
    """The leaves with rows, and the others."""
    leaves = jax.tree.leaves(data)
    have = _have_rows(data)
    pairs = list(zip(have, leaves, strict=True))
    return [x for has, x in pairs if has], [x for has, x in pairs if not has]


def _have_rows(data: Pytree) -> list[bool]:
    """Of each leaf, whether its leading axis are rows."""
    paths, _ = jax.tree_util.tree_flatten_with_path(data)
    return [
        np.ndim(leaf) > 0 and getattr(path[0], "name", "") != "statistics"
        for path, leaf in paths
    ]
