"""`gym.wrappers`: those that offline scripts use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from offjax.compat.gym.core import (
    ActionWrapper,
    Env,
    ObservationWrapper,
    RewardWrapper,
    Wrapper,
)
from offjax.compat.gym.error import offers_no_more

__all__ = [
    "ClipAction",
    "RecordEpisodeStatistics",
    "RescaleAction",
    "TimeLimit",
    "TransformObservation",
    "TransformReward",
]


class TransformObservation(ObservationWrapper):
    """Observations through a function; the space stays as it is."""

    def __init__(self, env: Env, f: Callable[[Any], Any]) -> None:
        super().__init__(env)
        self.f = f

    def observation(self, observation: Any) -> Any:
        """`f` of it."""
        return self.f(observation)


class TransformReward(RewardWrapper):
    """Rewards through a function."""

    def __init__(self, env: Env, f: Callable[[Any], Any]) -> None:
        super().__init__(env)
        self.f = f

    def reward(self, reward: Any) -> Any:
        """`f` of it."""
        return self.f(reward)


class ClipAction(ActionWrapper):
    """Actions cut to their box."""

    def action(self, action: Any) -> Any:
        """The nearest action in the box."""
        return np.clip(action, self.action_space.low, self.action_space.high)


class RescaleAction(ActionWrapper):
    """Actions of the box [min_action, max_action], mapped to the environment's."""

    def __init__(self, env: Env, min_action: Any, max_action: Any) -> None:
        super().__init__(env)
        inner = env.action_space
        low = np.broadcast_to(np.asarray(min_action, inner.dtype), inner.shape)
        high = np.broadcast_to(np.asarray(max_action, inner.dtype), inner.shape)
        self.action_space = gymnasium.spaces.Box(low, high, dtype=inner.dtype)

    def action(self, action: Any) -> Any:
        """Its place in the environment's box."""
        outer, inner = self.action_space, self.env.action_space
        share = (np.asarray(action) - outer.low) / (outer.high - outer.low)
        return np.clip(
            inner.low + share * (inner.high - inner.low), inner.low, inner.high
        )


class TimeLimit(Wrapper):
    """Ends episodes after `max_episode_steps` steps."""

    def __init__(self, env: Env, max_episode_steps: int) -> None:
        super().__init__(env)
        self._max_episode_steps = max_episode_steps
        self._elapsed_steps = 0

    def reset(self, **kwargs: Any) -> Any:
        """Begins an episode."""
        self._elapsed_steps = 0
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any]:
        """One step; info says whether the limit alone ended the episode."""
        observation, reward, done, info = self.env.step(action)
        self._elapsed_steps += 1
        if self._elapsed_steps >= self._max_episode_steps:
            cut = not done or info.get("TimeLimit.truncated", False)
            info, done = {**info, "TimeLimit.truncated": cut}, True
        return observation, reward, done, info


class RecordEpisodeStatistics(Wrapper):
    """Adds `info["episode"]` with return r, length l and seconds t to the last step."""

    def reset(self, **kwargs: Any) -> Any:
        """Begins an episode."""
        self._return, self._length, self._begin = 0.0, 0, time.perf_counter()
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any]:
        """One step."""
        observation, reward, done, info = self.env.step(action)
        self._return += float(reward)
        self._length += 1
        if done:
            seconds = time.perf_counter() - self._begin
            episode = {"r": self._return, "l": self._length, "t": seconds}
            info = {**info, "episode": episode}
        return observation, reward, done, info


__getattr__ = offers_no_more("gym.wrappers")
