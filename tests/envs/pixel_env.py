"""An environment of two small images, for processes to import."""

import gymnasium
import numpy as np


class Dots(gymnasium.Env):
    """A Dict of images of one brightness, drawn from the seed and moved by actions."""

    observation_space = gymnasium.spaces.Dict(
        {
            "low": gymnasium.spaces.Box(0, 255, (4, 2, 3), np.uint8),
            "high": gymnasium.spaces.Box(0, 255, (2, 4, 3), np.uint8),
        }
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._value = int(self.np_random.integers(100))
        return self._observation(), {}

    def step(self, action):
        self._value += int(action[0] > 0)
        return self._observation(), float(self._value), self._value > 200, False, {}

    def _observation(self):
        return {
            "low": np.full((4, 2, 3), self._value, np.uint8),
            "high": np.full((2, 4, 3), self._value + 100, np.uint8),
        }


gymnasium.register("Dots-v0", Dots)
