"""Initial weights that papers ask for and flax does not name."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from offjax.types import Array, Key, Pytree

INITIALIZATIONS = ("lecun", "torch")
"""What linear layers begin with: normal weights of deviation 1/√fan_in and zero biases
(flax), or both uniform on ±1/√fan_in (PyTorch, and so CORL)."""


def symmetric_uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform on [−bound, bound]."""

    def init(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def torch_uniform() -> nn.initializers.Initializer:
    """PyTorch's weights of a linear layer: uniform on ±1/√fan_in."""
    return nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def initialized(params: Pytree, initialization: str, key: Key) -> Pytree:
    """Fresh parameters of flax, as one of `INITIALIZATIONS` has their linear layers.

    What is no weight or bias of a linear layer stays. An ensemble's leading axes are
    members, each of its own draw.
    """
    if initialization == "lecun":
        return params
    layers = flatten_dict(params)
    for number, path in enumerate(sorted(layers)):
        weights = layers.get((*path[:-1], "kernel"))
        if weights is None or path[-1] not in ("kernel", "bias"):
            continue
        draw = symmetric_uniform(weights.shape[-2] ** -0.5)
        layers[path] = draw(jax.random.fold_in(key, number), layers[path].shape)
    return unflatten_dict(layers)
