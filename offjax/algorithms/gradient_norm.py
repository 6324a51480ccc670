"""Median size of a critic's action gradient on the data: the unit of step sizes.

    m = median over recorded (s, a) of ‖∇_a Q(s, a)‖

Action Gradient moves by η ∇_a Q, so that η means something else for every reward scale.
A stage of one update with this algorithm measures m, and the operator's "normalised"
step sizes are in units of (action range) / m.
"""

from __future__ import annotations

import sys
from typing import Any

import chex
import flax.struct
import jax.numpy as jnp

from offjax.algorithms import iql
from offjax.improvement.action_gradient import median_gradient_norm
from offjax.types import Context, Key, Transitions, config


@config
class Config:
    """Settings.

    Attributes:
      critic: settings of the stage that is read, of the module whose `q_value` is the
        critic.
      batch_size: recorded pairs that the median is taken over.
    """

    critic: Any = iql.Config()
    batch_size: int = 1024


class State(flax.struct.PyTreeNode):
    """The median of the last batch."""

    norm: chex.Array
    key: Key
    step: chex.Array


def init(key: Key, example: Any, config: Config, context: Context) -> State:
    """Norm 1, until the first update."""
    del example, config, context
    return State(jnp.float32(1.0), key, jnp.int32(0))


def update(
    state: State, batch: Transitions, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """Measures the median on a batch, with the critic of the stage that is read."""
    (critic,) = context.values()
    algorithm = sys.modules[type(config.critic).__module__]

    def q_function(observation: chex.Array, action: chex.Array) -> chex.Array:
        return algorithm.q_value(critic, observation, action, config.critic)

    norm = median_gradient_norm(q_function, batch.observations, batch.actions)
    # A critic that is flat everywhere has no unit; 1 leaves it as it is.
    norm = jnp.where(norm > 0, norm, 1.0)
    state = state.replace(norm=norm, step=state.step + 1)
    return state, {"gradient_norm/median": norm}
