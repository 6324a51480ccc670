"""What the tests of sequence models share: PyTorch's fixtures, toy trajectories."""

import pathlib
from types import SimpleNamespace

import flax.traverse_util
import jax.numpy as jnp
import numpy as np

from offjax.datasets.trajectories import Segments, SegmentView, Trajectories
from offjax.types import Statistics

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"


def load(prefix, arrays):
    flat = {n[len(prefix) :]: x for n, x in arrays.items() if n.startswith(prefix)}
    return {"params": flax.traverse_util.unflatten_dict(flat, sep="/")}


def flat(tree):
    return flax.traverse_util.flatten_dict(tree["params"], sep="/")


def assert_close(found, expected, tolerance=1e-5, skip_key_bias=False):
    """Every entry to `tolerance` times the largest of its array.

    A softmax does not see the keys' bias, so that its gradient is rounding alone; it is
    held against the queries', and steps that divide by its size are not compared.
    """
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        if skip_key_bias and name.endswith("key/bias"):
            continue
        size = np.abs(expected[name.replace("key/bias", "query/bias")]).max()
        np.testing.assert_allclose(
            found[name], wanted, rtol=0, atol=tolerance * size, err_msg=name
        )


def assert_same_step(found, expected):
    """Parameters after a step that divides gradients by their size, even tiny ones."""
    assert_close(found, expected, tolerance=1e-4, skip_key_bias=True)


def statistics(observation_dim, action_dim):
    zero, one = np.zeros(observation_dim), np.ones(observation_dim)
    return Statistics(zero, one, -np.ones(action_dim), np.ones(action_dim))


def segments(arrays):
    """The fixture's batch."""
    return Segments(*(jnp.asarray(arrays[f"batch/{n}"]) for n in Segments._fields))


def example(batch):
    """Data for `init` alone, whose transforms change nothing."""
    shapes = batch.observations.shape[-1], batch.actions.shape[-1]
    unread = [None] * 3
    scalars = np.float64(1.0), np.int32(4)
    return Trajectories(*unread, np.arange(5), *unread, *scalars, statistics(*shapes))


def trajectories(observations, actions, returns, timesteps, remaining, starts, lengths):
    stats = statistics(observations.shape[-1], actions.shape[-1])
    arrays = (observations, actions, returns, timesteps, remaining, starts, lengths)
    arrays = [
        jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else jnp.int32)
        for x in arrays
    ]
    return Trajectories(*arrays, jnp.float32(1.0), timesteps.max(), stats)


def sample(data, key, batch_size, length, weighting):
    """Windows of trajectories as `SegmentView` draws them."""
    config = SimpleNamespace(
        batch_size=batch_size, context_length=length, weighting=weighting
    )
    return SegmentView().sample(data, key, config)


def small_data(rng, episodes=30, length=6):
    """The action is 0.8 in episodes that return much, -0.8 in the others."""
    good = np.arange(episodes) % 2
    rows = episodes * length
    rewards = np.repeat(good, length).astype(np.float32)
    timesteps = np.tile(np.arange(length), episodes)
    return trajectories(
        rng.normal(size=(rows, 2)),
        (1.6 * rewards - 0.8)[:, None],
        rewards * (length - timesteps) / length,
        timesteps,
        length - timesteps,
        np.arange(episodes) * length,
        np.full(episodes, length),
    )
