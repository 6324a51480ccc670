"""Values of hyperparameters as they were typed → values of the right type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from offjax.errors import UserError

MAX_INT = 2**31 - 1
FRACTIONS = (
    "decay", "discount", "ema_decay", "expectile", "rho", "second_decay",
    "tau", "top_quantile",
)  # fmt: skip
"""Fields that mean nothing outside [0, 1], in whatever stage."""


def typed(name: str, values: Sequence[Any], default: Any, owner: str) -> list[Any]:
    """The values of an override, each once, as the type of `default`.

    Args:
      name: as it was typed, for errors.
      values: as they were typed.
      default: the hyperparameter's value without the override.
      owner: stage, entry of acting or "improve" that has it.

    Raises:
      UserError: no value, another type, or a value that makes no sense.
    """
    if not values:
        raise UserError(f"--config.{name} was given without a value.")
    if isinstance(default, tuple) and not isinstance(values[0], (tuple, list)):
        # One tuple, typed without its parentheses: 256,256 or open_window,close_window.
        parts = (v.split(",") if isinstance(v, str) else (v,) for v in values)
        values = [tuple(entry for part in parts for entry in part if entry != "")]
    if isinstance(default, str):
        values = [v for value in values for v in str(value).split(",")]
    coerced = [_coerce(name, value, default) for value in values]
    for value in coerced:
        _require_sound(name, value, default, owner)
    return list(dict.fromkeys(coerced))


def _coerce(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`, or a clear error."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e4
    if kind is tuple and isinstance(value, (int, float)):
        value = (value,)
    if kind is tuple and isinstance(value, (list, tuple)):
        entry = type(default[0]) if default else None
        if entry is None or all(type(v) is entry for v in value):
            return tuple(value)
    if kind is bool and value in ("true", "True", "false", "False"):
        return value in ("true", "True")
    if default is None or (type(value) is kind and kind is not tuple):
        return value
    raise UserError(
        f"--config.{name}={value!r} is of type {type(value).__name__}, but {name} is "
        f"of type {kind.__name__} (its default is {default!r})."
    )


def _require_sound(name: str, value: Any, default: Any, owner: str) -> None:
    """Refuses what no setting can be; methods and operators know more."""
    numbers = value if isinstance(value, tuple) else (value,)
    field = name.rsplit(".", 1)[-1]
    counts = field in ("batch_size", "num_steps") or field.endswith("_dims")
    least = 1 if counts else 0
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


def text(value: Any) -> str:
    """A value as labels and errors show it."""
    if isinstance(value, float):
        return format(value, "g")
    return str(value).replace(" ", "")
