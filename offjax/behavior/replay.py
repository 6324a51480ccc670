"""A ring buffer of transitions on the host."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from offjax.behavior.sac import Batch


class Replay:
    """The last `capacity` transitions; batches are drawn with replacement."""

    def __init__(self, capacity: int, observation_dim: int, action_dim: int) -> None:
        self._rows = Batch(
            np.zeros((capacity, observation_dim), np.float32),
            np.zeros((capacity, action_dim), np.float32),
            np.zeros(capacity, np.float32),
            np.zeros((capacity, observation_dim), np.float32),
            np.zeros(capacity, np.float32),
        )
        self._capacity = capacity
        self._added = 0

    def __len__(self) -> int:
        return min(self._added, self._capacity)

    def add(self, *columns: np.ndarray) -> None:
        """Appends rows; the columns are `Batch`'s, [n, ...] each."""
        count = len(columns[0])
        places = (self._added + np.arange(count)) % self._capacity
        for kept, new in zip(self._rows, columns, strict=True):
            kept[places] = new
        self._added += count

    def sample(self, rng: np.random.Generator, updates: int, size: int) -> Batch:
        """Batches [updates, size, ...]."""
        places = rng.integers(0, len(self), (updates, size))
        return Batch(*(column[places] for column in self._rows))

    def arrays(self) -> dict[str, np.ndarray]:
        """What `restore` needs."""
        kept = {
            f"replay_{name}": column[: len(self)]
            for name, column in self._rows._asdict().items()
        }
        return {**kept, "replay_added": np.array(self._added)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes up the rows of `arrays()`."""
        self._added = int(arrays["replay_added"])
        for name, column in self._rows._asdict().items():
            rows = arrays[f"replay_{name}"]
            column[: len(rows)] = rows
