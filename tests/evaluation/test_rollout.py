"""Rollouts against a plain loop over a small environment."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv

from offjax.distributions import point
from offjax.evaluation.rollout import Agent, evaluate_slot
from offjax.types import Actor, EnvSpec, Improvement, Params


class Line(FuncEnv):
    """x' = x + a; the reward is x + 10a, and the episode ends beyond `end`."""

    def __init__(self, end=np.inf, noise=0.0):
        super().__init__()
        self.end, self.noise = end, noise

    def initial(self, rng: Any, params: Any = None) -> Any:
        return self.noise * jax.random.uniform(rng)

    def observation(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state[None]

    def transition(self, state: Any, action: Any, rng: Any, params: Any = None) -> Any:
        return state + action[0] + self.noise * jax.random.normal(rng)

    def reward(
        self, state: Any, action: Any, next_state: Any, rng: Any, params: Any = None
    ) -> Any:
        return state + 10 * action[0]

    def terminal(self, state: Any, rng: Any, params: Any = None) -> Any:
        return state > self.end


@dataclasses.dataclass(frozen=True)
class Planned(Actor):
    """Plans a = observation + 0.3 for the window; carry: (plan, plans, last, steps).

    Every step proposes the plan + steps/10 + the previous reward/100, and records
    the action it is told of, which the next one is proposed on top of.
    """

    period: int = 3

    def begin(self, params, task, key):
        return jnp.float32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0)

    def plan(self, params, carry, observation, key):
        _, plans, last, steps = carry
        return params.acting["gain"] * observation[0] + 0.3, plans + 1, last, steps

    def act(self, params, carry, observation, reward, key):
        plan, plans, last, steps = carry
        action = plan + plans + 0.1 * steps + 0.01 * reward - 0.5 * last
        return point(action[None]), carry

    def record(self, carry, action):
        return carry[0], carry[1], action[0], carry[3] + 1


def loop(gain, low, high, horizon, period, end=np.inf):
    """Return and length of the deterministic episode, in plain Python."""
    x = total = reward = last = plan = 0.0
    plans = 0
    for t in range(horizon):
        if t % period == 0:
            plan, plans = gain * x + 0.3, plans + 1
        action = plan + plans + 0.1 * t + 0.01 * reward - 0.5 * last
        last = min(max(action, low), high)
        reward = x + 10 * last
        x, total = x + last, total + reward
        if x > end:
            return total, t + 1
    return total, horizon


def spec(horizon=7, low=-10.0, high=10.0):
    return EnvSpec("line", 1, (low,), (high,), horizon)


def run(env, spec, gain=0.1, period=3, episodes=2, seed=0):
    params = Params({}, {"gain": jnp.float32(gain)})
    agent = Agent(Planned(period), None, None)
    evaluate = jax.jit(evaluate_slot(agent, env, spec, episodes))
    returns, lengths = evaluate(params, jax.random.PRNGKey(seed))
    return np.asarray(returns), np.asarray(lengths)


@pytest.mark.parametrize(("horizon", "period"), [(7, 3), (6, 3), (7, 1), (2, 5)])
def test_episodes_end_at_the_horizon_and_plan_every_period(horizon, period):
    returns, lengths = run(Line(), spec(horizon), period=period)
    total, length = loop(0.1, -10, 10, horizon, period)
    np.testing.assert_allclose(returns, total, rtol=1e-5)
    np.testing.assert_array_equal(lengths, length)


def test_rewards_stop_at_a_terminal():
    returns, lengths = run(Line(end=5.0), spec())
    total, length = loop(0.1, -10, 10, 7, 3, end=5.0)
    assert 1 < length < 7
    np.testing.assert_allclose(returns, total, rtol=1e-5)
    np.testing.assert_array_equal(lengths, length)


def test_actions_are_clipped_before_they_are_executed_and_recorded():
    returns, _ = run(Line(), spec(low=-0.2, high=1.5))
    total, _ = loop(0.1, -0.2, 1.5, 7, 3)
    assert total != pytest.approx(loop(0.1, -10, 10, 7, 3)[0], rel=0.1)
    np.testing.assert_allclose(returns, total, rtol=1e-5)


def test_an_episode_does_not_depend_on_how_many_run():
    env = Line(end=9.0, noise=0.5)
    few, few_lengths = run(env, spec(), episodes=2)
    many, many_lengths = run(env, spec(), episodes=5)
    np.testing.assert_allclose(few, many[:2], rtol=1e-6)
    np.testing.assert_array_equal(few_lengths, many_lengths[:2])
    assert len(np.unique(many)) == 5
    other, _ = run(env, spec(), seed=1)
    assert not np.allclose(few, other)


def test_an_operator_acts_with_the_critic_at_the_observation():
    def best_of_two(distribution, q, key, config):
        candidates = jnp.stack([distribution.mode(), distribution.mode() + config])
        return candidates[jnp.argmax(jax.vmap(q)(candidates))]

    improve = Improvement("best_of_two", best_of_two, 1.0)
    params = Params({}, {"gain": jnp.float32(0.0)}, jnp.float32(1.0))

    def value(params):  # prefers the larger action where x < 2 only
        return lambda observation, action: (
            jnp.where(observation[0] < 2, 1, -1) * action[0]
        )

    agent = Agent(Planned(7), improve, value)
    carry = (jnp.float32(0.3), jnp.int32(0), jnp.float32(0), jnp.int32(0))
    for x, expected in ((0.0, 1.3), (3.0, 0.3)):
        action, _ = agent.act(
            params, carry, jnp.float32([x]), jnp.float32(0), jax.random.PRNGKey(0)
        )
        np.testing.assert_allclose(action, [expected], rtol=1e-6)
