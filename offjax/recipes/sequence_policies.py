"""How sequence models act: a rolling context of fixed size, filled step by step."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any, NamedTuple

import chex
import jax.numpy as jnp

from offjax.distributions import Distribution
from offjax.networks.transformer import Steps, empty_window, push
from offjax.types import Key, Params, Policy, Pytree


class Carry(NamedTuple):
    """The last K steps, and where the episode stands."""

    window: Steps  # [K, …], actions in the environment's units
    target: chex.Array  # [] return still asked for, scaled
    time: chex.Array  # [] steps since the episode began


@dataclasses.dataclass(frozen=True)
class SequencePolicy(Policy):
    """What acting with a sequence model has in common: a rolling context of K steps.

    The window has a fixed size, its newest step last and a mask over the steps that
    have happened, so that one program serves the whole episode.

    Attributes:
      stage: of the sequence model.
      algorithm: its module.
      config: its settings; read for what fixes shapes.
    """

    stage: str
    algorithm: ModuleType
    config: Any

    def init(self, params: Params, task: Pytree, key: Key) -> Carry:
        """An empty context; `task` is the return that is asked for, if any."""
        del key
        state, settings = params.states[self.stage], params.configs[self.stage]
        window = empty_window(
            self.config.context_length,
            state.normalizer.mean.shape[-1],
            state.action_box.low.shape[-1],
        )
        return Carry(window, self._target(state, settings, task), jnp.int32(0))

    def _target(self, state: Pytree, settings: Any, task: Pytree) -> chex.Array:
        del state, settings, task
        return jnp.float32(0)

    def _push(
        self, state: Pytree, carry: Carry, observation: chex.Array, target: chex.Array
    ) -> Steps:
        """The window with the present step, its actions still raw."""
        last = self.config.max_timesteps - 1
        if self.config.unseen_timesteps == "last":
            last = jnp.minimum(state.last_timestep, last)
        timestep = jnp.minimum(carry.time, last).astype(jnp.int32)
        return push(carry.window, state.normalizer(observation), target, timestep)

    def record(self, carry: Carry, action: chex.Array) -> Carry:
        """The executed action becomes history (unless that is to be the base one)."""
        window = carry.window
        if self.config.history == "executed":
            window = _with_action(window, action)
        return carry._replace(window=window, time=carry.time + 1)

    def _finish(
        self, carry: Carry, window: Steps, distribution: Distribution
    ) -> tuple[Distribution, Carry]:
        if self.config.history == "base":
            window = _with_action(window, distribution.mode())
        return distribution, carry._replace(window=window)


def _with_action(window: Steps, action: chex.Array) -> Steps:
    return window._replace(actions=window.actions.at[-1].set(action))


def _in_unit_box(window: Steps, state: Pytree) -> Steps:
    return window._replace(actions=state.action_box.to_unit(window.actions))


@dataclasses.dataclass(frozen=True)
class ReturnConditionedPolicy(SequencePolicy):
    """Decision Transformer: asks for a return, less what has been collected.

    Where `init` is given no task, the return is the `return_target` of the settings.
    """

    def _target(self, state: Pytree, settings: Any, task: Pytree) -> chex.Array:
        asked = settings.return_target if task is None else task
        return jnp.asarray(asked, jnp.float32) / state.return_scale

    def propose(
        self,
        params: Params,
        carry: Carry,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, Carry]:
        """The action that goes with the return still asked for."""
        del key
        state, settings = params.states[self.stage], params.configs[self.stage]
        earned = self.config.reward_scale * reward + self.config.reward_shift
        earned = jnp.where(carry.time > 0, earned, 0.0) / state.return_scale
        carry = carry._replace(target=carry.target - earned)
        window = self._push(state, carry, observation, carry.target)
        distribution = self.algorithm.distribution(
            state, _in_unit_box(window, state), settings
        )
        return self._finish(carry, window, distribution)


@dataclasses.dataclass(frozen=True)
class MaxReturnPolicy(SequencePolicy):
    """Reinformer: predicts the greatest return from here, and acts towards it."""

    def propose(
        self,
        params: Params,
        carry: Carry,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Distribution, Carry]:
        """The action that goes with the predicted return; no target, no decrement."""
        del reward, key
        state, settings = params.states[self.stage], params.configs[self.stage]
        window = self._push(state, carry, observation, jnp.float32(0))
        inputs = _in_unit_box(window, state)
        # Causality hides the placeholder from the token that predicts it.
        predicted = self.algorithm.predict_return(state, inputs, settings)
        returns = window.returns.at[-1].set(predicted)
        distribution = self.algorithm.distribution(
            state, inputs._replace(returns=returns), settings
        )
        return self._finish(carry, window._replace(returns=returns), distribution)
