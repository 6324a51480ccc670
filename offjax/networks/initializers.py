"""Initial weights that papers ask for and flax does not name."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.types import Array, Key


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform on [−bound, bound]."""

    def init(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def torch_uniform() -> nn.initializers.Initializer:
    """PyTorch's weights of a linear layer: uniform on ±1/√fan_in."""
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
