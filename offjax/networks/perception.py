"""What a policy makes of its observations: images of cameras, or a state vector.

Observations of pixels are rows of bytes, the images of each camera flattened, one after
the other (`offjax.types.EnvSpec.cameras`); networks read them scaled to [-1, 1].

`CameraEncoder` is that of HULC (Mees et al., 2022, https://arxiv.org/abs/2204.06252):
three convolutions for each camera, then for the static camera a spatial softmax (Levine
et al., 2016, https://arxiv.org/abs/1504.00702), for the gripper's a flat layer.
`PixelEncoder` is the usual one of reinforcement learning: convolutions and a flat layer
(Yarats et al., DrQ, 2021, https://arxiv.org/abs/2004.13649), as are the random shifts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from offjax.errors import UserError
from offjax.networks.mlp import MLP
from offjax.types import Array, Camera, Key

Convolutions = Sequence[tuple[int, int, int]]
"""Channels, size and stride of convolutions, which are not padded."""

LAYERS: Convolutions = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""HULC's, and those of most pixel methods (Mnih et al., 2015)."""

SHIFT = 0.05
"""Share of an image's height by which training moves it at most: HULC's 10 pixels of
200 and 4 of 84, DrQ's 4 of 84."""


def unpack(rows: Array, cameras: Sequence[Camera]) -> tuple[Array, ...]:
    """Rows [..., O] of pixels → the images [..., H, W, 3] of each camera.

    Raises:
      UserError: the rows are not as long as the cameras' images together.
    """
    sizes = [height * width * 3 for _, height, width in cameras]
    if rows.shape[-1] != sum(sizes):
        raise UserError(
            f"Rows of {rows.shape[-1]} pixels are not those of the cameras "
            f"{described(cameras)}, which have {sum(sizes)}: give images of the sizes "
            "that the method was trained on, of all of its cameras."
        )
    images, begin = [], 0
    for (_, height, width), size in zip(cameras, sizes, strict=True):
        part = rows[..., begin : begin + size]
        images.append(part.reshape(*rows.shape[:-1], height, width, 3))
        begin += size
    return tuple(images)


def pack(images: Sequence[Array]) -> Array:
    """What `unpack` unpacks: images [..., H, W, 3] of each camera → rows [..., O]."""
    return jnp.concatenate([x.reshape(*x.shape[:-3], -1) for x in images], axis=-1)


def described(cameras: Sequence[Camera]) -> str:
    """Cameras for a reader: `front 64×64 and wrist 32×32`."""
    return " and ".join(f"{name} {height}×{width}" for name, height, width in cameras)


def check_convolutions(cameras: Sequence[Camera], layers: Convolutions) -> None:
    """Refuses images that are too small for the convolutions.

    Raises:
      UserError: nothing is left of a camera's image after them.
    """
    for camera in cameras:
        if min(map_size(camera, layers)) < 1:
            raise UserError(
                f"The images of the camera {described([camera])} are too small for "
                f"convolutions={tuple(layers)} (channels, size and stride of each "
                "layer): nothing is left of them. Choose fewer or smaller layers, or "
                "larger images."
            )


def map_size(camera: Camera, layers: Convolutions) -> tuple[int, int]:
    """Height and width of what the convolutions make of a camera's image."""
    _, *sides = camera
    for _, size, stride in layers:
        sides = [(side - size) // stride + 1 if side >= size else 0 for side in sides]
    return sides[0], sides[1]


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


def shift(rows: Array, cameras: Sequence[Camera], key: Key) -> Array:
    """Rows [..., O] of pixels with every image moved on its own, by up to `SHIFT`."""
    keys = jax.random.split(key, len(cameras))
    moved = (
        random_shift(images, k, round(SHIFT * images.shape[-3]))
        for images, k in zip(unpack(rows, cameras), keys, strict=True)
    )
    return pack(tuple(moved))


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
    convolutions: Convolutions = LAYERS

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[..., H, W, 3] in [-1, 1] → [..., features]."""
        x = _convolve(images, self.convolutions)
        x = nn.relu(nn.Dense(512)(spatial_softmax(x)))
        return nn.LayerNorm(1e-5)(nn.Dense(self.features)(x))


class GripperCamera(nn.Module):
    """Convolutions, 128, 512, then normalized features."""

    features: int = 64
    convolutions: Convolutions = LAYERS

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[..., H, W, 3] in [-1, 1] → [..., features]."""
        x = _convolve(images, self.convolutions)
        x = x.reshape(*x.shape[:-3], -1)
        for width in (128, 512):
            x = nn.relu(nn.Dense(width)(x))
        return nn.LayerNorm(1e-5)(nn.Dense(self.features)(x))


def _convolve(x: Array, layers: Convolutions) -> Array:
    for i, (channels, size, stride) in enumerate(layers):
        x = nn.relu(Convolution(channels, size, stride, name=f"Conv_{i}")(x))
    return x


class Convolution(nn.Module):
    """A convolution without padding, as one product with patches of the images.

    Parameters and results are those of `nn.Conv`; inside the loop of an update on CPUs
    XLA's own convolutions and their gradients took 25 times as long.
    """

    channels: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., H, W, C] → [..., (H - size) // stride + 1, likewise, channels]."""
        size, shape = self.size, (self.size, self.size, x.shape[-1], self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.channels,))
        step = self.stride
        if size % step:
            return patches(x, size, step) @ kernel.reshape(-1, self.channels) + bias
        # Patches that are made of whole squares share them.
        across = size // step
        kernel = kernel.reshape(across, step, across, step, -1, self.channels)
        kernel = kernel.transpose(0, 2, 1, 3, 4, 5).reshape(-1, self.channels)
        return patches(squares(x, step), across, 1) @ kernel + bias


def squares(x: Array, side: int) -> Array:
    """[..., H, W, C] → [..., H // side, W // side, side · side · C]."""
    *lead, height, width, channels = x.shape
    rows, columns = height // side, width // side
    x = x[..., : rows * side, : columns * side, :]
    x = x.reshape(*lead, rows, side, columns, side, channels)
    return jnp.swapaxes(x, -4, -3).reshape(*lead, rows, columns, -1)


def patches(x: Array, size: int, stride: int) -> Array:
    """[..., H, W, C] → [..., places, places, size · size · C], row by row."""
    height, width = ((n - size) // stride for n in x.shape[-3:-1])
    parts = [
        x[
            ...,
            i : i + height * stride + 1 : stride,
            j : j + width * stride + 1 : stride,
            :,
        ]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(parts, axis=-1)


class CameraEncoder(nn.Module):
    """HULC's: features of the static and the gripper camera, side by side.

    One camera is a static one.
    """

    cameras: Sequence[Camera]
    features: int = 64
    convolutions: Convolutions = LAYERS

    @nn.compact
    def __call__(self, rows: Array) -> Array:
        """Pixels [..., O] in [-1, 1] → [..., cameras · features]."""
        parts = (("static", StaticCamera), ("gripper", GripperCamera))
        images = unpack(rows, self.cameras)
        features = [
            camera(self.features, self.convolutions, name=name)(x)
            for (name, camera), x in zip(parts[: len(images)], images, strict=True)
        ]
        return jnp.concatenate(features, axis=-1)


class FlatCamera(nn.Module):
    """Convolutions and one layer over all that they leave, normalized."""

    features: int
    convolutions: Convolutions

    @nn.compact
    def __call__(self, images: Array) -> Array:
        """[..., H, W, 3] in [-1, 1] → [..., features]."""
        x = _convolve(images, self.convolutions)
        x = x.reshape(*x.shape[:-3], -1)
        return nn.LayerNorm(1e-5)(nn.Dense(self.features)(x))


class PixelEncoder(nn.Module):
    """Features of each camera, side by side, every camera with its own weights."""

    cameras: Sequence[Camera]
    features: int = 64
    convolutions: Convolutions = LAYERS

    @nn.compact
    def __call__(self, rows: Array) -> Array:
        """Pixels [..., O] in [-1, 1] → [..., cameras · features]."""
        features = [
            FlatCamera(self.features, self.convolutions, name=f"camera{i}")(x)
            for i, x in enumerate(unpack(rows, self.cameras))
        ]
        return jnp.concatenate(features, axis=-1)


class Seeing(nn.Module):
    """A network of observations with an encoder of its own before it."""

    encoder: Any
    network: Any

    def __call__(self, rows: Array, *args: Any) -> Any:
        """Pixels [..., O] in [-1, 1], and what else the network reads."""
        return self.network(self.encoder(rows), *args)


PATCH = 8
"""Side of the squares of pixels that a decoder paints, each from its own features."""


class PixelDecoder(nn.Module):
    """Images of latents: a coarse map by an MLP, then one transposed convolution.

    Its size is its stride, `PATCH`, so that each of the map's places paints a square.
    """

    cameras: Sequence[Camera]
    hidden_dims: Sequence[int]
    channels: int = 16

    @nn.compact
    def __call__(self, latents: Array) -> Array:
        """[..., Z] → pixels [..., O], in [-1, 1] once they are learned."""
        images = []
        for i, (_, height, width) in enumerate(self.cameras):
            rows, columns = -(-height // PATCH), -(-width // PATCH)
            network = MLP(
                self.hidden_dims,
                rows * columns * self.channels,
                nn.gelu,
                layer_norm=True,
                name=f"map{i}",
            )
            maps = nn.gelu(network(latents))
            maps = maps.reshape(*latents.shape[:-1], rows, columns, self.channels)
            squares = nn.Dense(PATCH * PATCH * 3, name=f"paint{i}")(maps)
            squares = squares.reshape(*maps.shape[:-1], PATCH, PATCH, 3)
            image = jnp.swapaxes(squares, -4, -3)
            image = image.reshape(*latents.shape[:-1], rows * PATCH, columns * PATCH, 3)
            images.append(image[..., :height, :width, :])
        return pack(images)


class StateEncoder(nn.Module):
    """Normalized features of a state vector."""

    hidden_dims: Sequence[int]
    features: int = 128

    @nn.compact
    def __call__(self, observations: Array) -> Array:
        """[..., O] → [..., features]."""
        return nn.LayerNorm(1e-5)(MLP(self.hidden_dims, self.features)(observations))
