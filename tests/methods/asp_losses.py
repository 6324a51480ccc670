"""What the tests of ASPlanner share: its losses compiled, batches and outputs."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets.normalize import ActionBox
from offjax.datasets.windows import Windows
from offjax.methods import asp, asp_printed
from offjax.types import Statistics

BOX = ActionBox(np.float64([-2.0]), np.float64([3.0]))
UNIT = ActionBox(np.float64([0.0]), np.float64([1.0]))
SMALL = {"hidden_dims": (32, 32), "embedding_dim": 8}

budget_loss, box_loss = jax.jit(asp.budget_loss), jax.jit(asp.box_loss)


def parts(outputs, data, config):
    """Means, deviations and weights, as the printed losses take them."""
    return *asp_printed.moments(outputs, config), asp.return_weights(data, config)


@jax.jit
def mle_loss(outputs, data, box, config):
    return asp_printed.mle_loss(*parts(outputs, data, config), data, box, config)


@jax.jit
def listing_loss(outputs, data, config):
    return asp_printed.listing_loss(*parts(outputs, data, config), data, config)


@jax.jit
def equation_loss(outputs, data, box, config):
    return asp_printed.equation_loss(*parts(outputs, data, config), data, box, config)


def settings(mode, horizon, k=None, **changes):
    return asp.Config(
        mode=mode, horizon=horizon, k=k or horizon, segment_length=horizon, **changes
    )


def batch(actions, k=None, weights=1.0, observations=None, length=None, first=0):
    """Episodes [B, T(, A)] cut in windows of k; `weights` are returns and standard."""
    actions = np.asarray(actions, np.float64)
    actions = actions if actions.ndim == 3 else actions[..., None]
    rows, length = len(actions), length or actions.shape[1]
    k = k or length
    windows = -(-length // k)
    pad = windows * k - actions.shape[1]
    shape = (rows, windows, k)
    weights = np.broadcast_to(weights, actions.shape[:2])

    def cut(x):
        filled = np.pad(x, [(0, 0), (0, pad), *[(0, 0)] * (x.ndim - 2)])
        return jnp.asarray(filled.reshape(*shape, *x.shape[2:]))

    times = first + np.broadcast_to(np.arange(windows) * k, shape[:2])
    if observations is None:
        observations = np.zeros((*shape[:2], 1))
    w = cut(weights)
    mask = cut(np.ones(actions.shape[:2]))
    return Windows(jnp.asarray(observations), times, cut(actions), w, w, w, mask)


def windows_of(means, k, stds=None):
    """Means [B, T, A] (and raw deviations) as network outputs [B, W, 2kA]."""
    rows, length, width = means.shape
    count = -(-length // k)
    both = np.concatenate([means, np.zeros_like(means) if stds is None else stds], -1)
    both = np.pad(both, [(0, 0), (0, count * k - length), (0, 0)])
    return jnp.asarray(both.reshape(rows, count, 2 * k * width))


def tabular(logits, rows):
    """Time logits [T] as the means of every one of `rows` episodes."""
    logits = jnp.asarray(logits)
    both = jnp.stack([logits, jnp.zeros_like(logits)], -1).reshape(-1)
    return jnp.broadcast_to(both, (rows, 1, both.size))


def softplus(x):
    return np.log1p(np.exp(x))


def log_normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)


def fresh(config, statistics, seed=0):
    with jax.enable_x64(False):
        example = SimpleNamespace(
            statistics=Statistics(*(np.float32(x) for x in statistics))
        )
        init = jax.jit(lambda key: asp.init(key, example, config, {}))
        return init(jax.random.PRNGKey(seed))
