"""The names under which a script finds this project's modules."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from offjax.compat import after_import

MODULES = {
    "gym": "offjax.compat.gym",
    "gym.core": "offjax.compat.gym.core",
    "gym.envs": "offjax.compat.gym.registration",
    "gym.envs.registration": "offjax.compat.gym.registration",
    "gym.error": "offjax.compat.gym.error",
    "gym.logger": "offjax.compat.gym.logger",
    "gym.vector": "offjax.compat.gym.vector",
    "gym.wrappers": "offjax.compat.gym.wrappers",
    "gym.spaces": "gymnasium.spaces",
    "gym.utils": "gymnasium.utils",
    "d4rl": "offjax.compat.d4rl",
    "d4rl.infos": "offjax.compat.d4rl.infos",
    "d4rl.offline_env": "offjax.compat.d4rl.offline_env",
}
"""Name in a script → module that it gets."""

FAMILIES = (
    "gym_mujoco",
    "hand_manipulation_suite",
    "kitchen",
    "locomotion",
    "pointmaze",
)
"""Modules of D4RL that scripts import to register environments; nothing is in them."""


def install() -> list[str]:
    """Puts the modules into `sys.modules`, in place of an installed gym and d4rl.

    A `wandb` that is not installed is replaced by one that writes to a local folder;
    one that is installed and has no key works offline.

    Returns:
      What was done about wandb, as lines for the user.
    """
    for name, target in MODULES.items():
        sys.modules[name] = importlib.import_module(target)
    # `gym.envs` and `gym.envs.registration` are one module here.
    envs: Any = sys.modules["gym.envs"]
    envs.registration = envs
    for package in ("spaces", "utils"):
        inside = f"gymnasium.{package}."
        loaded = {n: m for n, m in sys.modules.items() if n.startswith(inside)}
        for name, module in loaded.items():
            sys.modules[f"gym.{name.removeprefix('gymnasium.')}"] = module
    for family in FAMILIES:
        module = ModuleType(f"d4rl.{family}", "Its environments are made by gym.make.")
        sys.modules[module.__name__] = module
    lines = _prepare_wandb()
    after_import.watch()
    return lines


def _prepare_wandb() -> list[str]:
    found = importlib.util.find_spec("wandb")
    if (
        found is None or found.origin is None
    ):  # a folder `wandb` of results is no package
        sys.modules["wandb"] = importlib.import_module("offjax.compat.wandb")
        return ["wandb is not installed: what is logged goes to wandb_local/."]
    if "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ or _logged_in():
        return []
    os.environ["WANDB_MODE"] = "offline"
    return ["wandb has no key: it works offline (WANDB_MODE=offline)."]


def _logged_in() -> bool:
    """Whether `wandb login` has left a key."""
    try:
        return "wandb" in Path("~/.netrc").expanduser().read_text(errors="replace")
    except OSError:
        return False
