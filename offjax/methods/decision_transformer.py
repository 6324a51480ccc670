"""Decision Transformer: imitation conditioned on the return that is to come.

Chen et al., 2021 (https://arxiv.org/abs/2106.01345). A pre-norm causal transformer
reads (R̂_1, s_1, a_1, R̂_2, s_2, …), R̂_t the undiscounted return-to-go over a scale,
and predicts from the token of s_t

    a_t = tanh(W h(s_t) + b),    minimize  E ‖u_t - a_t‖²

over the recorded steps of windows of K steps, u the action mapped to [-1, 1]. While
acting, R̂_0 is the return that one asks for and R̂_{t+1} = R̂_t - r_t / scale.

The defaults are those of the authors' code. CORL's implementation differs in
`activation="gelu"`, in `initialization="normal"` (everything N(0, 0.02²)), and in that
padded steps count in the mean's denominator.
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from offjax.datasets.trajectories import Segments, SegmentView, Trajectories
from offjax.distributions import Distribution, unit_point
from offjax.errors import UserError, require_option
from offjax.methods.common import domain
from offjax.methods.sequence import (
    MAZE_RETURN_SCALE,
    ReturnConditionedActor,
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
    ACTIVATIONS,
    Linear,
    Steps,
    TrajectoryTransformer,
    example_steps,
)
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
class Config(SequenceConfig):
    """Hyperparameters.

    Attributes:
      attention_dropout: "weights" (GPT-2) or "output".
      activation: "relu" or "gelu".
      initialization: "official" (PyTorch's outside the blocks) or "normal".
    """

    attention_dropout: str = "weights"
    activation: str = "relu"
    initialization: str = "official"

    def validate(self) -> None:
        """Raises `UserError` for sizes that do not fit together, unknown options."""
        SequenceConfig.validate(self)
        dropouts = ("weights", "output")
        require_option("attention_dropout", self.attention_dropout, dropouts)
        require_option("activation", self.activation, ACTIVATIONS)
        require_option("initialization", self.initialization, ("official", "normal"))


@config
class Conditioning:
    """What acting asks for.

    Attributes:
      return_target: return of an episode, in the units of the rewards.
    """

    return_target: float = math.nan

    def validate(self) -> None:
        """Raises `UserError` without a return target."""
        if math.isnan(self.return_target):
            raise UserError(
                "Decision Transformer has no return target for this environment: say "
                "which return it shall ask for with --config.return_target=… (the best "
                "of the data is a good choice)."
            )


class State(SequenceState):
    """The transformer."""

    network: Trained


class Network(nn.Module):
    """Transformer with the action head on the observations' tokens."""

    config: Config
    action_dim: int

    @nn.compact
    def __call__(self, steps: Steps, train: bool = False) -> Array:
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


def optimizer(config: Config) -> optax.GradientTransformation:
    """AdamW after clipping by global norm, with a linear warm-up."""
    return optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adamw(config.learning_rate, weight_decay=config.weight_decay),
    )


def init(key: Key, data: Trajectories, config: Config, upstream: Upstream) -> State:
    """Fresh state."""
    steps = example_steps(data.statistics)
    params = Network(config, steps.actions.shape[-1]).init(key, steps)
    return State(
        **start_sequence(key, data), network=trained(params, optimizer(config))
    )


def loss(
    params: Pytree, state: State, batch: Segments, key: Key, config: Config
) -> tuple[Array, None]:
    """Mean squared error of the actions on recorded steps; `key` is the dropout's."""
    steps = steps_of(batch)
    network = Network(config, steps.actions.shape[-1])
    actions: Any = network.apply(params, steps, True, rngs={"dropout": key})
    errors = jnp.mean((steps.actions - actions) ** 2, axis=-1) * batch.mask
    return jnp.sum(errors) / jnp.sum(batch.mask), None


def update(
    state: State, batch: Segments, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """One step of AdamW on a batch of segments."""
    batch = transformed(state, batch)
    key = jax.random.fold_in(state.key, state.step)
    network, value, _ = descend(
        loss, state.network, optimizer(config), state, batch, key, config
    )
    state = state.replace(network=network, step=state.step + 1)
    return state, {"decision_transformer/loss": value}


def act(model: Model, window: Steps, key: Key) -> Distribution:
    """The action, a point, at the last step of a context [K, …]."""
    network = Network(model.config, window.actions.shape[-1])
    batched = jax.tree.map(lambda x: x[None], window)
    actions: Any = network.apply(model.state.network.params, batched)
    box = model.state.action_box
    return unit_point(actions[0, -1], box.shift, box.scale)


METHOD = Method("decision_transformer", 1, init, update, act)
RETURN_TARGETS = {
    "hopper": 3600.0,
    "halfcheetah": 12_000.0,
    "walker2d": 5000.0,
    "reacher": 76.0,
    "maze2d": 280.0,
    "antmaze": 1.0,
    "pen": 3100.0,
    "door": 2900.0,
    "hammer": 12_800.0,
    "relocate": 4300.0,
}
"""Part of an environment's id → the larger of its return targets, published or CORL's.
"""


def return_target(spec: EnvSpec | None) -> float:
    """The published return target of an environment; NaN where there is none."""
    name = spec.id.lower() if spec is not None else ""
    known = (target for part, target in RETURN_TARGETS.items() if part in name)
    return next(known, math.nan)


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `decision_transformer`; returns over 1000 on locomotion, else raw.

    Off preset paper, the embeddings begin as small as the blocks' weights: PyTorch's
    embeddings of time, ten times an embedded return, are unlearned first.
    """
    settings = sizes(spec, preset, {"batch_size": 64})
    settings["return_scale"] = 1000.0 if domain(spec) == "locomotion" else 1.0
    if preset != "paper":
        settings["initialization"] = "normal"
        if domain(spec) == "maze2d":
            settings["return_scale"] = MAZE_RETURN_SCALE
    return sequence_stage(METHOD, Config(**settings), SegmentView(), preset, 100_000)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Decision Transformer, asking for the larger published return."""
    name = "decision_transformer"
    return Recipe(
        name,
        (stage(spec, preset),),
        lambda recipe: ReturnConditionedActor(name, recipe.config(name).history),
        acting={"conditioning": Conditioning(return_target(spec))},
    )
