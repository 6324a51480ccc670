"""A functional JAX environment as an ordinary Gymnasium one, on NumPy arrays."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import numpy as np

from offjax.envs.budget import BudgetAllocation
from offjax.envs.maze2d import Maze2D


class FunctionalEnv(gymnasium.Env):
    """Steps a functional environment; truncated after its `horizon` steps.

    Gymnasium's own adapter returns JAX arrays, steps without `jit` and knows no
    horizon that depends on the environment's arguments.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own)

    def __init__(self, functional: Any, render_mode: str | None = None):
        self.functional = functional
        self.observation_space = functional.observation_space
        self.action_space = functional.action_space
        self.render_mode = render_mode
        self._first = jax.jit(self._initial)
        self._next = jax.jit(self._transition)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; its randomness comes from `seed` or the last reset's."""
        super().reset(seed=seed)
        self._key = jax.random.key(int(self.np_random.integers(2**31)))
        self._steps = 0
        self._state, observation = self._first(self._key)
        return np.asarray(observation, np.float32), {}

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; truncated at the horizon unless terminal there."""
        self._steps += 1
        self._state, observation, reward, terminal = self._next(
            self._state, np.asarray(action, np.float32), self._key, self._steps
        )
        terminated = bool(terminal)
        truncated = not terminated and self._steps >= self.functional.horizon
        observation = np.asarray(observation, np.float32)
        return observation, float(reward), terminated, truncated, {}

    def _initial(self, key: jax.Array) -> tuple[Any, jax.Array]:
        state = self.functional.initial(key)
        return state, self.functional.observation(state, key)

    def _transition(
        self, state: Any, action: jax.Array, key: jax.Array, step: jax.Array
    ) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        key = jax.random.fold_in(key, step)
        new = self.functional.transition(state, action, key)
        reward = self.functional.reward(state, action, new, key)
        observation = self.functional.observation(new, key)
        return new, observation, reward, self.functional.terminal(new, key)


def budget_allocation(render_mode: str | None = None, **kwargs: Any) -> FunctionalEnv:
    """What `gymnasium.make("offjax/BudgetAllocation-v0", …)` returns."""
    return FunctionalEnv(BudgetAllocation(**kwargs), render_mode)


def maze_2d(render_mode: str | None = None, **kwargs: Any) -> FunctionalEnv:
    """What `gymnasium.make("offjax/Maze2D-v0", …)` returns."""
    return FunctionalEnv(Maze2D(**kwargs), render_mode)
