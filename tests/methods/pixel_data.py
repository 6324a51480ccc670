"""Play seen by two tiny cameras: `language_data` with pictures in place of places."""

import dataclasses

import numpy as np

from offjax.datasets.language import LanguageDataset
from offjax.types import Camera, Statistics
from tests.methods import language_data

CAMERAS = (Camera("static", 20, 24), Camera("gripper", 16, 16))
PIXELS = 3 * (20 * 24 + 16 * 16)
SPEC = dataclasses.replace(
    language_data.SPEC, cameras=CAMERAS, observation_dim=PIXELS, domain="scene"
)
LAYERS = ((4, 4, 2), (6, 3, 1))
"""Convolutions that fit the small images."""


def statistics(action_dim: int = 2) -> Statistics:
    """Those of pixels."""
    half = np.full(PIXELS, 127.5, np.float32)
    return Statistics(half, half, -np.ones(action_dim), np.ones(action_dim))


def pixels(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random rows of bytes."""
    return rng.integers(0, 256, (*shape, PIXELS), dtype=np.uint8)


def corners(length: int = 80, segment: int = 80) -> LanguageDataset:
    """Four episodes; each image has a bright pixel where the point is."""
    dataset = language_data.corners(4, length, segment)
    images = []
    for _, height, width in CAMERAS:
        seen = np.zeros((len(dataset), height, width, 3), np.uint8)
        place = (dataset.observations + 1) / 2 * [height - 1, width - 1]
        rows, columns = np.rint(place).astype(int).T
        seen[np.arange(len(dataset)), rows, columns] = 255
        images.append(seen.reshape(len(dataset), -1))
    return dataclasses.replace(
        dataset,
        observations=np.concatenate(images, axis=1),
        next_observations=None,
        spec=SPEC,
    )
