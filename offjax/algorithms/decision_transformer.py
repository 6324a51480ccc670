"""Decision Transformer: imitation conditioned on the return that is to come.

Chen et al., 2021 (https://arxiv.org/abs/2106.01345). A pre-norm causal transformer
reads (R̂_1, s_1, a_1, R̂_2, s_2, …), R̂_t the undiscounted return-to-go over a scale,
and predicts from the token of s_t

    a_t = tanh(W h(s_t) + b),    minimise  E ‖u_t - a_t‖²

over the recorded steps of windows of K steps, u the action mapped to [-1, 1]. While
acting, R̂_0 is the return that one asks for and R̂_{t+1} = R̂_t - r_t / scale.

The defaults are those of the authors' code. CORL's implementation differs in
`activation="gelu"`, `initialization="normal"` (everything N(0, 0.02²)) and
`loss_mean="all"` (padded steps count in the mean's denominator).
"""

from __future__ import annotations

import math
from typing import Any

import chex
import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.datasets.trajectories import Segments, Trajectories
from offjax.distributions import Distribution
from offjax.errors import UserError
from offjax.networks.transformer import (
    ACTIVATIONS,
    HISTORIES,
    UNSEEN,
    Linear,
    Steps,
    TrajectoryTransformer,
    check_option,
    check_sizes,
    example_steps,
)
from offjax.types import Context, Key, Pytree, config, static


@config
class Config:
    """Hyperparameters.

    Attributes:
      lr: AdamW's step size after the warm-up.
      weight_decay: on all parameters.
      warmup_steps: updates over which the step size rises linearly.
      max_grad_norm: global norm to which gradients are clipped.
      context_length: K, steps of a window.
      max_timesteps: entries of the table of time embeddings.
      num_layers: number of blocks.
      num_heads: attention heads.
      width: size of the tokens.
      dropout: rate of every dropout.
      attention_dropout: "weights" (GPT-2) or "output".
      activation: "relu" or "gelu".
      initialization: "official" (PyTorch's outside the blocks) or "normal".
      loss_mean: mean over the "valid" steps, or over "all" with padding.
      return_scale: what returns are divided by; 0: the data's largest.
      reward_scale: rewards count as reward_scale · r + reward_shift.
      reward_shift: see `reward_scale`.
      episode_length: 0 for episodes as recorded; else uninterrupted recordings are
        cut every so many steps, see `offjax.datasets.trajectories.recut`.
      rare_timesteps: share of the episodes; time steps that no more of them reach
        count as the last one that more do.
      weighting: of trajectories, "length" or "uniform".
      history: what the context remembers, the "executed" action or the "base" one
        that an improvement operator began with.
      unseen_timesteps: which embedding acting uses at time steps that the data lack:
        of the "last" that they have, or the "untrained" one, as published codes do.
      return_target: return that acting asks for, in the units of the rewards; no
        training depends on it, so that several share one trained model.
      batch_size: windows in a batch.
    """

    lr: float = 1e-4
    weight_decay: float = 1e-4
    warmup_steps: float = 10_000.0
    max_grad_norm: float = 0.25
    context_length: int = 20
    max_timesteps: int = 1000
    num_layers: int = 3
    num_heads: int = 1
    width: int = 128
    dropout: float = static(default=0.1)
    attention_dropout: str = "weights"
    activation: str = "relu"
    initialization: str = "official"
    loss_mean: str = "valid"
    return_scale: float = static(default=0.0)
    reward_scale: float = static(default=1.0)
    reward_shift: float = static(default=0.0)
    episode_length: int = 0
    rare_timesteps: float = static(default=0.0)
    weighting: str = "length"
    history: str = "executed"
    unseen_timesteps: str = "last"
    return_target: float = math.nan
    batch_size: int = 64


class State(flax.struct.PyTreeNode):
    """All that changes, and the transforms of the data it was trained on."""

    params: Pytree
    opt_state: optax.OptState
    normalizer: Normalizer
    action_box: ActionBox
    return_scale: chex.Array
    last_timestep: chex.Array  # greatest of the data
    key: Key
    step: chex.Array


class Network(nn.Module):
    """Transformer with the action head on the observations' tokens."""

    config: Config
    action_dim: int

    @nn.compact
    def __call__(self, steps: Steps, train: bool = False) -> chex.Array:
        """Actions [B, K, A] in the unit box."""
        c = self.config
        normal = c.initialization == "normal"
        hidden = TrajectoryTransformer(
            reads=("observations",),
            num_layers=c.num_layers,
            num_heads=c.num_heads,
            width=c.width,
            max_timesteps=c.max_timesteps,
            dropout=c.dropout,
            attention_dropout=c.attention_dropout,
            activation=c.activation,
            body_init="normal",
            outer_init="normal" if normal else "uniform",
            name="transformer",
        )(steps, train)
        head = Linear(self.action_dim, "normal" if normal else "uniform", name="head")
        return jnp.tanh(head(hidden["observations"]))


def _optimizer(config: Config) -> optax.GradientTransformation:
    def rate(count: chex.Numeric) -> chex.Numeric:
        return config.lr * jnp.minimum((count + 1) / config.warmup_steps, 1.0)

    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(rate, weight_decay=config.weight_decay),
    )


def validate(config: Config) -> None:
    """Refuses sizes that do not fit together and unknown options.

    Raises:
      UserError: a context longer than the table of time embeddings, heads that do not
        divide the width, an unknown option, or no return target.
    """
    _check(config)
    if math.isnan(config.return_target):
        raise UserError(
            "Decision Transformer has no return target for this environment: say which "
            "return it shall ask for with --config.return_target=… (the best of the "
            "data is a good choice)."
        )


def _check(config: Config) -> None:
    check_sizes(
        config.context_length, config.max_timesteps, config.width, config.num_heads
    )
    check_option("loss_mean", config.loss_mean, ("valid", "all"))
    check_option("initialization", config.initialization, ("official", "normal"))
    check_option("attention_dropout", config.attention_dropout, ("weights", "output"))
    check_option("activation", config.activation, tuple(ACTIVATIONS))
    check_option("history", config.history, HISTORIES)
    check_option("unseen_timesteps", config.unseen_timesteps, UNSEEN)


def init(key: Key, example: Trajectories, config: Config, context: Context) -> State:
    """Fresh state; `example` is the prepared data, read for shapes and statistics.

    Raises:
      UserError: as `validate`, but for the return target.
    """
    del context
    _check(config)
    statistics = example.statistics
    normalizer = Normalizer.from_statistics(statistics)
    action_box = ActionBox(statistics.action_low, statistics.action_high)
    action_dim = statistics.action_low.shape[-1]
    steps = example_steps(statistics)
    params = Network(config, action_dim).init(key, steps)
    opt_state = _optimizer(config).init(params)
    return State(
        params,
        opt_state,
        normalizer,
        action_box,
        jnp.asarray(example.return_scale),
        jnp.max(example.timesteps),
        key,
        jnp.int32(0),
    )


def normalize(state: Pytree, batch: Segments) -> Steps:
    """What the transformer reads of raw segments; `state` has the transforms."""
    return Steps(
        state.normalizer(batch.observations),
        state.action_box.to_unit(batch.actions),
        batch.returns / state.return_scale,
        batch.timesteps,
    )


def loss_fn(
    params: Pytree, steps: Steps, mask: chex.Array, key: Key, config: Config
) -> chex.Array:
    """Mean squared error of the actions; `key` is the dropout's.

    Args:
      params: of `Network`.
      steps: [B, K, …] transformed segments.
      mask: [B, K] 1 on recorded steps.
      key: of the dropout; not read where its rate is 0.
      config: hyperparameters.
    """
    network = Network(config, steps.actions.shape[-1])
    actions: Any = network.apply(params, steps, True, rngs={"dropout": key})
    errors = jnp.mean((steps.actions - actions) ** 2, axis=-1) * mask
    if config.loss_mean == "all":
        return jnp.mean(errors)
    return jnp.sum(errors) / jnp.sum(mask)


def update(
    state: State, batch: Segments, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """One step of AdamW on a batch of segments."""
    del context
    key = jax.random.fold_in(state.key, state.step)
    loss, grads = jax.value_and_grad(loss_fn)(
        state.params, normalize(state, batch), batch.mask, key, config
    )
    updates, opt_state = _optimizer(config).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = state.replace(params=params, opt_state=opt_state, step=state.step + 1)
    return state, {"decision_transformer/loss": loss}


def distribution(state: State, window: Steps, config: Config) -> Distribution:
    """The action, a point, at the last step of a context [K, …]."""
    network = Network(config, window.actions.shape[-1])
    batched = jax.tree.map(lambda x: x[None], window)
    actions: Any = network.apply(state.params, batched)
    action = actions[0, -1]
    box = state.action_box
    zero = jnp.zeros_like(action)
    return Distribution(
        jnp.zeros(1), action[None], zero[None], box.shift, box.scale, kind="point"
    )
