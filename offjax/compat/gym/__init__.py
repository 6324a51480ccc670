"""`gym` as scripts of D4RL's time know it: reset() → observation, step() → 4 values."""

from __future__ import annotations

from typing import Any

from gymnasium import Space, spaces, utils

from offjax.compat.gym import error, logger, registration, vector, wrappers
from offjax.compat.gym.core import (
    ActionWrapper,
    Env,
    ObservationWrapper,
    RewardWrapper,
    Wrapper,
)
from offjax.compat.gym.error import not_given
from offjax.compat.gym.registration import make, register, spec

__all__ = [
    "ActionWrapper",
    "Env",
    "ObservationWrapper",
    "RewardWrapper",
    "Space",
    "Wrapper",
    "envs",
    "error",
    "logger",
    "make",
    "register",
    "spaces",
    "spec",
    "utils",
    "vector",
    "wrappers",
]

__version__ = "0.23.1"  # whose interface this is

envs = registration


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    raise not_given(f"gym.{name}")
