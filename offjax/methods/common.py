"""What methods share: states, twin critics, presets, and acting without memory."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.datasets.text import TextEncoder
from offjax.distributions import Distribution
from offjax.errors import UserError, require_option
from offjax.improvement import action_gradient
from offjax.networks.initializers import INITIALIZATIONS, initialized
from offjax.networks.mlp import QEnsemble
from offjax.networks.trained import trained
from offjax.presets import PRESETS
from offjax.types import (
    Actor,
    Array,
    EnvSpec,
    Key,
    Model,
    Params,
    Pytree,
    QFunction,
    Recipe,
    Stage,
    Transitions,
    added,
    config,
)

CLIP = 5.0
Network = Any
"""A flax module. The type of `apply` is a union that fits no use of it."""


class TrainState(flax.struct.PyTreeNode):
    """What every state has; a method's `State` adds what it learns.

    `key` never changes: the randomness of an update is folded from it and `step`.
    """

    key: Key
    step: Array
    normalizer: Normalizer
    action_box: ActionBox


def start(key: Key, data: Pytree) -> dict[str, Any]:
    """The fields of `TrainState` at the first update, from a view's arrays."""
    statistics = data.statistics
    return {
        "key": key,
        "step": jnp.int32(0),
        "normalizer": Normalizer.from_statistics(statistics),
        "action_box": ActionBox(statistics.action_low, statistics.action_high),
    }


def zeros(data: Pytree) -> tuple[Array, Array]:
    """An observation [O] and an action [A] to initialize networks with."""
    statistics = data.statistics
    return (
        jnp.zeros_like(statistics.observation_mean),
        jnp.zeros_like(statistics.action_low),
    )


def start_actor_critic(
    key: Key,
    data: Pytree,
    actor: Network,
    critic: Network,
    config: Any,
    initialization: str = "lecun",
) -> dict[str, Any]:
    """`start` with policy and critics of their own step sizes, and target critics."""
    observation, action = zeros(data)
    actor_key, critic_key = jax.random.split(key)
    actor_params = initialized(
        actor.init(actor_key, observation), initialization, actor_key
    )
    critic_params = initialized(
        critic.init(critic_key, observation, action), initialization, critic_key
    )
    return start(key, data) | {
        "actor": trained(actor_params, optax.adam(config.actor_lr)),
        "critic": trained(critic_params, optax.adam(config.critic_lr)),
        "target_critic": jax.tree.map(jnp.copy, critic_params),
    }


def soft_update(params: Pytree, target: Pytree, tau: chex.Numeric) -> Pytree:
    """(1 − τ) · target + τ · params."""
    return optax.incremental_update(params, target, tau)


def average(params: Pytree, ema: Pytree, decay: chex.Numeric, step: Array) -> Pytree:
    """Moving average of `params` after update number `step`, counted from 0.

    Early averages forget quickly: else they would remember the initial parameters.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return optax.incremental_update(params, ema, 1 - decay)


def clipped(state: TrainState, observations: Array) -> Array:
    """Raw observations [..., O] → standardized ones within ±5.

    A joint that hardly moves in the data must not drown the others where it does.
    """
    return jnp.clip(state.normalizer(observations), -CLIP, CLIP)


@config
class LayersConfig:
    """How networks begin.

    Attributes:
      initialization: of linear layers, "lecun" or, as CORL's, "torch"; see
        `offjax.networks.initializers`.
    """

    initialization: str = added(default="lecun")

    def validate(self) -> None:
        """Refuses an unknown initialization."""
        require_option("initialization", self.initialization, INITIALIZATIONS)


@config
class TextConfig:
    """Hyperparameters of what reads instructions; see `offjax.datasets.text`."""

    text_encoder: str = "hash"
    text_weights: str = ""

    @property
    def text(self) -> TextEncoder:
        """What embeds instructions."""
        return TextEncoder(self.text_encoder, self.text_weights)


# -- twin critics -------------------------------------------------------------


def critics(hidden_dims: Sequence[int]) -> Network:
    """Twin critics: [..., O], [..., A] → [2, ...]."""
    return QEnsemble(hidden_dims)


def first_critic(
    params: Pytree, hidden_dims: Sequence[int], observations: Array, actions: Array
) -> Array:
    """Q_1 [...] alone: half the work, for losses that do not read the other."""
    first = jax.tree.map(lambda x: x[:1], params)
    return QEnsemble(hidden_dims, size=1).apply(first, observations, actions)[0]


def twin_values(model: Model, observation: Array, action: Array) -> Array:
    """Both online critics [2] at one raw observation [O] and environment action [A]."""
    state = model.state
    inputs = (state.normalizer(observation), state.action_box.to_unit(action))
    return critics(model.config.hidden_dims).apply(state.critic.params, *inputs)


def min_q_value(model: Model, observation: Array, action: Array) -> Array:
    """Minimum of the two online critics [] at one raw observation and action."""
    return twin_values(model, observation, action).min(0)


def bootstrap(batch: Transitions, next_values: Array, discount: chex.Numeric) -> Array:
    """r + γ (1 − terminal) · value, [B]."""
    return batch.rewards + discount * (1 - batch.terminals) * next_values


def squared_error(q: Array, targets: Array) -> Array:
    """Sum over the critics [2, B] of their mean squared error towards targets [B]."""
    return jnp.sum(jnp.mean((q - targets) ** 2, axis=-1))


# -- acting -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Memoryless(Actor):
    """Acts by the present observation alone.

    Attributes:
      stage: of the model that acts.
      propose: `(model, observation, key) → Distribution`.
    """

    stage: str
    propose: Callable[[Model, Array, Key], Distribution] = Model.act

    def act(
        self, params: Params, carry: Pytree, observation: Array, reward: Array, key: Key
    ) -> tuple[Distribution, Pytree]:
        """The model's distribution; the carry is empty."""
        return self.propose(params.models[self.stage], observation, key), carry


def memoryless(
    stage: str, propose: Callable[..., Distribution] = Model.act
) -> Callable[[Recipe], Actor]:
    """`Recipe.actor` that is `Memoryless`."""
    return lambda recipe: Memoryless(stage, propose)


def reads_critic(stage: str) -> Callable[[Params], QFunction]:
    """`Recipe.critic` that is the `q_value` of a stage, in the operator's unit."""
    return lambda params: in_unit(params, stage, params.models[stage].q_value)


def actor_critic(stage: Stage, **settings: Any) -> Recipe:
    """The recipe of one stage with policy and critic, which acts with the policy."""
    name = stage.name
    actor, critic = memoryless(name), reads_critic(name)
    return Recipe(name, (stage,), actor, critic=critic, **settings)


def in_unit(params: Params, stage: str, q: QFunction) -> QFunction:
    """The critic `q` of a stage as the operator of `params` reads it.

    Where Action Gradient's steps are normalized it is divided by its median gradient,
    which the stage `gradient_norm` has measured; `UserError` without that stage.
    """
    operator = params.improve
    gradient = isinstance(operator, action_gradient.Config)
    if not gradient or operator.step_mode != "normalized":
        return q
    if "gradient_norm" not in params.models:
        raise UserError(
            f"step_mode=normalized needs the size of the gradients of {stage}, "
            "which this run has not measured: take step_mode=raw, or train with "
            "--method=compose --improve=action_gradient."
        )
    unit = params.models["gradient_norm"].state.norm
    return lambda observation, action: q(observation, action) / unit


# -- presets ------------------------------------------------------------------


def pick(preset: str, **by_preset: Any) -> Any:
    """The value for a preset: `pick(preset, paper=…, small=…, demo=…)`."""
    require_option("preset", preset, PRESETS)
    return by_preset[preset]


def domain(spec: EnvSpec | None) -> str:
    """The dataset's domain, "" where it is unknown."""
    return spec.domain if spec is not None else ""


def d4rl_name(dataset: str) -> str:
    """D4RL's name of a dataset, or of the one it is modeled on, without the version.

    "hopper-medium" for hopper-medium-v2 and for offjax/hopper/medium-v0.
    """
    name = dataset.removeprefix("offjax/").replace("/", "-")
    return re.sub(r"-v\d+$", "", name)


def narrow(preset: str, *fields: str, depth: int = 2) -> dict[str, Any]:
    """Sizes off preset paper: networks 64 wide, and 64 rows in a batch.

    Bootstrapping needs many updates before it needs wide networks.

    Args:
      preset: one of `PRESETS`; paper keeps the published sizes, the config's defaults.
      *fields: which hyperparameters hold widths; else `hidden_dims`.
      depth: hidden layers.

    Returns:
      Hyperparameter → value.
    """
    if preset == "paper":
        return {}
    widths = dict.fromkeys(fields or ("hidden_dims",), (64,) * depth)
    return widths | {"batch_size": 64}


def step_rewards(spec: EnvSpec | None) -> float:
    """Factor on the rewards with which they are about 1 a step.

    Published settings of value-based methods presume that; Budget Allocation's are 1/T.
    """
    if spec is None or spec.domain != "budget":
        return 1.0
    return float(spec.horizon)
