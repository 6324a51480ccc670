"""How a trained planner is sampled: settings alone, nothing is learnt.

They are a stage of their own so that they are no part of what was trained: one planner
serves every sampler, number of steps and rate of replanning.
"""

from __future__ import annotations

import chex
import flax.struct
import jax.numpy as jnp

from offjax.errors import UserError
from offjax.types import Context, Key, Pytree, config, static

SAMPLERS = ("ddim", "ddpm")


@config
class Config:
    """Hyperparameters.

    Attributes:
      sampler: "ddim", or "ddpm", which takes all steps of training.
      sampling_steps: of DDIM.
      eta: of DDIM: 0 is deterministic, 1 as random as DDPM.
      rows: of the sampled plan; 0: as many as in training.
      replan: environment steps between two plans.
    """

    sampler: str = "ddim"
    sampling_steps: int = 10
    eta: float = static(default=0.0)
    rows: int = 0
    replan: int = 16


class State(flax.struct.PyTreeNode):
    """What the runner needs of any state."""

    key: Key
    step: chex.Array


def validate(config: Config) -> None:
    """Refuses settings that make no sense.

    Raises:
      UserError: an unknown sampler, or no steps.
    """
    if config.sampler not in SAMPLERS:
        raise UserError(
            f"sampler is {config.sampler!r}; choose one of {', '.join(SAMPLERS)}."
        )
    if config.replan < 1:
        raise UserError(f"replan is {config.replan}: at least 1 step is needed.")


def init(key: Key, example: Pytree, config: Config, context: Context) -> State:
    """A state without parameters.

    Raises:
      UserError: as `validate`.
    """
    del example, context
    validate(config)
    return State(key, jnp.int32(0))


def update(
    state: State, batch: Pytree, config: Config, context: Context
) -> tuple[State, dict[str, chex.Array]]:
    """Counts."""
    del batch, config, context
    return state.replace(step=state.step + 1), {}
