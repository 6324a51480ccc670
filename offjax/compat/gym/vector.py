"""`gym.vector`: environments side by side that begin again by themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from offjax.compat import sources
from offjax.compat.gym import registration
from offjax.compat.gym.core import Env
from offjax.compat.gym.error import (
    Error,
    ResetNeeded,
    not_given,
    offers_no_more,
)

Stepped = tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]
"""Observations [n, …], rewards [n], dones [n] bool, and an info for each."""


class VectorEnv(Env):
    """n environments as one. Where an episode ends, the next one begins at once.

    The observation of such a step is the new episode's first; the old one's last is
    `infos[i]["terminal_observation"]`.

    Attributes:
      num_envs: n.
      env_fns: functions that make the environments one by one.
      single_observation_space: of one of them.
      single_action_space: likewise.
      observation_space: of all.
      action_space: likewise.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], Env]],
        observation_space: Any,
        action_space: Any,
    ) -> None:
        self.env_fns = list(env_fns)
        self.num_envs = len(self.env_fns)
        self.single_observation_space = observation_space
        self.single_action_space = action_space
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(observation_space, self.num_envs)
        self.action_space = batch(action_space, self.num_envs)
        self._seeds: list[int | None] = [None] * self.num_envs
        self._begun = False

    def seed(self, seed: int | Sequence[int | None] | None = None) -> list[int | None]:
        """Seeds of the next episodes: one for each, or s, s + 1, … of a single one."""
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [
                None if seed is None else int(seed) + i for i in range(self.num_envs)
            ]
        else:
            seeds = [None if s is None else int(s) for s in seed]
        if len(seeds) != self.num_envs:
            raise Error(
                f"{len(seeds)} seeds were given for {self.num_envs} environments. Give "
                "one for each, or a single number."
            )
        self._seeds = seeds
        return seeds

    def reset(self, *, seed: Any = None, **kwargs: Any) -> np.ndarray:
        """Begins an episode in each; observations [n, …]."""
        if kwargs:
            raise not_given(f"VectorEnv.reset({', '.join(kwargs)})")
        if seed is not None:
            self.seed(seed)
        self._begun = True
        return self._begin(np.arange(self.num_envs))

    def step(self, actions: Any) -> Stepped:  # type: ignore[override]
        """One step of each.

        Raises:
          ResetNeeded: there was no reset.
          Error: not one action for each.
        """
        if not self._begun:
            raise ResetNeeded("step() was called before reset(). Call reset() first.")
        actions = np.asarray(actions)
        if len(actions) != self.num_envs:
            raise Error(
                f"{len(actions)} actions were given for {self.num_envs} environments. "
                "Give one for each."
            )
        observations, rewards, dones, infos = self._advance(actions)
        ended = np.flatnonzero(dones)
        for place in ended:
            last = observations[place].copy()
            infos[place] = {**infos[place], "terminal_observation": last}
        if len(ended):
            observations[ended] = self._begin(ended)
        return observations, rewards, dones, infos

    def _begin(self, places: np.ndarray) -> np.ndarray:
        """Begins episodes in some places; their observations."""
        raise NotImplementedError

    def _advance(self, actions: np.ndarray) -> Stepped:
        """One step of all, without beginning anew."""
        raise NotImplementedError

    def _take_seed(self, place: int) -> int | None:
        seed, self._seeds[place] = self._seeds[place], None
        return seed


class SyncVectorEnv(VectorEnv):
    """Environments of any kind, stepped one after another."""

    def __init__(self, env_fns: Sequence[Callable[[], Env]], **_: Any) -> None:
        self.envs = [make() for make in env_fns]
        first = self.envs[0]
        super().__init__(env_fns, first.observation_space, first.action_space)

    def close(self) -> None:
        """Closes them."""
        for env in self.envs:
            env.close()

    def _begin(self, places: np.ndarray) -> np.ndarray:
        first = []
        for place in places:
            seed = self._take_seed(place)
            if seed is not None:
                self.envs[place].seed(seed)
            first.append(self.envs[place].reset())
        return np.stack(first)

    def _advance(self, actions: np.ndarray) -> Stepped:
        steps = [env.step(a) for env, a in zip(self.envs, actions, strict=True)]
        observations, rewards, dones, infos = zip(*steps, strict=True)
        return (
            np.stack(observations),
            np.array(rewards, np.float64),
            np.array(dones, bool),
            list(infos),
        )


class AsyncVectorEnv(SyncVectorEnv):
    """The same results as in processes of their own, in this one."""


class BatchVectorEnv(VectorEnv):
    """Environments of one dataset on this project's batched engine."""

    def __init__(self, id: str, num_envs: int) -> None:
        from offjax.envs import batched

        single = registration.make(id)
        self._spec = sources.find(id).env
        single.check_environment()
        self._batch = batched.make_batched(self._spec, num_envs)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self._steps = np.zeros(num_envs, int)
        fns = [partial(registration.make, id)] * num_envs
        super().__init__(fns, single.observation_space, single.action_space)

    def close(self) -> None:
        """Releases what the environments hold."""
        self._batch.close()

    def _begin(self, places: np.ndarray) -> np.ndarray:
        seeds = []
        for place in places:
            seed = self._take_seed(place)
            if seed is None:
                seed = int(self._rngs[place].integers(2**31))
            else:
                self._rngs[place] = np.random.default_rng(seed)
            seeds.append(seed)
        self._steps[places] = 0
        return self._batch.reset(places, seeds)

    def _advance(self, actions: np.ndarray) -> Stepped:
        low, high = self.single_action_space.low, self.single_action_space.high
        places = np.arange(self.num_envs)
        found = self._batch.step(places, np.clip(actions, low, high))
        observations, rewards, terminals = found
        self._steps += 1
        cut = ~terminals & (self._steps >= self._spec.horizon)
        infos = [{"TimeLimit.truncated": True} if c else {} for c in cut]
        return observations, rewards, terminals | cut, infos


def make(
    id: str,
    num_envs: int = 1,
    asynchronous: bool = True,
    wrappers: Any = None,
    **kwargs: Any,
) -> VectorEnv:
    """`num_envs` environments of an id.

    Args:
      id: as for `gym.make`. Those of datasets run on this project's batched engine.
      num_envs: how many.
      asynchronous: changes nothing: results are the same.
      wrappers: a function of an environment, or several, put around each.
      **kwargs: arguments of the environment.

    Raises:
      UserError: as `gym.make`.
    """
    del asynchronous
    own = id in registration.registry
    if sources.is_known(id) and not own and wrappers is None and not kwargs:
        return BatchVectorEnv(id, num_envs)
    chain = wrappers if isinstance(wrappers, list | tuple) else [wrappers]

    def one() -> Env:
        env = registration.make(id, **kwargs)
        for wrap in filter(None, chain):
            env = wrap(env)
        return env

    return SyncVectorEnv([one] * num_envs)


__getattr__ = offers_no_more("gym.vector")
