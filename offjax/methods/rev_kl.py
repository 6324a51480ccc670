"""Policy improvement by gradient ascent under a reverse-KL penalty.

    maximize E_s [ E_{a~π} Q(s, a) − α KL(π(·|s) ‖ β(·|s)) ]

with β cloned (stage `bc`) and Q learned (stage `sarsa`) before, both fixed: the
baseline "Rev. KL Reg" of Li et al., Closed-Form Policy Improvement Operators, 2023, and
one-step RL of Brandfonbrener et al., 2021. The paper does not say what π is: here it is
of β's class and starts from it. The expectation over a mixture's components is exact,
that within a component takes reparametrized samples, so that every parameter, the
weights included, gets an unbiased gradient. The divergence between policies before tanh
is that after it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.dataset import Dataset
from offjax.datasets.views import TransitionData
from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.methods import bc, sarsa
from offjax.methods.common import TrainState, memoryless, pick, start
from offjax.networks.trained import Trained, descend, trained
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Pytree,
    Recipe,
    Stage,
    Transitions,
    Upstream,
    config,
)


@config
class Config:
    """Hyperparameters; the paper's α, the rest one-step RL's.

    Attributes:
      alpha: α, weight of the divergence.
      num_samples: samples per component for the divergence.
    """

    actor_lr: float = 1e-4
    alpha: float = 3.0
    num_samples: int = 10
    batch_size: int = 256


class State(TrainState):
    """The policy, and the cloned model whose network and transforms it shares."""

    actor: Trained
    cloned: Model


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """The cloned policy with a fresh optimizer."""
    cloned = upstream["bc"]
    params = jax.tree.map(jnp.copy, cloned.state.actor.params)
    actor = trained(params, optax.adam(config.actor_lr))
    return State(**start(key, data), actor=actor, cloned=cloned)


def _policy(params: Pytree, cloned: Model, observation: Array) -> Distribution:
    """The policy with these parameters at one raw observation [O]."""
    state = cloned.state
    state = state.replace(actor=state.actor.replace(params=params))
    return cloned.replace(state=state).act(observation, state.key)


def actor_loss(
    params: Pytree,
    state: State,
    batch: Transitions,
    key: Key,
    config: Config,
    critic: Model,
) -> tuple[Array, Array]:
    """α KL − Q; info is the mean divergence. `key` draws M samples per component."""
    settings = state.cloned.config
    components = settings.num_components if settings.head == "mixture" else 1
    rows, action_dim = batch.actions.shape
    shape = (rows, config.num_samples, components, action_dim)
    noise = jax.random.normal(key, shape)  # the first sample serves for Q

    def of_state(observation: Array, eps: Array) -> tuple[Array, ...]:
        new = _policy(params, state.cloned, observation)
        old = state.cloned.act(observation, key)
        latents = new.means + new.stds * eps
        gap = _log_density(new, latents) - _log_density(old, latents)
        value = jax.vmap(lambda u: critic.q_value(observation, new.to_action(u)))(
            latents[0]
        )
        weights = jax.nn.softmax(new.logits)
        return weights @ value, weights @ jnp.mean(gap, axis=0)

    value, divergence = jax.vmap(of_state)(batch.observations, noise)
    return jnp.mean(config.alpha * divergence - value), jnp.mean(divergence)


def _log_density(distribution: Distribution, latents: Array) -> Array:
    """Log density before tanh of latents [..., A], up to a common constant."""
    z = (latents[..., None, :] - distribution.means) / distribution.stds
    parts = -jnp.sum(0.5 * z**2 + jnp.log(distribution.stds), axis=-1)
    return jax.nn.logsumexp(jax.nn.log_softmax(distribution.logits) + parts, axis=-1)


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One Adam step at the batch's observations."""
    key = jax.random.fold_in(state.key, state.step)
    adam = optax.adam(config.actor_lr)
    actor, loss, divergence = descend(
        actor_loss, state.actor, adam, state, batch, key, config, upstream["sarsa"]
    )
    metrics = {"rev_kl/loss": loss, "rev_kl/divergence": divergence}
    return state.replace(actor=actor, step=state.step + 1), metrics


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """The improved policy at one raw observation [O]."""
    return _policy(model.state.actor.params, model.state.cloned, observation)


METHOD = Method("rev_kl", 1, init, update, act)


def validate(recipe: Recipe, dataset: Dataset | None) -> None:
    """Refuses a cloned policy without a density."""
    if recipe.config("bc").head == "deterministic":
        raise UserError(
            "rev_kl bounds a divergence from the cloned policy, but bc.head is "
            "'deterministic' and has no density: use 'gaussian' or 'mixture'."
        )


def _recipe(name: str, spec: EnvSpec | None, preset: str, head: str) -> Recipe:
    ascent = Stage(
        "rev_kl",
        METHOD,
        Config(batch_size=pick(preset, paper=256, small=64, demo=64)),
        bc.cfpi_view(spec),
        num_steps=pick(preset, paper=100_000, small=20_000, demo=2_000),
        reads=("bc", "sarsa"),
    )
    stages = (bc.behavior(spec, preset, head), sarsa.stage(spec, preset), ascent)
    return Recipe(name, stages, memoryless("rev_kl"), validate=validate)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Gradient ascent on Q under a reverse-KL penalty, α = 3, Gaussian."""
    return _recipe("rev_kl", spec, preset, "gaussian")


def rev_kl_mixture(spec: EnvSpec | None, preset: str) -> Recipe:
    """Gradient ascent on Q under a reverse-KL penalty, α = 3, mixture."""
    return _recipe("rev_kl_mixture", spec, preset, "mixture")
