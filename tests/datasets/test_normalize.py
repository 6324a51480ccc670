"""Affine maps against their formulas."""

import jax
import numpy as np

from offjax.datasets import Dataset
from offjax.datasets.convert import statistics
from offjax.datasets.normalize import ActionBox, Normalizer


def test_normalizer():
    normalizer = Normalizer(mean=np.array([1.0, -2.0]), std=np.array([2.5, 1.0]))
    observations = np.array([[3.5, -2.0], [1.0, -1.0]])
    found = normalizer(observations)
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(normalizer.inverse(found), observations)


def test_epsilon_of_the_statistics_travels_with_the_pytree():
    observations = np.array([[1.0], [3.0]])
    dataset = Dataset.from_arrays(observations, observations, [0, 0], [0, 1])
    normalizer = Normalizer.from_statistics(statistics(dataset, epsilon=0.25))
    leaves, tree = jax.tree.flatten(normalizer)
    restored = jax.tree.unflatten(tree, leaves)
    # Mean 2, deviation 1: (3 − 2) / (1 + 0.25).
    np.testing.assert_allclose(restored(np.array([3.0])), [0.8])
    found = jax.jit(lambda map_, x: map_(x))(restored, np.array([3.0]))
    np.testing.assert_allclose(found, [0.8], rtol=1e-6)


def test_action_box():
    box = ActionBox(np.array([0.0, -2.0]), np.array([4.0, 2.0]))
    actions = np.array([[0.0, -2.0], [4.0, 2.0], [3.0, 0.0]])
    scaled = [[-1.0, -1.0], [1.0, 1.0], [0.5, 0.0]]
    np.testing.assert_allclose(box.to_unit(actions), scaled)
    np.testing.assert_allclose(box.from_unit(np.array(scaled)), actions)
    np.testing.assert_allclose(box.shift, [2.0, 0.0])
    np.testing.assert_allclose(box.scale, [2.0, 2.0])
