"""What ASPlanner learns, and the plans that it decodes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.envs import budget
from offjax.methods import asp
from offjax.types import Model
from tests.methods.asp_losses import SMALL, batch, fresh, settings

pytestmark = pytest.mark.usefixtures("double")
planned = jax.jit(asp.plan)
TWO_STATES = np.array([-1.0, 1.0]).repeat(8)


def plan(state, observation, time, config):
    return planned(Model(asp.METHOD, config, state), observation, time)


def fit(data, statistics, config, updates, seed=0):
    """A trained state: `updates` steps on the same batch, in single precision."""
    state = fresh(config, statistics, seed)
    with jax.enable_x64(False):
        data = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), data)
        step = jax.jit(
            lambda s: jax.lax.fori_loop(
                0, updates, lambda _, s: asp.update(s, data, config, {})[0], s
            )
        )
        return step(state)


def two_state_errors(config, updates, seed=0):
    actions = 0.5 * TWO_STATES[:, None] * np.ones(4)
    observations = TWO_STATES[:, None, None]
    data = batch(actions, 4, 1.0, observations)
    statistics = ([0.0], [1.0], [-1.0], [1.0])
    state = fit(data, statistics, config, updates, seed)
    with jax.enable_x64(False):
        plans = [plan(state, np.float32([s]), 0, config) for s in (-1.0, 1.0)]
    return np.abs(np.array(plans)[..., 0] - [[-0.5], [0.5]])


def test_two_states_are_told_apart_by_the_anchored_loss_alone():
    anchored = settings("anchored", 4, weights="raw", lr=3e-3, **SMALL)
    assert two_state_errors(anchored, 400).max() < 0.05
    listing = settings(
        "listing", 4, weights="raw", lr=3e-3, kl_weight=0.1, action_min=-1.0, **SMALL
    )
    for seed in range(2):
        assert two_state_errors(listing, 400, seed).max() > 0.05


def wild(config, statistics):
    """A state whose network says anything: initial weights times three."""
    state = fresh(config, statistics, seed=3)
    with jax.enable_x64(False):
        larger = jax.tree.map(lambda x: 3 * x, state.planner.params)
        return with_params(state, larger)


def with_params(state, params):
    return state.replace(planner=state.planner.replace(params=params))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
def test_budgets_are_never_overspent(k):
    config = settings("anchored", 7, k, space="simplex", **SMALL)
    state = wild(config, ([0.0] * 3, [1.0] * 3, [0.0], [0.2]))
    left, spent = np.float32(1.0), []
    with jax.enable_x64(False):
        for start in range(0, 7, k):
            observation = np.float32([1 - start / 7, left, 0.1])
            actions = np.asarray(plan(state, observation, start, config))[:, 0]
            assert actions.shape == (k,) and np.all(actions >= 0)
            assert np.all(actions[7 - start :] == 0)  # beyond the episode
            assert actions.sum() <= left * (1 + 1e-6)
            left -= actions.sum()
            spent += [*actions]
    assert 0 < np.sum(spent) <= 1 + 1e-6


def test_the_last_window_spends_what_is_left():
    config = settings("anchored", 7, 3, space="simplex", **SMALL)
    state = wild(config, ([0.0] * 3, [1.0] * 3, [0.0], [0.2]))
    state = with_params(state, jax.tree.map(jnp.zeros_like, state.planner.params))
    with jax.enable_x64(False):
        last = plan(state, np.float32([0.1, 0.4, 0.1]), 6, config)
        np.testing.assert_allclose(last[:, 0], [0.4, 0, 0], rtol=2e-4)
        # Equal outputs: a window takes its part of the steps to come.
        middle = plan(state, np.float32([0.5, 0.8, 0.1]), 3, config)
        np.testing.assert_allclose(middle[:, 0], [0.2, 0.2, 0.2], rtol=1e-4)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_plans_in_a_box_stay_within_it(k):
    config = settings("anchored", 7, k, **SMALL)
    state = wild(config, ([0.0], [0.01], [-2.0, 0.0], [3.0, 0.1]))
    with jax.enable_x64(False):
        for x in (-5.0, 0.3, 5.0):
            actions = np.asarray(plan(state, np.float32([x]), 2, config))
            assert actions.shape == (k, 2)
            assert np.all(actions >= np.float32([-2.0, 0.0]))
            assert np.all(actions <= np.float32([3.0, 0.1]))


@pytest.mark.parametrize("k", [3, 7])
def test_uniform_data_and_returns_give_the_uniform_plan(k):
    shares = np.full((8, 7), 1 / 7)
    starts = np.arange(0, 7, k)
    observations = np.stack([1 - starts / 7, 1 - starts / 7, starts * 0 + 1 / 7], -1)
    each = [
        batch(shares[:, s : s + k], k, 0.0, np.tile(o, (8, 1, 1)), k, s)
        for s, o in zip(starts, observations, strict=True)
    ]
    data = jax.tree.map(lambda *xs: np.concatenate(xs), *each)
    config = settings("anchored", 7, k, space="simplex", lr=3e-3, **SMALL)
    state = fit(data, ([0.5, 0.5, 0.1], [0.3, 0.3, 0.1], [0.0], [0.2]), config, 600)
    executed = []
    with jax.enable_x64(False):
        for start, observation in zip(starts, np.float32(observations), strict=True):
            executed += [*np.asarray(plan(state, observation, start, config))[:, 0]]
    np.testing.assert_allclose(executed[:7], 1 / 7, atol=5e-3)

    alpha, beta = budget.instance(7, 0)
    total = sum(
        a * (b**2 - (min(x, b) - b) ** 2)
        for a, b, x in zip(alpha, beta, executed, strict=False)
    )
    assert abs(budget.spec(7).score(np.float64(total))) < 2.0
