"""Initial weights that papers ask for and flax does not name."""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.types import Key


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform on [−bound, bound]."""

    def init(key: Key, shape: Any, dtype: Any = jnp.float32) -> chex.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
