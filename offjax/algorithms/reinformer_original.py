"""Reinformer as its own authors wrote it: one network for returns and actions.

Zhuang et al., "Reinformer: Max-Return Sequence Modeling for Offline RL", 2024
(https://arxiv.org/abs/2405.08740). One post-norm transformer reads
(s_1, R_1, a_1, s_2, …); its loss is the sum, with equal weights, of the two losses of
`offjax.algorithms.reinformer`:

    minimise  E |τ - 1(u < 0)| u²  -  E log N(a_t; μ_t, σ²)  -  α H(σ)

The return is read from the token of s_t, the action from that of R_t, so that acting
takes two passes: one to predict R_t, one to act with it in its place.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.algorithms import reinformer
from offjax.algorithms.common import Trained, descend, trained
from offjax.algorithms.decision_transformer import normalize
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.datasets.trajectories import Segments, Trajectories
from offjax.distributions import Distribution, gaussian
from offjax.networks.transformer import Linear, Steps, check_option, example_steps
from offjax.types import Context, Key, Pytree, config


@config
class Config(reinformer.Config):
    """Hyperparameters of `reinformer`, with the defaults of the authors' code."""

    context_length: int = 5
    max_timesteps: int = 4096
    adaptive_context: str = "none"


class State(flax.struct.PyTreeNode):
    """All that changes, and the transforms of the data it was trained on."""

    network: Trained
    log_alpha: Trained
    normalizer: Normalizer
    action_box: ActionBox
    return_scale: chex.Array
    last_timestep: chex.Array  # greatest of the data
    key: Key
    step: chex.Array


class Network(nn.Module):
    """Transformer with a head for the return and one for the action."""

    config: Config
    action_dim: int

    @nn.compact
    def __call__(
        self, steps: Steps, train: bool = False
    ) -> tuple[chex.Array, chex.Array, chex.Array]:
        """Scaled returns [B, K], means [B, K, A], log standard deviations [A]."""
        both = ("observations", "returns")
        hidden = reinformer.transformer(self.config, both)(steps, train)
        returns = Linear(1, name="return_head")(hidden["observations"])[..., 0]
        head = Linear(self.action_dim, name="action_head")
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        means = jnp.tanh(head(hidden["returns"]))
        return returns, means, jnp.clip(log_std, -20.0, 2.0)


def validate(config: Config) -> None:
    """Raises `UserError` for sizes that do not fit together and unknown options."""
    reinformer.validate(config)
    check_option("extra", config.extra, ("none",))
    check_option("return_history", config.return_history, ("returns",))


def init(key: Key, example: Trajectories, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for shapes and statistics."""
    del context
    validate(config)
    statistics = example.statistics
    steps = example_steps(statistics)
    params = Network(config, steps.actions.shape[-1]).init(key, steps)
    log_alpha = jnp.log(jnp.asarray(config.temperature, jnp.float32))
    return State(
        trained(params, reinformer.optimizer(config)),
        trained(log_alpha, optax.adam(config.temperature_lr)),
        Normalizer.from_statistics(statistics),
        ActionBox(statistics.action_low, statistics.action_high),
        jnp.asarray(example.return_scale),
        jnp.max(example.timesteps),
        key,
        jnp.int32(0),
    )


def loss_fn(
    params: Pytree,
    steps: Steps,
    mask: chex.Array,
    alpha: chex.Array,
    key: Key,
    config: Config,
) -> tuple[chex.Array, dict[str, chex.Array]]:
    """Sum of the losses of returns and actions; `key` is the dropout's."""
    network = Network(config, steps.actions.shape[-1])
    output: Any = network.apply(params, steps, True, rngs={"dropout": key})
    returns, means, log_std = output
    return_loss = reinformer.expectile_loss(
        returns, steps.returns, mask, config.expectile
    )
    log_likelihood = reinformer.log_prob(steps.actions, means, log_std)
    fit = jnp.sum(log_likelihood * mask) / jnp.sum(mask)
    spread = reinformer.entropy(log_std)
    parts = {"return_loss": return_loss, "log_likelihood": fit, "entropy": spread}
    return return_loss - fit - alpha * spread, parts


def update(
    state: State, batch: Segments, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of the optimiser, and one of Adam for the temperature."""
    del context
    key = jax.random.fold_in(state.key, state.step)
    alpha = jnp.exp(state.log_alpha.params)
    network, loss, parts = descend(
        loss_fn,
        state.network,
        reinformer.optimizer(config),
        normalize(state, batch),
        batch.mask,
        alpha,
        key,
        config,
    )
    log_alpha, _, _ = descend(
        reinformer.alpha_loss_fn,
        state.log_alpha,
        optax.adam(config.temperature_lr),
        parts["entropy"],
        batch.actions.shape[-1],
    )
    state = state.replace(network=network, log_alpha=log_alpha, step=state.step + 1)
    metrics = {"loss": loss, "alpha": alpha} | parts
    return state, {f"reinformer_original/{k}": v for k, v in metrics.items()}


def predict_return(state: State, window: Steps, config: Config) -> chex.Array:
    """Scaled return [] at the last step of a context [K, …]."""
    return _apply(state, window, config)[0][0, -1]


def distribution(state: State, window: Steps, config: Config) -> Distribution:
    """Gaussian action at the last step of a context that holds its return."""
    mask = reinformer.context_mask(window.returns, window.mask, config.adaptive_context)
    _, means, log_std = _apply(state, window._replace(mask=mask), config)
    box = state.action_box
    return gaussian(means[0, -1], jnp.exp(log_std), box.shift, box.scale)


def _apply(state: State, window: Steps, config: Config) -> Any:
    batched = jax.tree.map(lambda x: x[None], window)
    network = Network(config, window.actions.shape[-1])
    return network.apply(state.network.params, batched)
