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
from offjax.types import Actor, Params, Statistics, Transitions

POLICIES = np.array([-0.5, 0.0, 0.8], np.float32)
CONFIG = fqe.Config(
    lr=3e-3, discount=0.9, tau=0.05, hidden_dims=(32, 32), batch_size=64
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


def test_values_of_a_linear_problem():
    """s' = 0.5 s + 0.4 a, r = s + a, policy a = c − 0.5 s: V(s) is linear in s.

    V(s) = p s + q with p = (1 − 0.5) + γ p (0.5 − 0.2) and q = c + γ (0.4 c p + q).
    """
    rng = np.random.default_rng(1)
    rows, discount = 800, 0.8
    states = rng.uniform(-1, 1, size=(rows, 1)).astype(np.float32)
    actions = rng.uniform(-1, 1, size=(rows, 1)).astype(np.float32)
    following = 0.5 * states + 0.4 * actions
    data = Transitions(
        states,
        actions,
        (states + actions)[:, 0],
        following,
        actions,
        np.zeros(rows, np.float32),
        np.ones(rows, bool),
    )
    offsets = np.array([-0.4, 0.1, 0.5], np.float32)[:, None, None]
    starts = np.array([[-0.8], [0.0], [0.9]], np.float32)
    one = np.ones(1, np.float32)
    values = fqe.evaluate(
        fqe.Problem(
            data,
            offsets - 0.5 * following,
            starts,
            offsets - 0.5 * starts,
            Statistics(0 * one, one, -one, one),
        ),
        fqe.Config(
            lr=3e-3, discount=discount, tau=0.05, hidden_dims=(32, 32), batch_size=64
        ),
        num_steps=1000,
    )
    slope = 0.5 / (1 - 0.3 * discount)
    constant = offsets[:, 0] * (1 + 0.4 * discount * slope) / (1 - discount)
    np.testing.assert_allclose(values, slope * starts[:, 0] + constant, atol=0.25)


def test_policies_that_remember_are_refused():
    class Remembers(Actor):
        def begin(self, params, task, key):
            return jnp.zeros(1)

    class Plans(Actor):
        period = 5

    for policy in (Remembers(), Plans()):
        with pytest.raises(UserError, match="acts on more than the observation"):
            fqe.policy_actions(
                Agent(policy), None, np.zeros((2, 1)), jax.random.PRNGKey(0)
            )


def test_policies_are_fitted_as_if_alone():
    whole = problem()
    alone = whole._replace(
        next_actions=whole.next_actions[2:], first_actions=whole.first_actions[2:]
    )
    both = fqe.evaluate(whole, CONFIG, num_steps=50)
    one = fqe.evaluate(alone, CONFIG, num_steps=50)
    np.testing.assert_allclose(one[0], both[2], rtol=1e-3, atol=1e-4)


def test_actions_of_every_policy_at_every_state():
    class Constant(Actor):
        def act(self, params, carry, observation, reward, key):
            return point(params.acting["gain"] * observation), carry

    agent = Agent(Constant())
    params = Params({}, {"gain": jnp.array([1.0, 2.0])}, None)
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
