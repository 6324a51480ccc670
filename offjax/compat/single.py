"""One environment at a time, on this project's batched engine where that knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from offjax.types import EnvSpec


class OneOfBatch(gymnasium.Env):
    """A batch of one; Gymnasium's interface, and its results from a seed.

    It takes MuJoCo alone, and not what Gymnasium needs to draw pictures.
    """

    def __init__(self, spec: EnvSpec) -> None:
        from offjax.envs import batched

        self._batch = batched.make_batched(spec, 1, 1)
        self._place = np.array([0])
        low, high = (
            np.array(b, np.float32) for b in (spec.action_low, spec.action_high)
        )
        shape = (spec.observation_dim,)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, shape)
        self.action_space = gymnasium.spaces.Box(low, high)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begins an episode, without a seed one that follows from the last's."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(2**31))
        return self._batch.reset(self._place, [seed])[0], {}

    def step(
        self, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One step; the caller cuts at the horizon."""
        columns = self._batch.step(self._place, np.asarray(action)[None])
        observation, reward, terminal = (column[0] for column in columns)
        return observation, float(reward), bool(terminal), False, {}

    def close(self) -> None:
        """Releases the batch."""
        self._batch.close()


def make(spec: EnvSpec) -> gymnasium.Env:
    """The environment of a spec, without a time limit.

    Raises:
      UserError: it cannot be made here, with the remedy.
    """
    from offjax.envs import batched

    return OneOfBatch(spec) if batched.on_engine(spec) else batched.make_one(spec)


def specify(id: str, kwargs: dict[str, Any]) -> EnvSpec:
    """What `make` needs for an id of Gymnasium's; horizon 0 for none."""
    from offjax.types import EnvSpec

    horizon = gymnasium.spec(id).max_episode_steps or 0
    return EnvSpec(id, 0, (), (), horizon, kwargs=tuple(kwargs.items()))
