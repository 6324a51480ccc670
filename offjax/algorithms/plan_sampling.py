"""How a trained planner is sampled: settings alone, nothing is learnt.

They are a stage of their own so that they are no part of what was trained: one planner
serves every sampler, number of steps and rate of replanning.
"""

from __future__ import annotations

from typing import Any

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
      UserError: an unknown sampler, no steps, or an η outside [0, 1].
    """
    if config.sampler not in SAMPLERS:
        raise UserError(
            f"sampler is {config.sampler!r}; choose one of {', '.join(SAMPLERS)}."
        )
    for name in ("replan", "sampling_steps"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}: at least 1 is needed.")
    if not 0 <= config.eta <= 1:
        raise UserError(f"eta is {config.eta}; it must lie between 0 and 1.")


def check_planner(config: Config, planner: Any, executed: bool) -> None:
    """Refuses settings that do not fit the planner that is to be sampled.

    Args:
      config: how to sample.
      planner: config of the planner; without `diffusion_steps`, one that predicts.
      executed: whether the plan's own actions are executed, not its subgoal pursued.

    Raises:
      UserError: more steps or rows than the planner has, or a plan that ends before
        the next one is made.
    """
    total = getattr(planner, "diffusion_steps", 0)
    if total and config.sampler == "ddim" and config.sampling_steps > total:
        raise UserError(
            f"sampling_steps is {config.sampling_steps}, but the planner is trained "
            f"with diffusion_steps={total}: choose 1 … {total}."
        )
    if config.rows > planner.horizon:
        raise UserError(
            f"rows is {config.rows}, but the planner is trained on plans of horizon="
            f"{planner.horizon} rows: choose 1 … {planner.horizon}, or 0 for all."
        )
    # A subgoal is pursued on after its time has come; actions come to an end.
    rows = (config.rows if executed else 0) or planner.horizon
    if config.replan > rows * planner.stride:
        raise UserError(
            f"replan is {config.replan}, but a plan of {rows} rows with stride="
            f"{planner.stride} spans {rows * planner.stride} steps: choose "
            f"1 … {rows * planner.stride}, or a longer plan."
        )


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
