"""Cameras: the spatial softmax by hand, shifts against slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.networks import perception
from offjax.networks.perception import Images
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


def test_pixels_are_scaled_to_the_unit_box():
    image = jnp.array([0, 255], jnp.uint8).reshape(1, 2, 1)
    scaled = perception.scale_pixels(Images(image, image))
    np.testing.assert_allclose(scaled.static.ravel(), [-1, 1], atol=1e-6)


def test_rows_of_pixels_are_the_images_of_the_cameras():
    first = np.arange(2 * 4 * 3 * 3).reshape(2, 4, 3, 3)
    second = 1000 + np.arange(2 * 2 * 5 * 3).reshape(2, 2, 5, 3)
    rows = np.concatenate([first.reshape(2, -1), second.reshape(2, -1)], axis=1)
    found = perception.unpack(rows, (Camera("a", 4, 3), Camera("b", 2, 5)))
    np.testing.assert_array_equal(found[0], first)
    np.testing.assert_array_equal(found[1], second)
    with pytest.raises(ValueError, match="66 pixels"):
        perception.unpack(rows, (Camera("a", 4, 3),))
