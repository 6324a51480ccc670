"""Behaviour cloning: maximum likelihood of the recorded actions.

    gaussian       minimise  −E log N(u; μ(s), σ(s)²)
    mixture        minimise  −E log Σ_i λ_i(s) N(u; μ_i(s), σ_i(s)²)
    deterministic  minimise   E ‖u − tanh μ(s)‖²

with u the action mapped to [-1, 1], or with `squashed` its inverse tanh, so that the
policy is tanh of a Gaussian or mixture (Li et al., Closed-Form Policy Improvement
Operators, 2023). `percent_bc` is this algorithm on the best episodes only (Chen et al.,
Decision Transformer, 2021, section 5).
"""

from __future__ import annotations

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms.common import Network
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.networks.mixture import GaussianMixture
from offjax.networks.mlp import MLP
from offjax.types import Context, Key, Pytree, Transitions, config

HEADS = {"gaussian": "gaussian", "mixture": "mixture", "deterministic": "point"}
"""Head → kind of its distribution."""


@config
class Config:
    """Hyperparameters.

    Attributes:
      lr: Adam's step size.
      head: "gaussian", "mixture" or "deterministic".
      num_components: components of a mixture.
      squashed: whether actions are tanh of the Gaussian or mixture.
      log_std_min: lower clip of the log deviation.
      log_std_max: upper clip.
    """

    lr: float = 1e-3
    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    head: str = "gaussian"
    num_components: int = 4
    squashed: bool = False
    log_std_min: float = -5.0
    log_std_max: float = 2.0


class State(flax.struct.PyTreeNode):
    """All that changes, and what acting with it needs: transforms and settings.

    `config` is for stages that read this state without knowing its settings.
    """

    params: Pytree
    opt_state: optax.OptState
    normalizer: Normalizer
    action_box: ActionBox
    config: Config
    key: Key
    step: chex.Array


def _network(config: Config, action_dim: int) -> Network:
    if config.head == "mixture":
        return GaussianMixture(config.hidden_dims, config.num_components, action_dim)
    width = action_dim if config.head == "deterministic" else 2 * action_dim
    return MLP(config.hidden_dims, width, output_scale=0.01)


def _head(
    params: Pytree, observations: chex.Array, config: Config, action_dim: int
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Log weights [..., N], means and deviations [..., N, A]; N = 1 but of mixtures."""
    out = _network(config, action_dim).apply(params, observations)
    if config.head == "mixture":
        logits, means, log_stds = out
    else:
        logits = jnp.zeros((*observations.shape[:-1], 1))
        if config.head == "deterministic":
            means = jnp.tanh(out)[..., None, :]
            return logits, means, jnp.zeros_like(means)
        means, log_stds = jnp.split(out[..., None, :], 2, axis=-1)
    log_stds = jnp.clip(log_stds, config.log_std_min, config.log_std_max)
    return logits, means, jnp.exp(log_stds)


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for shapes and statistics.

    Raises:
      UserError: an unknown head, or a mixture without components.
    """
    del context
    if config.head not in HEADS:
        raise UserError(f"head is {config.head!r}, but it must be one of {[*HEADS]}.")
    if config.num_components < 1:
        raise UserError(
            f"num_components is {config.num_components}: a mixture needs at least 1."
        )
    statistics = example.statistics
    normalizer = Normalizer.from_statistics(statistics)
    action_box = ActionBox(statistics.action_low, statistics.action_high)
    observation = jnp.zeros_like(statistics.observation_mean)
    network = _network(config, action_box.low.shape[-1])
    params = network.init(key, observation)
    opt_state = optax.adam(config.lr).init(params)
    settings = jax.tree.map(jnp.float32, config)
    return State(params, opt_state, normalizer, action_box, settings, key, jnp.int32(0))


def loss_fn(
    params: Pytree, state: State, batch: Transitions, config: Config
) -> chex.Array:
    """Mean negative log-likelihood (constants dropped) or squared error."""
    actions = state.action_box.to_unit(batch.actions)
    observations = state.normalizer(batch.observations)
    logits, means, stds = _head(params, observations, config, actions.shape[-1])
    if config.head == "deterministic":
        return jnp.mean((actions - means[..., 0, :]) ** 2)
    if config.squashed:
        actions = jnp.arctanh(jnp.clip(actions, -1 + 1e-6, 1 - 1e-6))
        # Recorded latents end at 7.3; this keeps far means from running away.
        means = jnp.clip(means, -9.0, 9.0)
    z = (actions[..., None, :] - means) / stds
    parts = -jnp.sum(0.5 * z**2 + jnp.log(stds), axis=-1)
    log_density = jax.nn.logsumexp(jax.nn.log_softmax(logits) + parts, axis=-1)
    return -jnp.mean(log_density)


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One Adam step on a batch of transitions."""
    del context
    loss, grads = jax.value_and_grad(loss_fn)(state.params, state, batch, config)
    updates, opt_state = optax.adam(config.lr).update(grads, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    state = state.replace(params=params, opt_state=opt_state, step=state.step + 1)
    return state, {"bc/loss": loss}


def distribution(state: State, observation: chex.Array, config: Config) -> Distribution:
    """Action distribution at one raw observation [O]."""
    box = state.action_box
    logits, means, stds = _head(
        state.params, state.normalizer(observation), config, box.low.shape[-1]
    )
    squashed = config.squashed and config.head != "deterministic"
    return Distribution(
        logits, means, stds, box.shift, box.scale, squashed, HEADS[config.head]
    )
