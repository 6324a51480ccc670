"""How a trained planner is sampled: the entry "sampling" of a recipe's `acting`.

It is no part of what is trained: one planner serves every sampler, number of steps and
rate of replanning.
"""

from __future__ import annotations

from typing import Any

from offjax.errors import UserError
from offjax.types import config, static

SAMPLERS = ("ddim", "ddpm")


@config
class Config:
    """Settings.

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

    def validate(self) -> None:
        """Refuses settings that make no sense.

        Raises:
          UserError: an unknown sampler, no steps, or an η outside [0, 1].
        """
        if self.sampler not in SAMPLERS:
            raise UserError(
                f"sampler is {self.sampler!r}; choose one of {', '.join(SAMPLERS)}."
            )
        for name in ("replan", "sampling_steps"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"{name} is {getattr(self, name)}: at least 1 is needed."
                )
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta is {self.eta}; it must lie between 0 and 1.")


def check_steps(sampling: Config, diffusion_steps: int) -> None:
    """Refuses more steps of DDIM than the planner is trained with.

    Raises:
      UserError: there are more.
    """
    if sampling.sampler == "ddim" and sampling.sampling_steps > diffusion_steps:
        raise UserError(
            f"sampling_steps is {sampling.sampling_steps}, but the planner is trained "
            f"with diffusion_steps={diffusion_steps}: choose 1 … {diffusion_steps}."
        )


def check_rows(sampling: Config, planner: Any, executed: bool) -> None:
    """Refuses plans that are shorter than what is asked of them.

    Args:
      sampling: how to sample.
      planner: config of the planner.
      executed: whether the plan's own actions are executed, not its subgoal pursued.

    Raises:
      UserError: more rows than the planner has, or a plan that ends before the next
        one is made.
    """
    if sampling.rows > planner.horizon:
        raise UserError(
            f"rows is {sampling.rows}, but the planner is trained on plans of horizon="
            f"{planner.horizon} rows: choose 1 … {planner.horizon}, or 0 for all."
        )
    # A subgoal is pursued on after its time has come; actions come to an end.
    rows = (sampling.rows if executed else 0) or planner.horizon
    if sampling.replan > rows * planner.stride:
        raise UserError(
            f"replan is {sampling.replan}, but a plan of {rows} rows with stride="
            f"{planner.stride} spans {rows * planner.stride} steps: choose "
            f"1 … {rows * planner.stride}, or a longer plan."
        )
