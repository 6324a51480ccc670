"""Cameras: the spatial softmax by hand, shifts against slices."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.networks import perception
from offjax.types import Camera


def test_spatial_softmax_is_the_expected_place():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 2))
    found = jax.jit(perception.spatial_softmax)(jnp.asarray(maps))
    weights = np.exp(maps) / np.exp(maps).sum((1, 2), keepdims=True)
    for b in range(2):
        expected = []
        for c in range(2):
            x = (weights[b, :, :, c].sum(0) * [-1, -1 / 3, 1 / 3, 1]).sum()
            y = (weights[b, :, :, c].sum(1) * [-1, 0, 1]).sum()
            expected += [x, y]
        np.testing.assert_allclose(found[b], expected, atol=1e-6)


def test_every_image_is_moved_on_its_own_and_edges_are_repeated():
    images = np.random.default_rng(0).normal(size=(3, 4, 6, 5, 1)).astype(np.float32)
    shift = jax.jit(perception.random_shift, static_argnums=2)
    found = np.asarray(shift(jnp.asarray(images), jax.random.key(0), 2))
    padded = np.pad(images, [(0, 0)] * 2 + [(2, 2)] * 2 + [(0, 0)], mode="edge")
    places = set()
    for i in np.ndindex(3, 4):
        matches = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if np.array_equal(padded[i][r : r + 6, c : c + 5], found[i])
        ]
        assert matches
        places.add(matches[0])
    assert len(places) > 3


def test_convolutions_are_those_of_flax():
    """Sizes that strides divide, and others."""
    images = np.random.default_rng(0).normal(size=(2, 21, 24, 3)).astype(np.float32)
    for channels, size, stride in ((5, 8, 4), (4, 4, 2), (3, 3, 1), (3, 3, 2)):
        ours = perception.Convolution(channels, size, stride)
        theirs = nn.Conv(channels, (size, size), (stride, stride), padding="VALID")
        params = ours.init(jax.random.key(0), images)
        found, expected = ours.apply(params, images), theirs.apply(params, images)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        sides = perception.map_size(Camera("a", 21, 24), [(channels, size, stride)])
        assert found.shape == (2, *sides, channels)


def test_rows_are_moved_camera_by_camera_and_by_their_size():
    cameras = Camera("large", 40, 40), Camera("small", 8, 8)
    rows = np.random.default_rng(0).integers(0, 256, (5, 3 * (1600 + 64)), np.uint8)
    moved = perception.shift(rows, cameras, jax.random.key(0))
    assert moved.dtype == jnp.uint8 and moved.shape == rows.shape
    before, after = perception.unpack(rows, cameras), perception.unpack(moved, cameras)
    assert (np.asarray(after[0]) != before[0]).any()  # by up to 2 pixels
    np.testing.assert_array_equal(after[1], before[1])  # 0.05 of 8 is none


def test_a_decoder_paints_images_of_any_size():
    cameras = Camera("a", 20, 17), Camera("b", 8, 8)
    decoder = perception.PixelDecoder(cameras, (6,))
    painted, _ = decoder.init_with_output(jax.random.key(0), jnp.ones((2, 3)))
    assert painted.shape == (2, 3 * (20 * 17 + 64))


def test_rows_of_pixels_are_the_images_of_the_cameras():
    first = np.arange(2 * 4 * 3 * 3).reshape(2, 4, 3, 3)
    second = 1000 + np.arange(2 * 2 * 5 * 3).reshape(2, 2, 5, 3)
    rows = np.concatenate([first.reshape(2, -1), second.reshape(2, -1)], axis=1)
    found = perception.unpack(rows, (Camera("a", 4, 3), Camera("b", 2, 5)))
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], second)
    with pytest.raises(UserError, match="66 pixels"):
        perception.unpack(rows, (Camera("a", 4, 3),))
