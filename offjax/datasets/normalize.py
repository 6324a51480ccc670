"""Affine maps between raw values and those a network sees; pytrees of a run."""

from __future__ import annotations

import chex
import flax.struct

from offjax.types import Statistics


@flax.struct.dataclass
class Normalizer:
    """Standardizes observations: (x − mean) / std."""

    mean: chex.Array  # [O]
    std: chex.Array  # [O], the epsilon of the statistics included

    @classmethod
    def from_statistics(cls, statistics: Statistics) -> Normalizer:
        """The map for the data that `statistics` describe."""
        return cls(statistics.observation_mean, statistics.observation_std)

    def __call__(self, observations: chex.Array) -> chex.Array:
        """Raw observations [..., O] → standardized ones."""
        return (observations - self.mean) / self.std

    def inverse(self, normalized: chex.Array) -> chex.Array:
        """Standardized observations [..., O] → raw ones."""
        return normalized * self.std + self.mean


@flax.struct.dataclass
class ActionBox:
    """Maps the box of actions to [-1, 1]: (action − shift) / scale."""

    low: chex.Array  # [A]
    high: chex.Array  # [A]

    @property
    def shift(self) -> chex.Array:
        """Center of the box, [A]."""
        return (self.high + self.low) / 2

    @property
    def scale(self) -> chex.Array:
        """Half of its width, [A]."""
        return (self.high - self.low) / 2

    def to_unit(self, actions: chex.Array) -> chex.Array:
        """The environment's actions [..., A] → [-1, 1]."""
        return (actions - self.shift) / self.scale

    def from_unit(self, scaled: chex.Array) -> chex.Array:
        """[-1, 1] → the environment's actions."""
        return scaled * self.scale + self.shift
