"""Fitted Q evaluation: the value of policies from data alone (Le et al., 2019).

    Q_π  minimize E (r + γ (1 − terminal) Q̄_π(s', π(s')) − Q_π(s, a))²
    V(π) = mean over the episodes' first states of Q_π(s₀, π(s₀))

All policies are fitted together, each with its own network on the same batches.
Estimates rank policies better than they measure them (Fu et al., DOPE, 2021). They
extrapolate, usually upwards, for actions far from the data's; and they are discounted,
while scores are made of returns that are cut at the horizon.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.errors import UserError
from offjax.evaluation.rollout import Agent
from offjax.networks.mlp import QEnsemble
from offjax.types import (
    Actor,
    Key,
    Params,
    Pytree,
    Statistics,
    Transitions,
    config,
)


@config
class Config:
    """Hyperparameters."""

    lr: float = 3e-4
    discount: float = 0.99  # γ of the value that is estimated
    tau: float = 0.005
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    num_members: int = 2  # critics per policy; their mean is the estimate


class Problem(NamedTuple):
    """The data, and what every policy would do there; P policies, E episodes."""

    rows: Transitions  # [N, ...]
    next_actions: chex.Array  # [P, N, A] at the rows' next observations
    first_observations: chex.Array  # [E, O]
    first_actions: chex.Array  # [P, E, A]
    statistics: Statistics


def policy_actions(
    agent: Agent, params: Params, observations: chex.Array, key: Key, chunk: int = 1024
) -> chex.Array:
    """Actions of policies that remember nothing, [P, N, A].

    Args:
      agent: how the run acts.
      params: of P policies, leading axis [P].
      observations: [N, O], raw.
      key: noise of policies that sample.
      chunk: observations at once.

    Raises:
      UserError: a policy that remembers or plans, whose action is no function of the
        observation.
    """
    if agent.actor.period > 1 or type(agent.actor).begin is not Actor.begin:
        raise UserError(
            f"{type(agent.actor).__name__} acts on more than the observation (what "
            "it has seen, or a plan), so fitted Q evaluation has no action for it at "
            "the data's states; evaluate it in its environment."
        )

    def act(mine: Params, observation: chex.Array, index: chex.Array) -> chex.Array:
        noise = jax.random.fold_in(key, index)
        carry = agent.actor.begin(mine, None, noise)
        return agent.act(mine, carry, observation, jnp.float32(0), noise)[0]

    def of_policy(mine: Params) -> chex.Array:
        indices = jnp.arange(observations.shape[0])
        return jax.lax.map(
            lambda x: act(mine, *x), (jnp.asarray(observations), indices),
            batch_size=chunk,
        )  # fmt: skip

    return jax.jit(lambda p: jax.lax.map(of_policy, p))(params)


def evaluate(
    problem: Problem, config: Config, num_steps: int, seed: int = 0
) -> np.ndarray:
    """Estimated value of each policy at each first state, [P, E].

    `seed` sets initial weights and batches, the same for every policy, so that they
    differ by what they do alone.

    Raises:
      UserError: actions whose shape does not fit the data, or a fit that diverged.
    """
    policies, rows = problem.next_actions.shape[0], problem.rows.rewards.shape[0]
    expected = (policies, rows, problem.rows.actions.shape[-1])
    if problem.next_actions.shape != expected:
        raise UserError(
            f"next_actions have shape {problem.next_actions.shape}, but the policies' "
            f"actions at the data's {rows} next observations are {expected}."
        )
    values = jax.jit(_fit, static_argnames="num_steps")(
        problem, config, jax.random.PRNGKey(seed), num_steps=num_steps
    )
    if not np.isfinite(values).all():
        raise UserError(
            f"Fitted Q evaluation diverged within {num_steps} updates: lower lr "
            f"(now {config.lr}) or scale the rewards."
        )
    return np.asarray(values)


def _fit(problem: Problem, config: Config, key: Key, num_steps: int) -> chex.Array:
    statistics = problem.statistics
    normalizer = Normalizer.from_statistics(statistics)
    box = ActionBox(statistics.action_low, statistics.action_high)
    network: Any = QEnsemble(config.hidden_dims, config.num_members)
    adam = optax.adam(config.lr)
    rows = jax.tree.map(jnp.asarray, problem.rows)

    def q(params: Pytree, observations: chex.Array, actions: chex.Array) -> chex.Array:
        return network.apply(params, normalizer(observations), box.to_unit(actions))

    def loss_fn(params: Pytree, batch: Transitions, targets: chex.Array) -> chex.Array:
        errors = q(params, batch.observations, batch.actions) - targets
        return jnp.sum(jnp.mean(errors**2, axis=-1))

    def of_policy(next_actions: chex.Array, first_actions: chex.Array) -> chex.Array:
        start = network.init(key, rows.observations[0], rows.actions[0])

        def body(i: chex.Array, carry: Pytree) -> Pytree:
            params, target, opt_state = carry
            index = jax.random.randint(
                jax.random.fold_in(key, i), (config.batch_size,), 0, rows.rewards.size
            )
            batch = jax.tree.map(lambda x: x[index], rows)
            following = q(target, batch.next_observations, next_actions[index])
            masks = 1 - batch.terminals
            targets = batch.rewards + config.discount * masks * following
            grads = jax.grad(loss_fn)(params, batch, targets)
            updates, opt_state = adam.update(grads, opt_state)
            params = optax.apply_updates(params, updates)
            target = optax.incremental_update(params, target, config.tau)
            return params, target, opt_state

        carry = (start, jax.tree.map(jnp.copy, start), adam.init(start))
        params, _, _ = jax.lax.fori_loop(0, num_steps, body, carry)
        return q(params, problem.first_observations, first_actions).mean(0)

    return jax.vmap(of_policy)(
        jnp.asarray(problem.next_actions), jnp.asarray(problem.first_actions)
    )
