"""Reinformer as its own authors wrote it: one network for returns and actions.

Zhuang et al., "Reinformer: Max-Return Sequence Modeling for Offline RL", 2024
(https://arxiv.org/abs/2405.08740). One post-norm transformer reads
(s_1, R_1, a_1, s_2, …); its loss is the sum, with equal weights, of the two losses of
`offjax.methods.reinformer`:

    minimize  E |τ - 1(u < 0)| u²  -  E log N(a_t; μ_t, σ²)  -  α H(σ)

The return is read from the token of s_t, the action from that of R_t, so that acting
takes two passes: one to predict R_t, one to act with it in its place.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.trajectories import Segments, SegmentView, Trajectories
from offjax.distributions import Distribution, gaussian
from offjax.errors import require_option
from offjax.methods import reinformer
from offjax.methods.common import domain
from offjax.methods.sequence import (
    MaxReturnActor,
    SequenceState,
    sequence_stage,
    sizes,
    start_sequence,
    steps_of,
    transformed,
)
from offjax.networks.trained import Trained, descend, trained
from offjax.networks.transformer import Linear, Steps, example_steps
from offjax.types import (
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Pytree,
    Recipe,
    Stage,
    Upstream,
    config,
)


@config
class Config(reinformer.Config):
    """Hyperparameters of `reinformer`, with the defaults of the authors' code."""

    context_length: int = 5
    max_timesteps: int = 4096
    adaptive_context: str = "none"

    def validate(self) -> None:
        """Raises `UserError` as `reinformer`, and for what one network cannot do."""
        reinformer.Config.validate(self)
        require_option("extra", self.extra, ("none",))
        require_option("return_history", self.return_history, ("returns",))


class State(SequenceState):
    """The network, and the entropy's weight."""

    network: Trained
    log_alpha: Trained


class Network(nn.Module):
    """Transformer with a head for the return and one for the action."""

    config: Config
    action_dim: int

    @nn.compact
    def __call__(self, steps: Steps, train: bool = False) -> tuple[Array, Array, Array]:
        """Scaled returns [B, K], means [B, K, A], log standard deviations [A]."""
        both = ("observations", "returns")
        hidden = reinformer.transformer(self.config, both)(steps, train)
        returns = Linear(1, name="return_head")(hidden["observations"])[..., 0]
        head = Linear(self.action_dim, name="action_head")
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        means = jnp.tanh(head(hidden["returns"]))
        return returns, means, jnp.clip(log_std, -20.0, 2.0)


def init(key: Key, data: Trajectories, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    steps = example_steps(data.statistics)
    params = Network(config, steps.actions.shape[-1]).init(key, steps)
    return State(
        **start_sequence(key, data),
        network=trained(params, reinformer.optimizer(config)),
        log_alpha=reinformer.initial_alpha(config),
    )


def loss(
    params: Pytree, state: State, batch: Segments, key: Key, config: Config
) -> tuple[Array, dict[str, Array]]:
    """Sum of the losses of returns and actions; `key` is the dropout's."""
    steps, mask = steps_of(batch), batch.mask
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
    return return_loss - fit - jnp.exp(state.log_alpha.params) * spread, parts


def update(
    state: State, batch: Segments, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of the optimizer, and one of Adam for the entropy's weight."""
    batch = transformed(state, batch)
    key = jax.random.fold_in(state.key, state.step)
    optimizer, adam = reinformer.optimizer(config), optax.adam(config.alpha_lr)
    network, value, parts = descend(
        loss, state.network, optimizer, state, batch, key, config
    )
    entropy = (parts["entropy"], batch.actions.shape[-1])
    log_alpha, _, _ = descend(reinformer.alpha_loss, state.log_alpha, adam, *entropy)
    metrics = {"loss": value, "alpha": jnp.exp(state.log_alpha.params)} | parts
    state = state.replace(network=network, log_alpha=log_alpha, step=state.step + 1)
    return state, {f"reinformer_original/{k}": v for k, v in metrics.items()}


def predict_return(model: Model, window: Steps) -> Array:
    """Scaled return [] at the last step of a context [K, …]."""
    return _apply(model, window)[0][0, -1]


def act(model: Model, window: Steps, key: Key) -> Distribution:
    """Gaussian action at the last step of a context [K, …] that holds its return."""
    rule, box = model.config.adaptive_context, model.state.action_box
    mask = reinformer.context_mask(window.returns, window.mask, rule)
    _, means, log_std = _apply(model, window._replace(mask=mask))
    return gaussian(means[0, -1], jnp.exp(log_std), box.shift, box.scale)


def _apply(model: Model, window: Steps) -> Any:
    batched = jax.tree.map(lambda x: x[None], window)
    network = Network(model.config, window.actions.shape[-1])
    return network.apply(model.state.network.params, batched)


METHOD = Method("reinformer_original", 1, init, update, act)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `reinformer_original`: per-domain scales, K = 5."""
    scales = {"locomotion": 1000.0, "maze2d": 100.0, "kitchen": 100.0}
    scales |= {"adroit": 10_000.0, "antmaze": 1.0}
    halfcheetah = spec is not None and "halfcheetah" in spec.id.lower()
    settings = sizes(spec, preset, {}) | {
        "context_length": 5,
        "return_scale": 5000.0 if halfcheetah else scales.get(domain(spec), 0.0),
    }
    if domain(spec) == "antmaze":
        settings |= {"reward_scale": 100.0, "reward_shift": 1.0}
    view = SegmentView(discounted=True)
    return sequence_stage(METHOD, Config(**settings), view, preset, 50_000)


def actor(recipe: Recipe) -> MaxReturnActor:
    """`Recipe.actor` of the stage `reinformer_original`."""
    history = recipe.config("reinformer_original").history
    return MaxReturnActor("reinformer_original", history, predict_return)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer as its own authors' code has it."""
    return Recipe("reinformer_original", (stage(spec, preset),), actor)
