"""Reinformer with separate networks: maximize the return, then imitate towards it.

Zhuang et al., "Reinformer: Max-Return Sequence Modeling for Offline RL", 2024
(https://arxiv.org/abs/2405.08740), as changed by the Action Gradient paper
(https://arxiv.org/abs/2510.05285): returns and actions are predicted by two independent
post-norm transformers that read (s_1, R_1, a_1, s_2, …), one set of hyperparameters
serves all environments, and the context's length adapts while acting.

    returns   R̂_t from the token of s_t; with u = (R_t - R̂_t) / E|R|
              minimize  E |τ - 1(u < 0)| u²
    actions   N(μ_t, σ²) from the token of R_t, μ_t = tanh(W h + b), σ learned, global
              minimize  -E log N(a_t; μ_t, σ²) - α H(σ),   α ← α (H - H_target) ↓

σ belongs to a plain Gaussian over the action in [-1, 1], without a tanh's Jacobian.
The two rivals of the Action Gradient paper change the loss of the actions, with the
critic of an earlier stage and μ_t for π:

    pg     (eq. 9)    … - w E[Q(s, μ)] / E|Q(s, μ)|     (the divisor is a constant)
    awac   (eq. 10)   -E[min(exp((Q(s, a) - Q(s, μ)) / λ), 100) log N(a; μ, σ²)] - α H

Equation (10) is printed without its minus sign and without a bound on the weight.
The paper gives neither w and λ nor the sizes of the networks. The recipes with a critic
are in `offjax.methods.action_gradient`.
"""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.trajectories import Segments, SegmentView, Trajectories
from offjax.distributions import LOG_2PI, Distribution, gaussian
from offjax.errors import require_option
from offjax.methods.common import domain
from offjax.methods.sequence import (
    MAZE_RETURN_SCALE,
    MaxReturnActor,
    SequenceConfig,
    SequenceState,
    sequence_stage,
    sizes,
    start_sequence,
    steps_of,
    transformed,
)
from offjax.networks.trained import Trained, descend, trained
from offjax.networks.transformer import (
    Linear,
    Steps,
    TrajectoryTransformer,
    example_steps,
)
from offjax.types import (
    Actor,
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
    static,
)

CONTEXTS = ("chain", "every", "none")
MAX_WEIGHT = 100.0
MIN_RETURN_SIZE = 1e-3


@config
class Config(SequenceConfig):
    """Hyperparameters, those of Reinformer's code where it has them.

    Attributes:
      expectile: τ of the returns' loss.
      initial_alpha: α before the first update.
      alpha_lr: Adam's step size for log α.
      time_std: of the time embeddings at first; at PyTorch's 1, the default, they are
        many times the embedded return of sparse rewards, which is then learned last.
      discount: of the returns-to-go; 1 as published. Below 1, one who comes to the
        reward sooner has a greater return, also where the data never stay there.
      optimizer: "lamb", or "adamw", with which few updates go further.
      return_history: whether the returns' network reads the "returns" of earlier steps,
        as published, or "none". Reading them it learns to repeat the last one, and
        while acting repeats what it said at the start.
      adaptive_context: how far back the actions' network sees. "chain": as long as each
        predicted return is above the next one, "every": above the present one, both
        strictly; "none": K steps.
      extra: "none", "pg" or "awac"; the latter two read the stage "critic".
      extra_weight: w of pg (the paper's α).
      awac_lambda: λ of awac.
    """

    expectile: float = 0.99
    initial_alpha: float = 0.1
    alpha_lr: float = 1e-4
    time_std: float = static(default=1.0)
    discount: float = static(default=1.0)
    optimizer: str = "lamb"
    return_history: str = "returns"
    adaptive_context: str = "chain"
    extra: str = "none"
    extra_weight: float = 1.0
    awac_lambda: float = 1.0
    warmup_steps: float = 5000.0
    num_layers: int = 4
    num_heads: int = 8
    width: int = 256
    weighting: str = "uniform"
    batch_size: int = 128

    def validate(self) -> None:
        """Raises `UserError` for sizes that do not fit together, unknown options."""
        SequenceConfig.validate(self)
        require_option("optimizer", self.optimizer, ("lamb", "adamw"))
        require_option("return_history", self.return_history, ("returns", "none"))
        require_option("adaptive_context", self.adaptive_context, CONTEXTS)
        require_option("extra", self.extra, ("none", "pg", "awac"))


class State(SequenceState):
    """Both networks, and the entropy's weight."""

    returns: Trained
    actions: Trained
    log_alpha: Trained


def transformer(config: Config, reads: tuple[str, ...]) -> nn.Module:
    """Reinformer's transformer: post-norm, no dropout of the embedded tokens."""
    return TrajectoryTransformer(
        order=("observations", "returns", "actions"),
        reads=reads,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        width=config.width,
        max_timesteps=config.max_timesteps,
        dropout=config.dropout,
        attention_dropout="output",
        pre_norm=False,
        activation="gelu",
        embedding_dropout=False,
        time_std=config.time_std,
        name="transformer",
    )


class ReturnNetwork(nn.Module):
    """Greatest return-to-go that the data hold out from here."""

    config: Config

    @nn.compact
    def __call__(self, steps: Steps, train: bool = False) -> Array:
        """Scaled returns [B, K]."""
        if self.config.return_history == "none":
            steps = steps._replace(returns=jnp.zeros_like(steps.returns))
        hidden = transformer(self.config, ("observations",))(steps, train)
        return Linear(1, name="head")(hidden["observations"])[..., 0]


class ActionNetwork(nn.Module):
    """Gaussian action that leads to a return."""

    config: Config
    action_dim: int

    @nn.compact
    def __call__(self, steps: Steps, train: bool = False) -> tuple[Array, Array]:
        """Means [B, K, A] in the unit box and log standard deviations [A]."""
        hidden = transformer(self.config, ("returns",))(steps, train)
        mean = jnp.tanh(Linear(self.action_dim, name="head")(hidden["returns"]))
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_dim,))
        return mean, jnp.clip(log_std, -20.0, 2.0)


def optimizer(config: Config) -> optax.GradientTransformation:
    """LAMB or AdamW after clipping by global norm, with a linear warm-up."""
    make = optax.lamb if config.optimizer == "lamb" else optax.adamw
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        make(config.learning_rate, eps=1e-8, weight_decay=config.weight_decay),
    )


def initial_alpha(config: Config) -> Trained:
    """log α with its optimizer."""
    log_alpha = jnp.log(jnp.asarray(config.initial_alpha, jnp.float32))
    return trained(log_alpha, optax.adam(config.alpha_lr))


def init(key: Key, data: Trajectories, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    steps = example_steps(data.statistics)
    return_key, action_key = jax.random.split(key)
    returns = ReturnNetwork(config).init(return_key, steps)
    network = ActionNetwork(config, steps.actions.shape[-1])
    actions = network.init(action_key, steps)
    return State(
        **start_sequence(key, data),
        returns=trained(returns, optimizer(config)),
        actions=trained(actions, optimizer(config)),
        log_alpha=initial_alpha(config),
    )


def expectile_loss(
    predictions: Array, returns: Array, mask: Array, expectile: chex.Numeric
) -> Array:
    """Expectile regression of returns [B, K], in units of their mean size.

    Where rewards are sparse, a batch may hold no return at all: the unit has a floor.
    """
    count = jnp.sum(mask)
    size = jnp.maximum(jnp.sum(jnp.abs(returns) * mask) / count, MIN_RETURN_SIZE)
    errors = (returns - predictions) / size
    weights = jnp.abs(expectile - (errors < 0))
    return jnp.sum(weights * errors**2 * mask) / count


def log_prob(actions: Array, means: Array, log_std: Array) -> Array:
    """Log density [...] of actions [..., A] under N(means, exp(log_std)²)."""
    z = (actions - means) * jnp.exp(-log_std)
    return -0.5 * jnp.sum(z**2 + 2 * log_std + LOG_2PI, axis=-1)


def entropy(log_std: Array) -> Array:
    """Entropy of a diagonal Gaussian, from its log standard deviations [A]."""
    return jnp.sum(log_std + 0.5 * (LOG_2PI + 1.0))


def return_loss(
    params: Pytree, state: State, batch: Segments, key: Key, config: Config
) -> tuple[Array, None]:
    """Expectile loss of the returns' network; `key` is the dropout's."""
    steps = steps_of(batch)
    network = ReturnNetwork(config)
    predictions: Any = network.apply(params, steps, True, rngs={"dropout": key})
    loss = expectile_loss(predictions, steps.returns, batch.mask, config.expectile)
    return loss, None


def action_loss(
    params: Pytree,
    state: State,
    batch: Segments,
    key: Key,
    config: Config,
    upstream: Upstream,
) -> tuple[Array, dict[str, Array]]:
    """Loss of the actions' network and its parts; `key` is the dropout's."""
    steps, mask = steps_of(batch), batch.mask
    network = ActionNetwork(config, steps.actions.shape[-1])
    output: Any = network.apply(params, steps, True, rngs={"dropout": key})
    means, log_std = output
    count = jnp.sum(mask)
    log_likelihood = log_prob(steps.actions, means, log_std)
    spread = entropy(log_std)
    extra = jnp.zeros(())

    def q(actions: Array) -> Array:
        observations = state.normalizer.inverse(steps.observations)
        actions = state.action_box.from_unit(actions)
        return upstream["critic"].q_value(observations, actions)

    if config.extra == "awac":
        advantages = q(steps.actions) - q(means)
        weights = jnp.exp(advantages / config.awac_lambda)
        weights = jax.lax.stop_gradient(jnp.minimum(weights, MAX_WEIGHT))
        log_likelihood = weights * log_likelihood
    elif config.extra == "pg":
        values = q(means)
        size = jax.lax.stop_gradient(jnp.sum(jnp.abs(values) * mask) / count)
        extra = -config.extra_weight * jnp.sum(values * mask) / count / size
    fit = jnp.sum(log_likelihood * mask) / count
    loss = -fit - jnp.exp(state.log_alpha.params) * spread + extra
    return loss, {"log_likelihood": fit, "entropy": spread, "extra": extra}


def alpha_loss(log_alpha: Array, spread: Array, action_dim: int) -> tuple[Array, None]:
    """α (H - H_target) with H_target = -A: α falls while the entropy is above it."""
    return jnp.exp(log_alpha) * (spread + action_dim), None


def update(
    state: State, batch: Segments, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step for each network, and one of Adam for the entropy's weight."""
    batch = transformed(state, batch)
    key = jax.random.fold_in(state.key, state.step)
    return_key, action_key = jax.random.split(key)
    step, adam = optimizer(config), optax.adam(config.alpha_lr)
    returns, return_value, _ = descend(
        return_loss, state.returns, step, state, batch, return_key, config
    )
    args = (state, batch, action_key, config, upstream)
    actions, action_value, parts = descend(action_loss, state.actions, step, *args)
    target = (parts["entropy"], batch.actions.shape[-1])
    log_alpha, _, _ = descend(alpha_loss, state.log_alpha, adam, *target)
    metrics = {
        "return_loss": return_value,
        "action_loss": action_value,
        "alpha": jnp.exp(state.log_alpha.params),
    }
    state = state.replace(
        returns=returns, actions=actions, log_alpha=log_alpha, step=state.step + 1
    )
    return state, {f"reinformer/{k}": v for k, v in (metrics | parts).items()}


def context_mask(returns: Array, mask: Array, rule: str) -> Array:
    """Steps [K] of a window that the actions' network sees.

    Of those that happened, `mask` [K], by the predicted returns [K], the present one
    last; `rule` is `Config.adaptive_context`.
    """
    if rule == "none":
        return mask
    later = returns[1:] if rule == "chain" else returns[-1]
    above = jnp.append(returns[:-1] > later, True)
    kept = jnp.cumprod(above[::-1])[::-1].astype(bool)
    return kept & mask


def predict_return(model: Model, window: Steps) -> Array:
    """Scaled return [] at the last step of a context [K, …]."""
    batched = jax.tree.map(lambda x: x[None], window)
    network = ReturnNetwork(model.config)
    returns: Any = network.apply(model.state.returns.params, batched)
    return returns[0, -1]


def act(model: Model, window: Steps, key: Key) -> Distribution:
    """Gaussian action at the last step of a context [K, …] that holds its return."""
    state, config = model.state, model.config
    mask = context_mask(window.returns, window.mask, config.adaptive_context)
    batched = jax.tree.map(lambda x: x[None], window._replace(mask=mask))
    network = ActionNetwork(config, window.actions.shape[-1])
    output: Any = network.apply(state.actions.params, batched)
    means, log_std = output
    box = state.action_box
    return gaussian(means[0, -1], jnp.exp(log_std), box.shift, box.scale)


METHOD = Method("reinformer", 1, init, update, act)


def stage(spec: EnvSpec | None, preset: str, **settings: Any) -> Stage:
    """Stage `reinformer`: one set of hyperparameters for all environments.

    Off preset paper it learns in a few thousand updates.
    """
    base = sizes(spec, preset, {})
    if preset != "paper":
        base |= {"optimizer": "adamw", "return_history": "none", "time_std": 0.02}
        if domain(spec) == "maze2d":
            base["return_scale"] = MAZE_RETURN_SCALE
    config = Config(**(base | settings))
    reads = ("critic",) if config.extra != "none" else ()
    view = SegmentView(discounted=True)
    return sequence_stage(METHOD, config, view, preset, 50_000, reads)


def actor(recipe: Recipe) -> Actor:
    """`Recipe.actor` of the stage `reinformer`."""
    history = recipe.config("reinformer").history
    return MaxReturnActor("reinformer", history, predict_return)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Reinformer as the Action Gradient paper has it: two networks, n = 0."""
    return Recipe("reinformer", (stage(spec, preset),), actor)
