"""Ranges of hyperparameters by name; algorithms and operators know more."""

from __future__ import annotations

import math
from typing import Any

from offjax.errors import UserError

MAX_INT = 2**31 - 1
FRACTIONS = (
    "decay", "discount", "ema_decay", "expectile", "polyak", "rho", "second_decay",
    "tau", "top_quantile",
)  # fmt: skip
"""Fields that mean nothing outside [0, 1], in whatever stage."""


def require_sound(name: str, value: Any, default: Any, owner: str) -> None:
    """Refuses what no setting can be; algorithms and operators know more."""
    numbers = value if isinstance(value, tuple) else (value,)
    field = name.rsplit(".", 1)[-1]
    least = 1 if field == "batch_size" or field.endswith("_dims") else 0
    rate = field == "lr" or field.endswith("_lr")
    for number in numbers:
        if isinstance(number, float) and math.isnan(number):
            raise UserError(f"--config.{name}={value!r} is not a number.")
        if rate and not 0 <= number < math.inf:
            raise UserError(
                f"--config.{name}={value!r} is out of range: a learning rate is at "
                "least 0 and finite."
            )
        if field in FRACTIONS and not 0 <= number <= 1:
            raise UserError(
                f"--config.{name}={value!r} is out of range: it lies in [0, 1]."
            )
        if type(number) is not int or owner == "improve":
            continue
        signed = isinstance(default, int) and default < 0
        if number < least and not signed:
            raise UserError(
                f"--config.{name}={value!r} is out of range: at least {least} is "
                "needed."
            )
        if number > MAX_INT:
            raise UserError(
                f"--config.{name}={value!r} is out of range: at most {MAX_INT}."
            )
