"""What a robot's policy makes of its observations: two cameras, or a state vector.

The cameras' encoders are those of HULC (Mees et al., 2022,
https://arxiv.org/abs/2204.06252): three convolutions each, then for the static camera
a spatial softmax (Levine et al., 2016, https://arxiv.org/abs/1504.00702), for the
gripper's a flat layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.networks.mlp import MLP
from offjax.types import Array, Camera, Key

LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Channels, size and stride of the convolutions, which are not padded."""

SHIFTS = (10, 4)
"""Pixels by which training moves the images of the static and the gripper camera."""


class Images(NamedTuple):
    """What the two cameras see; red, green and blue."""

    static: Array  # [..., H, W, 3]; HULC: 200 by 200
    gripper: Array  # [..., h, w, 3]; HULC: 84 by 84


def unpack(rows: Array, cameras: Sequence[Camera]) -> tuple[Array, ...]:
    """Rows [..., O] of pixels → the images [..., H, W, 3] of each camera.

    Raises:
      ValueError: the rows are not as long as the cameras' images together.
    """
    sizes = [camera.height * camera.width * 3 for camera in cameras]
    if rows.shape[-1] != sum(sizes):
        raise ValueError(
            f"Rows of {rows.shape[-1]} pixels are not those of the cameras "
            f"{tuple(cameras)}, which have {sum(sizes)}."
        )
    images, begin = [], 0
    for camera, size in zip(cameras, sizes, strict=True):
        part = rows[..., begin : begin + size]
        images.append(part.reshape(*rows.shape[:-1], camera.height, camera.width, 3))
        begin += size
    return tuple(images)


def scale_pixels(images: Images) -> Images:
    """Bytes 0 … 255 → floats -1 … 1."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) / 127.5 - 1.0, images)


def random_shift(images: Array, key: Key, pad: int) -> Array:
    """Moves each image of [..., H, W, C] by up to `pad` pixels along both axes.

    Edges are repeated.
    """
    flat = images.reshape(-1, *images.shape[-3:])
    padded = jnp.pad(flat, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="edge")
    corners = jax.random.randint(key, (flat.shape[0], 2), 0, 2 * pad + 1)

    def crop(image: Array, corner: Array) -> Array:
        start = (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(image, start, flat.shape[1:])

    return jax.vmap(crop)(padded, corners).reshape(images.shape)


def augment(images: Images, key: Key) -> Images:
    """Both cameras' images, each moved on its own."""
    shifted = (
        random_shift(x, k, pad)
        for x, k, pad in zip(images, jax.random.split(key), SHIFTS, strict=True)
    )
    return Images(*shifted)


def spatial_softmax(maps: Array) -> Array:
    """Expected place of each channel's activation, the maps' corners being ±1.

    [..., H, W, C] → [..., 2C]: x and y of the first channel, of the second, …
    """
    height, width, channels = maps.shape[-3:]
    flat = maps.reshape(*maps.shape[:-3], height * width, channels)
    weights = jax.nn.softmax(flat, axis=-2).reshape(maps.shape)
    across, down = jnp.linspace(-1, 1, width), jnp.linspace(-1, 1, height)
    x = jnp.einsum("...hwc,w->...c", weights, across)
    y = jnp.einsum("...hwc,h->...c", weights, down)
    return jnp.stack([x, y], axis=-1).reshape(*maps.shape[:-3], 2 * channels)


class StaticCamera(nn.Module):
    """Convolutions, spatial softmax, 512, then normalized features."""

    features: int = 64

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[..., H, W, 3] in [-1, 1] → [..., features]."""
        x = _convolutions(images)
        x = nn.relu(nn.Dense(512)(spatial_softmax(x)))
        return nn.LayerNorm(1e-5)(nn.Dense(self.features)(x))


class GripperCamera(nn.Module):
    """Convolutions, 128, 512, then normalized features."""

    features: int = 64

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[..., H, W, 3] in [-1, 1] → [..., features]."""
        x = _convolutions(images)
        x = x.reshape(*x.shape[:-3], -1)
        for width in (128, 512):
            x = nn.relu(nn.Dense(width)(x))
        return nn.LayerNorm(1e-5)(nn.Dense(self.features)(x))


def _convolutions(x: Array) -> Array:
    for channels, size, stride in LAYERS:
        x = nn.Conv(channels, (size, size), (stride, stride), padding="VALID")(x)
        x = nn.relu(x)
    return x


class CameraEncoder(nn.Module):
    """Features of both cameras side by side, the static one's first."""

    features: int = 64

    @nn.compact
    def __call__(self, images: Images) -> Array:
        """Images in [-1, 1] → [..., 2 · features]."""
        static = StaticCamera(self.features, name="static")(images.static)
        gripper = GripperCamera(self.features, name="gripper")(images.gripper)
        return jnp.concatenate([static, gripper], axis=-1)


class StateEncoder(nn.Module):
    """Normalized features of a state vector."""

    hidden_dims: Sequence[int]
    features: int = 128

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        """[..., O] → [..., features]."""
        return nn.LayerNorm(1e-5)(MLP(self.hidden_dims, self.features)(observations))
