"""What sequence models share: their state, inputs and presets, and how they act.

A model reads a context of K steps. While acting it rolls: it has a fixed size, its
newest step last and a mask over the steps that have happened, so that one program
serves the whole episode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp

from offjax.datasets.trajectories import (
    WEIGHTINGS,
    Segments,
    SegmentView,
    Trajectories,
)
from offjax.distributions import Distribution
from offjax.errors import require_option
from offjax.methods.common import TrainState, pick, start
from offjax.networks.transformer import (
    HISTORIES,
    UNSEEN,
    Steps,
    check_sizes,
    empty_window,
    push,
)
from offjax.types import (
    Actor,
    Array,
    EnvSpec,
    Key,
    Method,
    Model,
    Params,
    Pytree,
    Stage,
    config,
    static,
)

MAZE_RETURN_SCALE = 10.0
"""In maze2d the return of an episode that comes to the goal is a tenth of the largest,
that of one which leaves it; presets for few updates scale by the former."""


@config
class SequenceConfig:
    """Hyperparameters that all sequence models have.

    Attributes:
      warmup_steps: updates over which the step size rises linearly to `lr`.
      max_grad_norm: global norm, per network, to which gradients are clipped.
      context_length: K, steps of a window and upper limit of the context.
      max_timesteps: entries of the table of time embeddings.
      width: size of the tokens.
      dropout: rate of every dropout.
      return_scale: what returns are divided by; 0: the data's largest.
      reward_scale: rewards count as reward_scale · r + reward_shift.
      reward_shift: see `reward_scale`.
      episode_length: 0 for episodes as recorded; else uninterrupted recordings are
        cut every so many steps, see `offjax.datasets.trajectories.recut`.
      rare_timesteps: share of the episodes; time steps that no more of them reach
        count as the last one that more do.
      weighting: of trajectories, "length" or "uniform".
      history: which action the context remembers: the "executed" one, or the "base"
        one that an improvement operator began with.
      unseen_timesteps: which embedding acting uses at time steps that the data lack:
        of the "last" that they have, or the "untrained" one, as published codes do.
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
    return_scale: float = static(default=0.0)
    reward_scale: float = static(default=1.0)
    reward_shift: float = static(default=0.0)
    episode_length: int = 0
    rare_timesteps: float = static(default=0.0)
    weighting: str = "length"
    history: str = "executed"
    unseen_timesteps: str = "last"
    batch_size: int = 64

    def validate(self) -> None:
        """Raises `UserError` for sizes that do not fit together, unknown options."""
        check_sizes(self.context_length, self.max_timesteps, self.width, self.num_heads)
        require_option("weighting", self.weighting, WEIGHTINGS)
        require_option("history", self.history, HISTORIES)
        require_option("unseen_timesteps", self.unseen_timesteps, UNSEEN)

    def learning_rate(self, count: chex.Numeric) -> chex.Numeric:
        """Step size at update `count`."""
        return self.lr * jnp.minimum((count + 1) / self.warmup_steps, 1.0)


class SequenceState(TrainState):
    """A `TrainState` with what a context needs beside the transforms."""

    return_scale: Array  # [] what returns are divided by
    last_timestep: Array  # [] greatest of the data


def start_sequence(key: Key, data: Trajectories) -> dict[str, Any]:
    """The fields of `SequenceState` at the first update."""
    return start(key, data) | {
        "return_scale": jnp.asarray(data.return_scale),
        "last_timestep": jnp.asarray(data.last_timestep),
    }


def transformed(state: SequenceState, batch: Segments) -> Segments:
    """Raw segments as networks see them; what the losses read."""
    return batch._replace(
        observations=state.normalizer(batch.observations),
        actions=state.action_box.to_unit(batch.actions),
        returns=batch.returns / state.return_scale,
    )


def steps_of(batch: Segments) -> Steps:
    """Inputs of the transformer; padding stands at the right, and needs no mask."""
    return Steps(batch.observations, batch.actions, batch.returns, batch.timesteps)


# -- presets ------------------------------------------------------------------


def sizes(spec: EnvSpec | None, preset: str, paper: dict[str, Any]) -> dict[str, Any]:
    """Settings of a sequence model; `paper` are the published ones.

    The other presets are for two cores: many windows of a single step. These
    environments are Markov, the steps of a long window nearly one, and a policy that
    reads its last action learns to repeat it (docs/results/action_gradient.md).
    """
    horizon = max(spec.horizon if spec is not None else 1000, 1000)
    small: dict[str, Any] = {
        "num_layers": 1,
        "num_heads": 2,
        "width": 64,
        "dropout": 0.0,
        "batch_size": 256,
        "context_length": 1,
        "warmup_steps": 100.0,
        "lr": 1e-3,
        "rare_timesteps": 0.1,
    }
    demo = small | {"width": 32, "batch_size": 128, "lr": 2e-3}
    return {"max_timesteps": horizon} | pick(
        preset, paper=paper, small=small, demo=demo
    )


def sequence_stage(
    method: Method,
    config: SequenceConfig,
    view: SegmentView,
    preset: str,
    paper_steps: int,
    reads: tuple[str, ...] = (),
) -> Stage:
    """A sequence model's stage, of the method's name; published: `paper_steps`."""
    steps = pick(preset, paper=paper_steps, small=10_000, demo=3_000)
    return Stage(method.name, method, config, view, steps, reads)


# -- acting -------------------------------------------------------------------


class Carry(NamedTuple):
    """The last K steps, and where the episode stands."""

    window: Steps  # [K, …], actions in the environment's units
    target: Array  # [] return still asked for, scaled
    time: Array  # [] steps since the episode began


@dataclasses.dataclass(frozen=True)
class SequenceActor(Actor):
    """What acting with a sequence model has in common: a rolling context of K steps.

    `history` is as of `SequenceConfig`.
    """

    stage: str
    history: str

    def begin(self, params: Params, task: Pytree, key: Key) -> Carry:
        """An empty context; `task` is the return that is asked for, if any."""
        model = params.models[self.stage]
        window = empty_window(
            model.config.context_length,
            model.state.normalizer.mean.shape[-1],
            model.state.action_box.low.shape[-1],
        )
        return Carry(window, self._target(params, task), jnp.int32(0))

    def _target(self, params: Params, task: Pytree) -> Array:
        return jnp.float32(0)

    def record(self, carry: Carry, action: Array) -> Carry:
        """The executed action becomes history (unless that is to be the base one)."""
        window = carry.window
        if self.history == "executed":
            window = _with_action(window, action)
        return carry._replace(window=window, time=carry.time + 1)

    def _finish(
        self, carry: Carry, window: Steps, distribution: Distribution
    ) -> tuple[Distribution, Carry]:
        if self.history == "base":
            window = _with_action(window, distribution.mode())
        return distribution, carry._replace(window=window)


def _pushed(model: Model, carry: Carry, observation: Array, target: Array) -> Steps:
    """The window with the present step, its actions still raw."""
    state, config = model.state, model.config
    last = config.max_timesteps - 1
    if config.unseen_timesteps == "last":
        last = jnp.minimum(state.last_timestep, last)
    timestep = jnp.minimum(carry.time, last).astype(jnp.int32)
    return push(carry.window, state.normalizer(observation), target, timestep)


def _with_action(window: Steps, action: Array) -> Steps:
    return window._replace(actions=window.actions.at[-1].set(action))


def _in_unit_box(model: Model, window: Steps) -> Steps:
    return window._replace(actions=model.state.action_box.to_unit(window.actions))


@dataclasses.dataclass(frozen=True)
class ReturnConditionedActor(SequenceActor):
    """Decision Transformer: asks for a return, less what has been collected.

    Where `begin` is given no task, the return is that of `Recipe.acting`'s entry
    "conditioning".
    """

    def _target(self, params: Params, task: Pytree) -> Array:
        asked = params.acting["conditioning"].return_target if task is None else task
        scale = params.models[self.stage].state.return_scale
        return jnp.asarray(asked, jnp.float32) / scale

    def act(
        self, params: Params, carry: Carry, observation: Array, reward: Array, key: Key
    ) -> tuple[Distribution, Carry]:
        """The action that goes with the return still asked for."""
        model = params.models[self.stage]
        earned = model.config.reward_scale * reward + model.config.reward_shift
        earned = jnp.where(carry.time > 0, earned, 0.0) / model.state.return_scale
        carry = carry._replace(target=carry.target - earned)
        window = _pushed(model, carry, observation, carry.target)
        distribution = model.act(_in_unit_box(model, window), key)
        return self._finish(carry, window, distribution)


@dataclasses.dataclass(frozen=True)
class MaxReturnActor(SequenceActor):
    """Reinformer: predicts the greatest return from here, and acts towards it.

    Attributes:
      predict_return: `(model, window) → scaled return []` at the window's last step.
    """

    predict_return: Callable[[Model, Steps], Array]

    def act(
        self, params: Params, carry: Carry, observation: Array, reward: Array, key: Key
    ) -> tuple[Distribution, Carry]:
        """The action that goes with the predicted return; no target, no decrement."""
        model = params.models[self.stage]
        window = _pushed(model, carry, observation, jnp.float32(0))
        context = _in_unit_box(model, window)
        # Causality hides the placeholder from the token that predicts it.
        predicted = self.predict_return(model, context)
        returns = window.returns.at[-1].set(predicted)
        distribution = model.act(context._replace(returns=returns), key)
        return self._finish(carry, window._replace(returns=returns), distribution)
