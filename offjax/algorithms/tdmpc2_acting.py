"""How TD-MPC2 acts: MPPI in its latent space, or the policy prior alone."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from offjax.algorithms import mppi
from offjax.algorithms.tdmpc2 import (
    Config,
    State,
    apply,
    join,
    policy_moments,
    policy_sample,
    q_logits,
)
from offjax.distributions import Distribution, gaussian
from offjax.networks.tdmpc2 import SIZES
from offjax.types import Key


def encode(state: State, observation: chex.Array, config: Config) -> chex.Array:
    """Latents [..., Z] of raw observations [..., O]."""
    return apply("encoder", state.model.params, state.normalizer(observation), config)


def sequence_values(
    state: State,
    latent: chex.Array,
    actions: chex.Array,
    noise: chex.Array,
    pair: chex.Array,
    config: Config,
) -> chex.Array:
    """Model's values [N] of action sequences [H, N, A] in [-1, 1] from one latent [Z].

    Σ_t γᵗ r_t + γᴴ mean_{two critics} Q(z_H, a), a ~ π(z_H) by noise [N, A]. In
    episodic tasks nothing counts after a state that is more likely than not an end.
    """
    params = state.model.params

    def step(carry: tuple, action: chex.Array) -> tuple[tuple, None]:
        latents, total, factor = carry
        here = join(latents, action)
        logits = apply("reward", params, here, config)
        total += factor * config.bins.expectation(logits)
        latents = apply("dynamics", params, here, config)
        factor = config.discount * factor
        if config.episodic:
            ends = apply("termination", params, latents, config)[..., 0]
            factor = jnp.where(ends > 0, 0.0, factor)
        return (latents, total, factor), None

    count = actions.shape[1]
    begin = jnp.broadcast_to(latent, (count, *latent.shape))
    zeros = jnp.zeros(count, latent.dtype)
    carry, _ = jax.lax.scan(step, (begin, zeros, zeros + 1.0), actions)
    latents, total, factor = carry
    last, _ = policy_sample(state.policy.params, latents, noise, config)
    logits = q_logits(params["q"], latents, last, config)
    q = config.bins.expectation(logits[pair])
    return total + factor * q.mean(0)


def propose(
    state: State, latent: chex.Array, noise: chex.Array, config: Config
) -> chex.Array:
    """The policy prior's action sequences [H, P, A] from one latent, by noise."""
    params = state.model.params

    def step(latents: chex.Array, eps: chex.Array) -> tuple[chex.Array, chex.Array]:
        actions, _ = policy_sample(state.policy.params, latents, eps, config)
        return apply("dynamics", params, join(latents, actions), config), actions

    begin = jnp.broadcast_to(latent, (noise.shape[1], *latent.shape))
    return jax.lax.scan(step, begin, noise)[1]


def plan(
    state: State,
    observation: chex.Array,
    last: chex.Array,
    key: Key,
    config: Config,
    planning: mppi.Config,
) -> tuple[chex.Array, chex.Array]:
    """The planned environment action [A] at one raw observation [O].

    Args:
      state: trained.
      observation: raw.
      last: mean [H, A] of the last step's search, zeros at the start of an episode.
      key: random key.
      config: settings of the model.
      planning: settings of the search.

    Returns:
      The action, and the mean of this search.
    """
    latent = encode(state, observation, config)
    action_dim, num_q = last.shape[-1], SIZES[config.size].num_q
    propose_key, plan_key = jax.random.split(key)
    shape = (config.horizon, planning.num_proposals, action_dim)
    noise = jax.random.normal(propose_key, shape)

    def value(actions: chex.Array, key: Key) -> chex.Array:
        noise_key, pair_key = jax.random.split(key)
        eps = jax.random.normal(noise_key, actions.shape[1:])
        pair = jax.random.permutation(pair_key, num_q)[:2]
        return sequence_values(state, latent, actions, eps, pair, config)

    proposals = propose(state, latent, noise, config)
    action, mean = mppi.plan(value, proposals, last, plan_key, planning)
    return state.action_box.from_unit(action), mean


def distribution(state: State, observation: chex.Array, config: Config) -> Distribution:
    """The policy prior at one raw observation [O]; its mode is tanh of the mean."""
    box = state.action_box
    latent = encode(state, observation, config)
    mean, log_std = policy_moments(
        state.policy.params, latent, box.low.shape[-1], config
    )
    return gaussian(mean, jnp.exp(log_std), box.shift, box.scale, squashed=True)
