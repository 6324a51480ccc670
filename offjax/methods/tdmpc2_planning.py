"""How TD-MPC2 plans: MPPI in the latent space of its world model."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from offjax.distributions import Distribution, point
from offjax.methods import mppi
from offjax.networks.tdmpc2 import join
from offjax.types import Actor, Array, Key, Model, Params, Pytree


def encode(model: Model, observation: Array) -> Array:
    """Latents [..., Z] of raw observations [..., O]."""
    state, world = model.state, model.config.world
    return world.apply("encoder", state.model.params, state.normalizer(observation))


def sequence_values(
    model: Model, latent: Array, actions: Array, noise: Array, pair: Array
) -> Array:
    """Model's values [N] of action sequences [H, N, A] in [-1, 1] from one latent [Z].

    Σ_t γᵗ r_t + γᴴ mean_{two critics} Q(z_H, a), a ~ π(z_H) by noise [N, A]. In
    episodic tasks nothing counts after a state that is more likely than not an end.
    """
    state, config, world = model.state, model.config, model.config.world
    params = state.model.params

    def step(carry: tuple, action: Array) -> tuple[tuple, None]:
        latents, total, factor = carry
        here = join(latents, action)
        logits = world.apply("reward", params, here)
        total += factor * world.bins.expectation(logits)
        latents = world.apply("dynamics", params, here)
        factor = config.discount * factor
        if config.episodic:
            ends = world.apply("termination", params, latents)[..., 0]
            factor = jnp.where(ends > 0, 0.0, factor)
        return (latents, total, factor), None

    count = actions.shape[1]
    begin = jnp.broadcast_to(latent, (count, *latent.shape))
    zeros = jnp.zeros(count, latent.dtype)
    carry, _ = jax.lax.scan(step, (begin, zeros, zeros + 1.0), actions)
    latents, total, factor = carry
    last, _ = world.policy_sample(state.policy.params, latents, noise)
    logits = world.q_logits(params["q"], latents, last)
    q = world.bins.expectation(logits[pair])
    return total + factor * q.mean(0)


def propose(model: Model, latent: Array, noise: Array) -> Array:
    """The policy prior's action sequences [H, P, A] from one latent, by noise."""
    state, world = model.state, model.config.world

    def step(latents: Array, eps: Array) -> tuple[Array, Array]:
        actions, _ = world.policy_sample(state.policy.params, latents, eps)
        here = join(latents, actions)
        return world.apply("dynamics", state.model.params, here), actions

    begin = jnp.broadcast_to(latent, (noise.shape[1], *latent.shape))
    return jax.lax.scan(step, begin, noise)[1]


def plan(
    model: Model, observation: Array, last: Array, key: Key, search: mppi.Config
) -> tuple[Array, Array]:
    """The planned environment action [A] at one raw [O], and the search's mean [H, A].

    `last` is the mean of the last step's search, zeros at the start of an episode.
    """
    latent = encode(model, observation)
    action_dim, num_q = last.shape[-1], model.config.world.size.num_q
    propose_key, plan_key = jax.random.split(key)
    shape = (model.config.horizon, search.num_proposals, action_dim)
    noise = jax.random.normal(propose_key, shape)

    def value(actions: Array, key: Key) -> Array:
        noise_key, pair_key = jax.random.split(key)
        eps = jax.random.normal(noise_key, actions.shape[1:])
        pair = jax.random.permutation(pair_key, num_q)[:2]
        return sequence_values(model, latent, actions, eps, pair)

    proposals = propose(model, latent, noise)
    action, mean = mppi.plan(value, proposals, last, plan_key, search)
    return model.state.action_box.from_unit(action), mean


@dataclasses.dataclass(frozen=True)
class PlanningActor(Actor):
    """Searches at every step, from where the last search ended."""

    def begin(self, params: Params, task: Pytree, key: Key) -> Array:
        """The mean [H, A] of no search."""
        model = params.models["tdmpc2"]
        action_dim = model.state.action_box.low.shape[-1]
        return jnp.zeros((model.config.horizon, action_dim))

    def act(
        self, params: Params, carry: Array, observation: Array, reward: Array, key: Key
    ) -> tuple[Distribution, Array]:
        """The planned action as a point, and the search's mean."""
        model = params.models["tdmpc2"]
        action, mean = plan(model, observation, carry, key, params.acting["planning"])
        box = model.state.action_box
        return point(action, box.shift, box.scale), mean
