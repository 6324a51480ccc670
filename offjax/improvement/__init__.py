"""Operators that turn an action distribution and a critic into a better action.

Training-free: `operator(distribution, q, key, config) → action`, for one state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chex

from offjax.errors import UserError
from offjax.improvement import (
    action_gradient,
    best_of_n,
    closed_form,
    mode_selection,
    operators,
)
from offjax.types import Improvement

__all__ = [
    "MASKS",
    "OPERATORS",
    "action_gradient",
    "best_of_n",
    "closed_form",
    "improvement",
    "mode_selection",
    "operators",
    "validate",
]

OPERATORS: dict[str, tuple[Callable[..., chex.Array], Any]] = {
    "closed_form_gaussian": (operators.gaussian, operators.GaussianConfig),
    "closed_form_mixture": (operators.mixture, operators.MixtureConfig),
    "closed_form_deterministic": (
        operators.deterministic,
        operators.DeterministicConfig,
    ),
    "best_of_n": (best_of_n.improve, best_of_n.Config),
    "mode_selection": (mode_selection.improve, mode_selection.Config),
    "action_gradient": (action_gradient.action_gradient, action_gradient.Config),
}
"""Name → the operator and the class of its settings."""


def improvement(name: str, **settings: Any) -> Improvement:
    """The operator `name` of `OPERATORS` with these settings."""
    operator, config = OPERATORS[name]
    return Improvement(name, operator, config(**settings))


MASKS = {"n": ("active_n", 1), "ascent_steps": ("active_steps", 0)}
"""Number of candidates → the traced field that hides those beyond it, and its least.

The first candidates are the same whatever their number, so that a grid over it runs
the largest number once.
"""

LEAST = {
    "log_tau": 0.0,
    "log_tau_max": 0.0,
    "delta": 0.0,
    "weight_threshold": 0.0,
    "n": 1,
    "num_draws": 1,
    "num_candidates": 1,
}
"""Setting → the least value that has a meaning."""


def validate(config: Any) -> None:
    """Refuses settings of an operator that have no meaning; values must be known.

    Operators check what they are given, too, but not inside a compiled program.

    Raises:
      UserError: a value below its least, or not a number.
    """
    for name, least in LEAST.items():
        value = getattr(config, name, least)
        if not value >= least:
            raise UserError(
                f"{name} is {value}, but the operator needs at least {least:g}."
            )
    size = getattr(config, "step_size", 1.0)
    if not size > 0:
        raise UserError(
            f"step_size is {size}; it must be above 0. For the policy without "
            "refinement set ascent_steps=0."
        )
    lowest, highest = getattr(config, "log_tau", 0), getattr(config, "log_tau_max", 0)
    if getattr(config, "num_draws", 1) > 1 and highest < lowest:
        raise UserError(
            f"log_tau is {lowest} and log_tau_max {highest}: with num_draws > 1 they "
            "are the ends of a range, so the first must not be above the second."
        )
