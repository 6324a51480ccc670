"""AWAC (Nair et al., 2020, arXiv:2006.09359), trained offline.

    Q   minimize mean_k E (r + γ (1 − terminal) min_j Q̄_j(s', a') − Q_k(s, a))²,
        a' ~ π(s')
    π   minimize −E min(exp(A/λ), 100) log π(a|s),
        A = min_k Q_k(s, a) − min_k Q_k(s, ã),  ã ~ π(s)

in this order, the policy with the critics that have just moved (CORL's reading). The
policy is a Gaussian over actions with a free mean and one deviation for all states.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from offjax.datasets.views import TransitionData, TransitionView
from offjax.distributions import LOG_2PI, Distribution, gaussian
from offjax.methods.common import (
    LayersConfig,
    Network,
    TrainState,
    actor_critic,
    bootstrap,
    critics,
    domain,
    min_q_value,
    narrow,
    pick,
    soft_update,
    start_actor_critic,
    step_rewards,
    zeros,
)
from offjax.networks.gaussian import GlobalStdGaussian
from offjax.networks.trained import Trained, descend
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
class Config(LayersConfig):
    """Hyperparameters; the defaults are CORL's for locomotion.

    Attributes:
      awac_lambda: λ, which divides the advantage.
      weight_max: upper bound of the weights.
    """

    critic_lr: float = 3e-4
    actor_lr: float = 3e-4
    discount: float = 0.99
    tau: float = 0.005
    awac_lambda: float = 0.3333
    weight_max: float = 100.0
    hidden_dims: tuple[int, ...] = (256, 256, 256)
    batch_size: int = 256


class State(TrainState):
    """Policy and critics."""

    actor: Trained
    critic: Trained
    target_critic: Pytree


def _actor(config: Config, action_dim: int) -> Network:
    return GlobalStdGaussian(
        config.hidden_dims, action_dim, tanh_mean=False, log_std_min=-20.0
    )


def _sample(params: Pytree, observations: Array, noise: Array, config: Config) -> Array:
    """Actions [B, A] in [-1, 1] for standard noise [B, A]."""
    mean, log_std = _actor(config, noise.shape[-1]).apply(params, observations)
    return jnp.clip(mean + jnp.exp(log_std) * noise, -1.0, 1.0)


def init(key: Key, data: TransitionData, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    _, action = zeros(data)
    networks = _actor(config, action.shape[-1]), critics(config.hidden_dims)
    return State(
        **start_actor_critic(key, data, *networks, config, config.initialization)
    )


def critic_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, None]:
    """Mean error of both critics; `key` draws the noise [B, A] of a'; no info."""
    observations = state.normalizer(batch.observations)
    next_observations = state.normalizer(batch.next_observations)
    noise = jax.random.normal(key, batch.actions.shape)
    next_actions = _sample(state.actor.params, next_observations, noise, config)
    next_q = critics(config.hidden_dims).apply(
        state.target_critic, next_observations, next_actions
    )
    targets = bootstrap(batch, next_q.min(0), config.discount)
    actions = state.action_box.to_unit(batch.actions)
    q = critics(config.hidden_dims).apply(params, observations, actions)
    return jnp.mean((q - targets) ** 2), None


def actor_loss(
    params: Pytree, state: State, batch: Transitions, key: Key, config: Config
) -> tuple[Array, Array]:
    """Weighted negative log-likelihood; `key` draws ã. Info: the mean advantage."""
    observations = state.normalizer(batch.observations)
    actions = state.action_box.to_unit(batch.actions)
    noise = jax.random.normal(key, batch.actions.shape)
    sampled = _sample(state.actor.params, observations, noise, config)
    recorded_q, sampled_q = (
        critics(config.hidden_dims).apply(state.critic.params, observations, a).min(0)
        for a in (actions, sampled)
    )
    advantages = recorded_q - sampled_q
    weights = jnp.minimum(jnp.exp(advantages / config.awac_lambda), config.weight_max)
    mean, log_std = _actor(config, actions.shape[-1]).apply(params, observations)
    z = (actions - mean) / jnp.exp(log_std)
    log_prob = -0.5 * jnp.sum(z**2 + 2 * log_std + LOG_2PI, axis=-1)
    return -jnp.mean(weights * log_prob), jnp.mean(advantages)


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of the critics, then of the policy, then of the targets."""
    next_key, key = jax.random.split(jax.random.fold_in(state.key, state.step))
    adam, actor_adam = optax.adam(config.critic_lr), optax.adam(config.actor_lr)
    critic, loss_q, _ = descend(
        critic_loss, state.critic, adam, state, batch, next_key, config
    )
    state = state.replace(critic=critic)
    actor, loss_pi, advantage = descend(
        actor_loss, state.actor, actor_adam, state, batch, key, config
    )
    state = state.replace(
        actor=actor,
        target_critic=soft_update(critic.params, state.target_critic, config.tau),
        step=state.step + 1,
    )
    return state, {
        "awac/critic_loss": loss_q,
        "awac/actor_loss": loss_pi,
        "awac/advantage": advantage,
    }


def act(model: Model, observation: Array, key: Key) -> Distribution:
    """The learned policy at one raw observation [O]; the environment clips it."""
    state, box = model.state, model.state.action_box
    mean, log_std = _actor(model.config, box.low.shape[-1]).apply(
        state.actor.params, state.normalizer(observation)
    )
    return gaussian(mean, jnp.exp(log_std), box.shift, box.scale)


METHOD = Method("awac", 1, init, update, act, min_q_value)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `awac` with CORL's settings."""
    kind = domain(spec)
    settings = narrow(preset, depth=3)
    if kind not in ("locomotion", "budget", ""):
        settings["awac_lambda"] = 0.1
    view = TransitionView(
        normalize=kind != "budget",
        reward_scale=step_rewards(spec),
        reward_shift=-1.0 if kind == "antmaze" else 0.0,
    )
    steps = pick(preset, paper=1_000_000, small=100_000, demo=10_000)
    return Stage("awac", METHOD, Config(**settings), view, steps)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """AWAC offline, acting with the policy's mean."""
    return actor_critic(stage(spec, preset))
