"""Fitted Q evaluation on a chain whose values are known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.distributions import point
from offjax.errors import UserError
from offjax.evaluation import fqe
from offjax.evaluation.rollout import Agent
from offjax.types import Params, Policy, Statistics, Transitions

POLICIES = np.array([-0.5, 0.0, 0.8], np.float32)
CONFIG = fqe.Config(
    lr=3e-3, discount=0.9, polyak=0.05, hidden_dims=(32, 32), batch_size=64
)


def chain(rows=600):
    """States 0 → 1 → end, reward a at both; a uniform. Policy c: V = c + 0.9 c."""
    rng = np.random.default_rng(0)
    state = rng.integers(0, 2, size=(rows, 1)).astype(np.float32)
    actions = rng.uniform(-1, 1, size=(rows, 1)).astype(np.float32)
    return Transitions(
        state,
        actions,
        actions[:, 0],
        np.ones((rows, 1), np.float32),
        actions,
        state[:, 0],
        np.ones(rows, bool),
    )


def problem(rows=600):
    next_actions = np.broadcast_to(POLICIES[:, None, None], (3, rows, 1))
    first_actions = np.broadcast_to(POLICIES[:, None, None], (3, 2, 1))
    one = np.ones(1, np.float32)
    statistics = Statistics(0.5 * one, 0.5 * one, -one, one)
    return fqe.Problem(
        chain(rows),
        next_actions,
        np.zeros((2, 1), np.float32),
        first_actions,
        statistics,
    )


def test_values_of_the_chain():
    values = fqe.evaluate(problem(), CONFIG, num_steps=600)
    assert values.shape == (3, 2)
    np.testing.assert_allclose(values[:, 0], 1.9 * POLICIES, atol=0.15)


def test_policies_are_fitted_as_if_alone():
    whole = problem()
    alone = whole._replace(
        next_actions=whole.next_actions[2:], first_actions=whole.first_actions[2:]
    )
    both = fqe.evaluate(whole, CONFIG, num_steps=50)
    one = fqe.evaluate(alone, CONFIG, num_steps=50)
    np.testing.assert_allclose(one[0], both[2], rtol=1e-3, atol=1e-4)


def test_actions_of_every_policy_at_every_state():
    class Constant(Policy):
        def propose(self, params, carry, observation, reward, key):
            return point(params.states["gain"] * observation), carry

    agent = Agent(Constant(), None, None)
    params = Params({"gain": jnp.array([1.0, 2.0])}, {}, None)
    observations = np.arange(10, dtype=np.float32).reshape(5, 2)
    got = fqe.policy_actions(
        agent, params, observations, jax.random.PRNGKey(0), chunk=2
    )
    np.testing.assert_allclose(got, np.stack([observations, 2 * observations]))


def test_bad_input_is_named():
    wrong = problem()._replace(next_actions=np.zeros((3, 5, 1)))
    with pytest.raises(UserError, match="next_actions"):
        fqe.evaluate(wrong, CONFIG, num_steps=1)
    rows = chain()
    rows = rows._replace(rewards=np.full_like(rows.rewards, np.nan))
    with pytest.raises(UserError, match="diverged"):
        fqe.evaluate(problem()._replace(rows=rows), CONFIG, num_steps=2)
