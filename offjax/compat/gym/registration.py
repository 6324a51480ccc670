"""`gym.make`, `gym.spec` and `gym.register`: ids and what they make."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Callable
from typing import Any

import gymnasium

from offjax.compat import single, sources
from offjax.compat.gym.adapter import GymnasiumEnv
from offjax.compat.gym.core import Env
from offjax.compat.gym.error import Error, UnregisteredEnv
from offjax.compat.gym.wrappers import TimeLimit

_ROBOT = re.compile(r"(Hopper|HalfCheetah|Walker2d|Ant)-v[23]")


@dataclasses.dataclass
class EnvSpec:
    """What is known of an id.

    Attributes:
      id: the id.
      entry_point: for what a script registered: a function, or "module:name".
      max_episode_steps: after which an episode is cut; None for never.
      reward_threshold: reward that counts as solved.
      nondeterministic: whether a seed does not fix an episode.
      kwargs: arguments of what makes the environment.
    """

    id: str
    entry_point: Callable[..., Env] | str | None = None
    max_episode_steps: int | None = None
    reward_threshold: float | None = None
    nondeterministic: bool = False
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def make(self, **kwargs: Any) -> Env:
        """The environment."""
        return make(self.id, **kwargs)


registry: dict[str, EnvSpec] = {}
"""What the script itself registered."""


def register(
    id: str,
    entry_point: Callable[..., Env] | str | None = None,
    max_episode_steps: int | None = None,
    reward_threshold: float | None = None,
    nondeterministic: bool = False,
    kwargs: dict[str, Any] | None = None,
) -> None:
    """Makes a script's own environment known to `make`."""
    registry[id] = EnvSpec(
        id,
        entry_point,
        max_episode_steps,
        reward_threshold,
        nondeterministic,
        dict(kwargs or {}),
    )


def make(id: str, **kwargs: Any) -> Env:
    """The environment of an id, with the old interface.

    Args:
      id: registered by the script; else of a dataset (D4RL's, `offjax/…` or with dashes
        `offjax-…`, OGBench's or a local one), which gives an `OfflineEnv`; else
        Gymnasium's own. `Hopper-v2` and the like are those that D4RL's datasets are of.
      **kwargs: arguments of the environment; those of datasets take none.

    Raises:
      UnregisteredEnv: the id is unknown.
      UserError: the environment cannot be made, with the remedy.
    """
    if id in registry:
        return _registered(registry[id], kwargs)
    if sources.is_known(id):
        if kwargs:
            raise Error(
                f"gym.make({id!r}) was given {', '.join(kwargs)}; the environment of a "
                "dataset takes no arguments. Leave them out."
            )
        from offjax.compat.d4rl.offline_env import OfflineEnv

        env: GymnasiumEnv = OfflineEnv(id, sources.find(id))
    else:
        env = _gymnasium(id, kwargs)
    env.spec = EnvSpec(id, max_episode_steps=env._max_episode_steps, kwargs=kwargs)
    return env


def spec(id: str) -> EnvSpec:
    """What is known of an id; UnregisteredEnv for an unknown one."""
    if id in registry:
        return registry[id]
    if sources.is_known(id):
        return EnvSpec(id, max_episode_steps=sources.find(id).env.horizon)
    return make(id).spec


def _registered(known: EnvSpec, kwargs: dict[str, Any]) -> Env:
    entry = known.entry_point
    if isinstance(entry, str):
        module, _, name = entry.partition(":")
        entry = getattr(importlib.import_module(module), name)
    if not callable(entry):
        raise Error(
            f"{known.id!r} was registered without an entry_point. Give one: a "
            'function or class, or "module:name".'
        )
    env = entry(**{**known.kwargs, **kwargs})
    if known.max_episode_steps is not None:
        env = TimeLimit(env, known.max_episode_steps)
    env.spec = known
    return env


def _gymnasium(id: str, kwargs: dict[str, Any]) -> GymnasiumEnv:
    """One of Gymnasium's own environments, made at once: its spaces are asked for."""
    if _ROBOT.fullmatch(id) and not kwargs:
        where = sources.find(f"{id[:-3].lower()}-medium-v2").env
    elif id in gymnasium.registry:
        where = single.specify(id, kwargs)
    else:
        raise _unknown(id)
    env = single.make(where)
    space: Any = env.observation_space
    if isinstance(space, gymnasium.spaces.Box | gymnasium.spaces.Dict):
        space = gymnasium.spaces.flatten_space(space)
    limit = where.horizon or None
    return GymnasiumEnv(lambda: env, space, env.action_space, limit)


def _unknown(id: str) -> UnregisteredEnv:
    from offjax.catalog import collected, load
    from offjax.datasets import legacy

    known = [*registry, *load.list_datasets(), *legacy.table(), *gymnasium.registry]
    return UnregisteredEnv(
        f"There is no environment {id!r}.{collected.near(id, known)} Known are the ids "
        "of datasets (`offjax list datasets` prints them), those "
        "of Gymnasium, and what the script registers."
    )
