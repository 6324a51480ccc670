"""Rollouts in environments written in JAX: all episodes of a slot together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.types import (
    Actor,
    EnvSpec,
    Improvement,
    Key,
    Params,
    Pytree,
    QFunction,
    Recipe,
)

EVALUATION_STREAM = 0xE7A1  # keeps episodes' randomness apart from the training's


def slot_key(seed: Any, eval_seed: Any) -> Key:
    """Key of all evaluation episodes of a seed; `eval_seed` numbers the set."""
    key = jax.random.fold_in(jax.random.PRNGKey(seed), EVALUATION_STREAM)
    return jax.random.fold_in(key, eval_seed)


def split_key(key: Key) -> tuple[Key, Key, Key]:
    """An episode's key → of its steps, of the environment's start, of the policy's."""
    steps, start, policy = jax.random.split(key, 3)
    return steps, start, policy


def plan_key(steps: Key, time: Any) -> Key:
    """Key of the plan that is made at a time."""
    return jax.random.fold_in(jax.random.fold_in(steps, time), 1)


def act_key(steps: Key, time: Any) -> Key:
    """Key of the action at a time."""
    return jax.random.split(jax.random.fold_in(steps, time))[0]


class Agent(NamedTuple):
    """An actor with its operator; what is stepped in an environment."""

    actor: Actor
    improve: Improvement | None = None
    critic: Callable[[Params], QFunction] | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Agent:
        """How a recipe acts."""
        return cls(recipe.actor(recipe), recipe.improve, recipe.critic)

    def act(
        self,
        params: Params,
        carry: Pytree,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[chex.Array, Pytree]:
        """Action [A] at one raw observation [O], and the actor's next carry."""
        actor_key, improve_key = jax.random.split(key)
        distribution, carry = self.actor.act(
            params, carry, observation, reward, actor_key
        )
        if not isinstance(distribution, Distribution):
            raise UserError(
                f"{type(self.actor).__name__} acts with {type(distribution).__name__}: "
                "`act` of a method must return a Distribution. unit_point, point and "
                "gaussian in offjax.distributions make one."
            )
        if self.improve is None:
            action = distribution.mode()
        else:
            assert self.critic is not None
            q = self.critic(params)
            action = self.improve.operator(
                distribution, lambda a: q(observation, a), improve_key, params.improve
            )
        return action, carry


class Episode(NamedTuple):
    """One episode under way."""

    env_state: Pytree
    observation: chex.Array
    reward: chex.Array
    carry: Pytree
    done: chex.Array
    total: chex.Array
    length: chex.Array
    key: Key


def rollout(agent: Agent, env: Any, spec: EnvSpec) -> Callable:
    """One full episode as a pure function `(params, key) → (return, length)`.

    Args:
      agent: acts; its `record` sees the clipped action.
      env: a `gymnasium.experimental.functional.FuncEnv` in JAX.
      spec: bounds and horizon; the episode ends at a terminal or the horizon.
    """
    low = np.asarray(spec.action_low, np.float32)
    high = np.asarray(spec.action_high, np.float32)
    period = agent.actor.period

    def step(episode: Episode, time: chex.Array, params: Params) -> Episode:
        env_key = jax.random.split(jax.random.fold_in(episode.key, time))[1]
        action, carry = agent.act(
            params,
            episode.carry,
            episode.observation,
            episode.reward,
            act_key(episode.key, time),
        )
        action = jnp.clip(action, low, high)
        carry = agent.actor.record(carry, action)
        state = env.transition(episode.env_state, action, env_key)
        reward = env.reward(episode.env_state, action, state, env_key)
        alive = ~episode.done & (time < spec.horizon)
        return Episode(
            state,
            env.observation(state, env_key),
            reward,
            carry,
            episode.done | env.terminal(state, env_key),
            episode.total + jnp.where(alive, reward, 0.0),
            episode.length + alive,
            episode.key,
        )

    def window(episode: Episode, start: chex.Array, params: Params) -> Episode:
        key = plan_key(episode.key, start)
        carry = agent.actor.plan(params, episode.carry, episode.observation, key)
        episode = episode._replace(carry=carry)
        steps = start + jnp.arange(period)
        return jax.lax.scan(lambda e, t: (step(e, t, params), None), episode, steps)[0]

    def run(params: Params, key: Key) -> tuple[chex.Array, chex.Array]:
        key, env_key, policy_key = split_key(key)
        state = env.initial(env_key)
        episode = Episode(
            state,
            env.observation(state, env_key),
            jnp.float32(0),
            agent.actor.begin(params, None, policy_key),
            jnp.bool_(False),
            jnp.float32(0),
            jnp.int32(0),
            key,
        )
        starts = jnp.arange(0, spec.horizon, period)
        episode, _ = jax.lax.scan(
            lambda e, t: (window(e, t, params), None), episode, starts
        )
        return episode.total, episode.length

    return run


def evaluate_slot(agent: Agent, env: Any, spec: EnvSpec, episodes: int) -> Callable:
    """All episodes of one slot: `(params, key) → returns [E], lengths [E]`.

    Episode i depends on the key and i alone, not on how many others run.
    """
    run = rollout(agent, env, spec)

    def evaluate(params: Params, key: Key) -> tuple[chex.Array, chex.Array]:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(episodes))
        return jax.vmap(run, in_axes=(None, 0))(params, keys)

    return evaluate
