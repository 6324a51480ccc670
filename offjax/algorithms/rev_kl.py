"""Policy improvement by gradient ascent under a reverse-KL penalty.

    maximise E_s [ E_{a~π} Q(s, a) − α KL(π(·|s) ‖ β(·|s)) ]

with β cloned (stage `bc`) and Q learnt (stage `critic`) before, both fixed: the
baseline "Rev. KL Reg" of Li et al., Closed-Form Policy Improvement Operators, 2023, and
one-step RL of Brandfonbrener et al., 2021. The paper does not say what π is: here it is
of β's class and starts from it. The expectation over a mixture's components is exact,
that within a component takes reparametrised samples, so that every parameter, the
weights included, gets an unbiased gradient. The divergence between policies before tanh
is that after it.
"""

from __future__ import annotations

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms import bc, sarsa
from offjax.algorithms.common import Trained, descend, trained
from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.types import Context, Key, Pytree, Transitions, config


@config
class Config:
    """Hyperparameters; the paper's α, the rest one-step RL's.

    Attributes:
      alpha: α, weight of the divergence.
      num_samples: samples per component for the divergence.
      behavior: stage of the cloned policy (algorithm `bc`).
      critic: stage of the critic (algorithm `sarsa`).
    """

    lr: float = 1e-4
    alpha: float = 3.0
    num_samples: int = 10
    batch_size: int = 256
    behavior: str = "bc"
    critic: str = "sarsa"


class State(flax.struct.PyTreeNode):
    """The policy, and the cloned state whose network and transforms it shares."""

    policy: Trained
    behavior: bc.State
    key: Key
    step: chex.Array


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """The cloned policy with a fresh optimiser.

    Raises:
      UserError: the cloned policy has no density.
    """
    del example
    behavior = context[config.behavior]
    if behavior.config.head == "deterministic":
        raise UserError(
            "rev_kl bounds a divergence from the cloned policy, but "
            f"{config.behavior}.head is 'deterministic' and has no density: use "
            "'gaussian' or 'mixture'."
        )
    params = jax.tree.map(jnp.copy, behavior.params)
    return State(trained(params, optax.adam(config.lr)), behavior, key, jnp.int32(0))


def loss_fn(
    params: Pytree,
    behavior: bc.State,
    critic: sarsa.State,
    observations: chex.Array,
    noise: chex.Array,
    config: Config,
) -> tuple[chex.Array, chex.Array]:
    """Loss for standard noise [B, M, N, A]; aux is the mean divergence.

    The first of the M samples serves for Q.
    """

    def of_state(observation: chex.Array, eps: chex.Array) -> tuple[chex.Array, ...]:
        new = bc.distribution(
            behavior.replace(params=params), observation, behavior.config
        )
        old = bc.distribution(behavior, observation, behavior.config)
        latents = new.means + new.stds * eps
        gap = _log_density(new, latents) - _log_density(old, latents)
        value = jax.vmap(
            lambda u: sarsa.q_value(
                critic, observation, new.to_action(u), critic.config
            )
        )(latents[0])
        weights = jax.nn.softmax(new.logits)
        return weights @ value, weights @ jnp.mean(gap, axis=0)

    value, divergence = jax.vmap(of_state)(observations, noise)
    return jnp.mean(config.alpha * divergence - value), jnp.mean(divergence)


def _log_density(distribution: Distribution, latents: chex.Array) -> chex.Array:
    """Log density before tanh of latents [..., A], up to a common constant."""
    z = (latents[..., None, :] - distribution.means) / distribution.stds
    parts = -jnp.sum(0.5 * z**2 + jnp.log(distribution.stds), axis=-1)
    return jax.nn.logsumexp(jax.nn.log_softmax(distribution.logits) + parts, axis=-1)


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step at the batch's observations."""
    settings = state.behavior.config
    components = settings.num_components if settings.head == "mixture" else 1
    shape = (
        batch.observations.shape[0],
        config.num_samples,
        components,
        batch.actions.shape[-1],
    )
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), shape)
    policy, loss, divergence = descend(
        loss_fn,
        state.policy,
        optax.adam(config.lr),
        state.behavior,
        context[config.critic],
        batch.observations,
        noise,
        config,
    )
    state = state.replace(policy=policy, step=state.step + 1)
    return state, {"rev_kl/loss": loss, "rev_kl/divergence": divergence}


def distribution(state: State, observation: chex.Array, config: Config) -> Distribution:
    """The improved policy at one raw observation [O]."""
    del config
    behavior = state.behavior.replace(params=state.policy.params)
    return bc.distribution(behavior, observation, state.behavior.config)
