"""The search against a NumPy loop with the same noise, and what it finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.methods import mppi

CONFIG = mppi.Config(
    num_samples=20, num_elites=5, num_proposals=4, iterations=3, temperature=0.8
)
GOAL = np.array([[0.6, -0.3], [0.1, 0.9]])


def value(actions, key=None):
    """Negative distance from a goal, best at it; [H, N, A] → [N]."""
    return -10 * ((actions - GOAL[:, None]) ** 2).sum((0, 2))


def iterate(mean, std, noise, proposals):
    """One iteration as loops over sequences; also the elites by falling value."""
    horizon, count, action_dim = proposals.shape
    sequences = [proposals[:, p] for p in range(count)]
    for n in range(noise.shape[1]):
        drawn = mean + std * noise[:, n]
        sequences.append(np.minimum(np.maximum(drawn, -1.0), 1.0))
    values = [
        -10 * sum(float(((s[t] - GOAL[t]) ** 2).sum()) for t in range(horizon))
        for s in sequences
    ]
    order = sorted(range(len(sequences)), key=lambda i: -values[i])[:5]
    scores = [np.exp(0.8 * (values[i] - values[order[0]])) for i in order]
    total = sum(scores)
    new_mean, new_std = np.zeros_like(mean), np.zeros_like(mean)
    for t in range(horizon):
        for a in range(action_dim):
            each = [sequences[i][t, a] for i in order]
            m = sum(s * x for s, x in zip(scores, each, strict=True)) / total
            v = sum(s * (x - m) ** 2 for s, x in zip(scores, each, strict=True)) / total
            new_mean[t, a] = m
            new_std[t, a] = min(max(np.sqrt(v), 0.05), 2.0)
    elites = np.stack([sequences[i] for i in order], axis=1)
    return new_mean, new_std, elites, np.array(scores) / total


def test_statistics_equal_a_loops():
    rng = np.random.default_rng(0)
    mean, std = 0.3 * rng.normal(size=(2, 2)), np.full((2, 2), 2.0)
    now = mppi.Search(jnp.asarray(mean), jnp.asarray(std), jnp.zeros(0), jnp.zeros(0))
    step = jax.jit(lambda s, n, p: mppi.improve(s, n, p, value, CONFIG))
    for _ in range(4):
        noise = rng.normal(size=(2, 16, 2))
        proposals = rng.uniform(-1, 1, size=(2, 4, 2))
        now = step(now, noise, proposals)
        mean, std, elites, weights = iterate(mean, std, noise, proposals)
        np.testing.assert_allclose(now.mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(now.std, std, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(now.elites, elites, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(now.weights, weights, rtol=1e-3, atol=1e-5)
    assert (np.abs(now.elites) <= 1).all()


def test_it_finds_the_best_sequence_and_begins_where_the_last_search_ended():
    settings = mppi.Config(num_samples=200, num_elites=20, num_proposals=4)
    proposals = jnp.zeros((2, 4, 2))
    seen = []

    def watched(actions, key):
        jax.debug.callback(lambda a: seen.append(np.asarray(a)), actions)
        return value(actions)

    last = jnp.array([[5.0, 5.0], [0.25, -0.5]])
    action, mean = jax.jit(
        lambda key: mppi.plan(watched, proposals, last, key, settings)
    )(jax.random.PRNGKey(1))
    jax.effects_barrier()
    np.testing.assert_allclose(mean, GOAL, atol=0.1)
    np.testing.assert_allclose(action, GOAL[0], atol=0.3)
    assert len(seen) == 6
    drawn = seen[0][:, 4:]  # the first iteration: deviation 2 around the shifted mean
    inner = np.abs(drawn) < 1
    assert 0.2 < inner.mean() < 0.6
    # Steps move up by one: 0.25 and -0.5 are those of the first.
    assert drawn[0, :, 0].mean() > 0 > drawn[0, :, 1].mean()


def test_a_value_that_is_no_number_counts_as_0():
    def broken(actions):
        return jnp.where(jnp.arange(20) == 7, jnp.nan, -1.0 - jnp.arange(20.0))

    now = mppi.Search(jnp.zeros((2, 1)), jnp.ones((2, 1)), jnp.zeros(0), jnp.zeros(0))
    noise, proposals = (
        np.random.default_rng(1).normal(size=(2, 16, 1)),
        np.ones((2, 4, 1)),
    )
    found = mppi.improve(now, noise, proposals, broken, CONFIG)
    best = np.clip(noise[:, 3], -1, 1)  # sequence 7 of all
    np.testing.assert_allclose(found.elites[:, 0], best, rtol=1e-6)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"num_proposals": 512}, "num_proposals=512"),
        ({"num_elites": 0}, "num_elites=0"),
        ({"iterations": 0}, "iterations is 0"),
    ],
)
def test_searches_that_cannot_be_are_told(changes, match):
    with pytest.raises(UserError, match=match):
        mppi.Config(**changes).validate()
