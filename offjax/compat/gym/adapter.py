"""An environment of Gymnasium with the old gym's interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from offjax.compat.gym.core import Env
from offjax.compat.gym.error import Error, ResetNeeded


class GymnasiumEnv(Env):
    """Steps an environment of Gymnasium that is made when it is first reset.

    Observations are float32, as the datasets' are. Actions outside their box are cut to
    it, as D4RL's environments do. An episode ends at the end of the MDP or after
    `max_episode_steps` steps; in the latter case `info["TimeLimit.truncated"]` is set.
    The first episode after `seed(s)` is that of Gymnasium's `reset(seed=s)`, and the
    later ones follow from it.
    """

    def __init__(
        self,
        make: Callable[[], gymnasium.Env],
        observation_space: Any,
        action_space: Any,
        max_episode_steps: int | None,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._max_episode_steps = max_episode_steps
        self._make = make
        self._inner: gymnasium.Env | None = None
        self._seed: int | None = None
        self._elapsed_steps: int | None = None

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Sets the seed of the next episode, from which later ones follow."""
        self._seed = None if seed is None else int(seed)
        return [self._seed]

    def reset(
        self,
        *,
        seed: int | None = None,
        return_info: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Begins an episode: the observation, with `return_info` also the info."""
        if self._inner is None:
            self._inner = self._make()
        chosen = self._seed if seed is None else int(seed)
        observation, info = self._inner.reset(seed=chosen, **kwargs)
        self._seed, self._elapsed_steps = None, 0
        first = self._observe(observation)
        return (first, info) if return_info else first

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        """One step.

        Raises:
          ResetNeeded: there was no reset.
          Error: the action has another shape than the action space.
        """
        if self._inner is None or self._elapsed_steps is None:
            raise ResetNeeded("step() was called before reset(). Call reset() first.")
        found = self._inner.step(self._within(action))
        observation, reward, terminal, truncated, info = found
        self._elapsed_steps += 1
        limit = self._max_episode_steps
        cut = truncated or (limit is not None and self._elapsed_steps >= limit)
        if cut and not terminal:
            info = {**info, "TimeLimit.truncated": True}
        if "success" in info:  # the name in D4RL's Adroit
            info = {"goal_achieved": bool(info["success"]), **info}
        return self._observe(observation), float(reward), bool(terminal or cut), info

    def close(self) -> None:
        """Closes Gymnasium's environment."""
        if self._inner is not None:
            self._inner.close()
            self._inner = None

    def _observe(self, observation: Any) -> Any:
        space = self._inner.observation_space  # type: ignore[union-attr]
        if not isinstance(space, gymnasium.spaces.Box | gymnasium.spaces.Dict):
            return observation
        flat = gymnasium.spaces.flatten(space, observation)
        return np.asarray(flat, np.float32)

    def _within(self, action: Any) -> Any:
        space = self.action_space
        if not isinstance(space, gymnasium.spaces.Box):
            return action
        array = np.asarray(action)
        if array.shape != space.shape:
            raise Error(
                f"The action has shape {array.shape}; this environment takes "
                f"{space.shape}. Index or reshape what the policy gives."
            )
        return np.clip(array, space.low, space.high)
