"""`gym` as scripts of D4RL's time know it: reset() → observation, step() → 4 values."""

from __future__ import annotations

from gymnasium import Space, spaces, utils

from offjax.compat.gym import error, logger, registration, vector, wrappers
from offjax.compat.gym.core import (
    ActionWrapper,
    Env,
    ObservationWrapper,
    RewardWrapper,
    Wrapper,
)
from offjax.compat.gym.error import offers_no_more
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


__getattr__ = offers_no_more("gym")
