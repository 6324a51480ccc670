"""Windows of the data against loops over episodes, and open-loop acting."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.datasets.windows import WindowView
from offjax.envs import budget, maze2d
from offjax.methods import asp, build
from offjax.types import Model, Params, Statistics

VIEW = WindowView()


def config(k=3, horizon=10, **changes):
    return asp.Config(
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


def test_returns_are_standardized_among_those_of_the_same_step(budget_dataset):
    data = VIEW.arrays(budget_dataset, config(), {})
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


def test_without_a_common_clock_they_are_standardized_over_all_rows():
    dataset = uneven()
    data = VIEW.arrays(dataset, config(discount=0.5), {})
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
    data = VIEW.arrays(uneven(), config(**changes), {})
    np.testing.assert_array_equal(data.starts, starts)


@pytest.mark.parametrize("mode", ["anchored", "listing"])
def test_sampled_windows_are_pieces_of_one_episode(mode):
    dataset, settings = uneven(), config(mode=mode, random_phase=True)
    data = VIEW.arrays(dataset, settings, {})
    arrays = jax.tree.map(jnp.asarray, data)
    batch = jax.jit(VIEW.sample)(arrays, jax.random.PRNGKey(0), settings)
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


def test_a_window_is_executed_open_loop():
    """The action at step t is that of the plan made at the window's start."""
    settings = config(3, 300, hidden_dims=(8,), embedding_dim=8)
    box = Statistics(np.zeros(1), np.ones(1), *np.float32([[0], [8]]))
    example = SimpleNamespace(statistics=box)
    state = jax.jit(lambda: asp.init(jax.random.PRNGKey(0), example, settings, {}))()
    model = Model(asp.METHOD, settings, state)
    params = Params({"asp": model}, {"execution": asp.Execution()})
    actor = asp.PlanningActor(3)

    @jax.jit
    def run():
        carry, actions = actor.begin(params, None, None), []
        for t in range(7):
            seen = jnp.float32([t])
            if t % actor.period == 0:
                carry = actor.plan(params, carry, seen, None)
            proposed, carry = actor.act(params, carry, seen, 0.0, None)
            actions.append(proposed.mode())
            carry = actor.record(carry, actions[-1])
        plans = [asp.plan(model, jnp.float32([t]), t) for t in (0, 3, 6)]
        return jnp.stack(actions), jnp.concatenate(plans)

    actions, plans = run()
    np.testing.assert_allclose(actions, plans[:7], rtol=1e-5)
    assert len(np.unique(np.asarray(actions))) == 7


def test_settings_by_domain_and_method():
    def of(name, spec):
        (stage,) = build(name, spec, "paper").stages
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
            of(name, spec).validate()


def test_actor_has_the_period_of_the_settings_after_overrides():
    recipe = asp.recipe(budget.spec(20), "paper")
    assert recipe.actor(recipe).period == 20
    stage = recipe.stages[0]
    shorter = dataclasses.replace(stage.config, k=7)
    stages = (dataclasses.replace(stage, config=shorter),)
    recipe = dataclasses.replace(recipe, stages=stages)
    assert recipe.actor(recipe) == asp.PlanningActor(7)


def test_learns_the_better_allocation(budget_dataset):
    """Trained on the shares of the best tenth alone, the plan is near their mean."""
    settings = config(
        10, space="simplex", weights="topq", lr=1e-2, hidden_dims=(16,), embedding_dim=8
    )
    data = jax.tree.map(jnp.asarray, VIEW.arrays(budget_dataset, settings, {}))

    @jax.jit
    def train(state):
        def step(i, state):
            key = jax.random.fold_in(state.key, i)
            batch = VIEW.sample(data, key, settings)
            return asp.update(state, batch, settings, {})[0]

        return jax.lax.fori_loop(0, 600, step, state)

    example = SimpleNamespace(statistics=data.statistics)
    state = train(asp.init(jax.random.PRNGKey(0), example, settings, {}))
    returns = budget_dataset.rewards.reshape(60, 10) @ 0.999 ** np.arange(10)
    best = budget_dataset.actions.reshape(60, 10)[np.argsort(returns)[-6:]]
    model = Model(asp.METHOD, settings, state)
    plan = asp.plan(model, data.observations[0], 0)[:, 0]
    np.testing.assert_allclose(plan, best.mean(0), atol=0.015)
