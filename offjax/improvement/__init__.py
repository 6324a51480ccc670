"""Operators that turn an action distribution and a critic into a better action.

Training-free: `operator(distribution, q, key, config) → action`, for one state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offjax.improvement import action_gradient, best_of_n, mode_selection, operators
from offjax.types import Array, Improvement

OPERATORS: dict[str, tuple[Callable[..., Array], Any]] = {
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
