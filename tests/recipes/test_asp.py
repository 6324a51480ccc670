"""Windows of the data against loops over episodes, and open-loop acting."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.algorithms import asp as algorithm
from offjax.datasets.dataset import Dataset
from offjax.datasets.normalize import ActionBox
from offjax.envs import budget, maze2d
from offjax.recipes import asp
from offjax.types import Params


def config(k=3, horizon=10, **changes):
    return algorithm.Config(
        k=k, horizon=horizon, segment_length=horizon, batch_size=64, **changes
    )


def uneven(lengths=(4, 7, 5)):
    """Episodes of unequal length; the observation holds the row's number."""
    rows = sum(lengths)
    rng = np.random.default_rng(0)
    timeouts = np.zeros(rows, bool)
    timeouts[np.cumsum(lengths) - 1] = True
    numbers = np.arange(rows, dtype=np.float32)[:, None]
    return Dataset.from_arrays(
        numbers,
        numbers / 100,
        rng.normal(size=rows).astype(np.float32),
        np.zeros(rows, bool),
        timeouts,
        id="test/uneven-v0",
    )


def to_go(rewards, discount):
    total, found = 0.0, []
    for reward in rewards[::-1]:
        total = reward + discount * total
        found.append(total)
    return found[::-1]


def test_returns_are_standardised_among_those_of_the_same_step(budget_dataset):
    data = asp.prepare_windows(budget_dataset, config(), {})
    rewards = np.float64(budget_dataset.rewards).reshape(60, 10)
    table = np.array([to_go(episode, 0.999) for episode in rewards])
    np.testing.assert_allclose(data.returns.reshape(60, 10), table, rtol=1e-5)
    for t in range(10):
        mean, std = table[:, t].mean(), table[:, t].std(ddof=1) + 1e-5
        found = data.standard.reshape(60, 10)[:, t]
        np.testing.assert_allclose(found, (table[:, t] - mean) / std, atol=1e-4)
        # Saturated rewards tie: of equal returns the later row ranks higher.
        lower = [
            ((table[:, t] < v) | ((table[:, t] == v) & (np.arange(60) < i))).mean()
            for i, v in enumerate(table[:, t])
        ]
        np.testing.assert_allclose(data.ranks.reshape(60, 10)[:, t], lower, atol=1e-6)
    np.testing.assert_array_equal(data.times.reshape(60, 10)[7], np.arange(10))
    np.testing.assert_array_equal(data.remaining.reshape(60, 10)[7], 10 - np.arange(10))


def test_without_a_common_clock_they_are_standardised_over_all_rows():
    dataset = uneven()
    data = asp.prepare_windows(dataset, config(discount=0.5), {})
    rewards = np.split(np.float64(dataset.rewards), [4, 11])
    returns = np.concatenate([to_go(episode, 0.5) for episode in rewards])
    np.testing.assert_allclose(data.returns, returns, rtol=1e-5)
    expected = (returns - returns.mean()) / returns.std(ddof=1)
    np.testing.assert_allclose(data.standard, expected, atol=1e-3)
    np.testing.assert_array_equal(data.remaining[:5], [4, 3, 2, 1, 7])


@pytest.mark.parametrize(
    ("changes", "starts"),
    [
        ({}, [0, 3, 4, 7, 10, 11, 14]),
        ({"mode": "listing"}, [0, 4, 11]),  # whole segments of 4 windows
        ({"random_phase": True}, list(range(16))),
    ],
)
def test_where_windows_begin(changes, starts):
    data = asp.prepare_windows(uneven(), config(**changes), {})
    np.testing.assert_array_equal(data.starts, starts)


@pytest.mark.parametrize("mode", ["anchored", "listing"])
def test_sampled_windows_are_pieces_of_one_episode(mode):
    dataset, settings = uneven(), config(mode=mode, random_phase=True)
    data = asp.prepare_windows(dataset, settings, {})
    arrays = jax.tree.map(jnp.asarray, data)
    batch = jax.jit(asp.sample_windows)(arrays, jax.random.PRNGKey(0), settings)
    windows = 4 if mode == "listing" else 1
    assert batch.actions.shape == (64, windows, 3, 1)
    ends = np.array([4] * 4 + [11] * 7 + [16] * 5)
    seen = set()
    for i in range(64):
        first = round(float(batch.observations[i, 0, 0]))
        seen.add(first)
        for w in range(windows):
            for j in range(3):
                row = first + 3 * w + j
                inside = row < ends[first]
                assert float(batch.mask[i, w, j]) == inside
                if inside:
                    assert round(100 * float(batch.actions[i, w, j, 0])) == row
                    assert batch.returns[i, w, j] == data.returns[row]
                    assert batch.standard[i, w, j] == data.standard[row]
                    assert batch.ranks[i, w, j] == data.ranks[row]
                if inside and j == 0:
                    assert batch.times[i, w] == data.times[row]
                    assert batch.observations[i, w, 0] == row
    assert len(seen) > 12


def test_a_window_is_executed_open_loop(monkeypatch):
    """Plans of 100·time + index: the action at step t is known."""

    def plan(state, observation, time, settings):
        return (100 * time + jnp.arange(3.0))[:, None] + state.gain * observation[0]

    monkeypatch.setattr(asp.algorithm, "plan", plan)
    policy = asp.PlanningPolicy(3, 1)
    state = SimpleNamespace(gain=0.5, action_box=ActionBox(*np.float32([[0], [8]])))
    params = Params({"asp": state}, {"asp": None})
    carry, actions = policy.init(params, None, None), []
    for t in range(7):
        if t % policy.period == 0:
            carry = policy.plan(params, carry, jnp.float32([t]), None)
        proposed, carry = policy.propose(params, carry, jnp.float32([t]), 0.0, None)
        action = proposed.mode()
        carry = policy.record(carry, action)
        actions.append(float(action[0]))
    assert actions == [0, 1, 2, 301.5, 302.5, 303.5, 603]


def test_settings_by_domain_and_method():
    def of(name, spec):
        (stage,) = getattr(asp, name)(spec, "paper").stages
        return stage.config

    assert of("asp", budget.spec(20)).k == 20
    assert of("asp", budget.spec(20)).space == "simplex"
    assert of("asp_k1", budget.spec(20)).k == 1
    assert of("asp_mle", budget.spec(20)).mode == "mle"
    maze = of("asp", maze2d.spec("umaze"))
    assert (maze.space, maze.k, maze.horizon, maze.random_phase) == (
        "box",
        10,
        300,
        True,
    )
    for spec in (None, budget.spec(20), maze2d.spec("large")):
        for name in ("asp", "asp_k1", "asp_mle"):
            algorithm.validate(of(name, spec))


def test_policy_has_the_period_of_the_settings_after_overrides():
    recipe = asp.asp(budget.spec(20), "paper")
    settings = {"asp": dataclasses.replace(recipe.stages[0].config, k=7)}
    assert recipe.policy(settings) == asp.PlanningPolicy(7, 1)


def test_learns_the_better_allocation(budget_dataset):
    """Trained on the shares of the best tenth alone, the plan is near their mean."""
    settings = config(
        10, space="simplex", weights="topq", lr=1e-2, hidden_dims=(16,), embedding_dim=8
    )
    data = jax.tree.map(jnp.asarray, asp.prepare_windows(budget_dataset, settings, {}))

    @jax.jit
    def train(state):
        def step(i, state):
            key = jax.random.fold_in(state.key, i)
            batch = asp.sample_windows(data, key, settings)
            return algorithm.update(state, batch, settings, {})[0]

        return jax.lax.fori_loop(0, 600, step, state)

    example = SimpleNamespace(statistics=data.statistics)
    state = train(algorithm.init(jax.random.PRNGKey(0), example, settings, {}))
    returns = budget_dataset.rewards.reshape(60, 10) @ 0.999 ** np.arange(10)
    best = budget_dataset.actions.reshape(60, 10)[np.argsort(returns)[-6:]]
    plan = algorithm.plan(state, data.observations[0], 0, settings)[:, 0]
    np.testing.assert_allclose(plan, best.mean(0), atol=0.015)
