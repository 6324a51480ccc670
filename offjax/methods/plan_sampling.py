"""How a trained planner is sampled: the entry "sampling" of a recipe's `acting`.

It is no part of what is trained: one planner serves every sampler, number of steps and
rate of replanning.
"""

from __future__ import annotations

from offjax.errors import UserError, require_least, require_option
from offjax.methods.plans import PlanConfig
from offjax.types import added, config, static

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
      clip: bound of the predicted clean plan's entries at every step, in standardized
        units; 0: none.
    """

    sampler: str = "ddim"
    sampling_steps: int = 10
    eta: float = static(default=0.0)
    rows: int = 0
    replan: int = 16
    clip: float = added(default=0.0, static=True)

    def validate(self) -> None:
        """Raises `UserError` for an unknown sampler, or numbers out of range."""
        require_option("sampler", self.sampler, SAMPLERS)
        require_least(1, replan=self.replan, sampling_steps=self.sampling_steps)
        require_least(0, clip=self.clip)
        if not 0 <= self.eta <= 1:
            raise UserError(f"eta is {self.eta}; it must lie between 0 and 1.")


def check_rows(sampling: Config, planner: PlanConfig, executed: bool) -> None:
    """Raises `UserError` for plans that are shorter than what is asked of them.

    `executed` says whether their own actions are executed, not a subgoal pursued.
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
