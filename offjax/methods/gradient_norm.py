"""Median size of a critic's action gradient on the data: the unit of step sizes.

    m = median over recorded (s, a) of ‖∇_a Q(s, a)‖

Action Gradient moves by η ∇_a Q, so that η means something else for every reward scale.
A stage of one update measures m of the only critic that it reads, and the operator's
"normalized" step sizes are in units of (action range) / m: see `common.reads_critic`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from offjax.improvement.action_gradient import median_gradient_norm
from offjax.methods.common import TrainState, start
from offjax.types import Array, Key, Method, Stage, Transitions, Upstream, config


@config
class Config:
    """`batch_size` recorded pairs are what the median is taken over."""

    batch_size: int = 1024


class State(TrainState):
    """The median of the last batch."""

    norm: Array  # []


def init(key: Key, data: Any, config: Config, upstream: Upstream) -> State:
    """Norm 1, until the first update."""
    return State(**start(key, data), norm=jnp.float32(1.0))


def update(
    state: State, batch: Transitions, config: Config, upstream: Upstream
) -> tuple[State, dict[str, Array]]:
    """Measures the median on a batch."""
    (critic,) = upstream.values()
    norm = median_gradient_norm(critic.q_value, batch.observations, batch.actions)
    # A critic that is flat everywhere has no unit; 1 leaves it as it is.
    norm = jnp.where(norm > 0, norm, 1.0)
    state = state.replace(norm=norm, step=state.step + 1)
    return state, {"gradient_norm/median": norm}


METHOD = Method("gradient_norm", 1, init, update, cameras=True)


def stage(critic: Stage) -> Stage:
    """Stage `gradient_norm`: one measurement of a critic's stage, on its own rows."""
    reads = (critic.name,)
    return Stage("gradient_norm", METHOD, Config(), critic.view, 1, reads, True)
