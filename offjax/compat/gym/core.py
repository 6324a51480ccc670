"""Environments and wrappers of the old gym: steps of four values, seeds by `seed`."""

from __future__ import annotations

from typing import Any

from offjax.compat.gym.error import NotGiven, not_given


class Env:
    """What an environment has; a script's own environments may derive from it."""

    metadata: dict[str, Any] = {"render.modes": []}  # noqa: RUF012 (the old gym's own)
    reward_range = (-float("inf"), float("inf"))
    spec: Any = None

    def reset(self, *, seed: Any = None, **kwargs: Any) -> Any:
        """Begins an episode; its first observation."""
        raise NotImplementedError

    def step(self, action: Any) -> tuple[Any, Any, Any, Any]:
        """One step: observation, reward, whether the episode ended, and an info."""
        raise NotImplementedError

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Sets the seed of the next episodes."""
        return [seed]

    def render(self, mode: str = "human", **kwargs: Any) -> Any:
        """Not offered: `NotGiven`."""
        raise NotGiven(
            f"render(mode={mode!r}) is not offered by offjax.compat: scripts are "
            "evaluated without pictures. `offjax evaluate --run=… "
            "--render=2` makes videos of runs of offjax."
        )

    def close(self) -> None:
        """Releases what the environment holds."""

    @property
    def unwrapped(self) -> Env:
        """The environment inside all wrappers."""
        return self

    def __enter__(self) -> Env:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        raise not_given(f"{type(self).__name__}.{name}")


class Wrapper(Env):
    """An environment around another; what it lacks is the inner one's."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.action_space = env.action_space
        self.observation_space = env.observation_space
        self.metadata, self.reward_range = env.metadata, env.reward_range
        self.spec = env.spec

    def reset(self, **kwargs: Any) -> Any:
        """The inner environment's."""
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any]:
        """The inner environment's."""
        return self.env.step(action)

    def seed(self, seed: int | None = None) -> list[int | None]:
        """The inner environment's."""
        return self.env.seed(seed)

    def render(self, mode: str = "human", **kwargs: Any) -> Any:
        """The inner environment's."""
        return self.env.render(mode, **kwargs)

    def close(self) -> None:
        """The inner environment's."""
        self.env.close()

    @property
    def unwrapped(self) -> Env:
        """The environment inside all wrappers."""
        return self.env.unwrapped

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("__"):  # not yet made, or being copied
            raise AttributeError(name)
        return getattr(self.env, name)


class ObservationWrapper(Wrapper):
    """Changes observations by `observation`."""

    def reset(self, **kwargs: Any) -> Any:
        """The changed first observation."""
        first = self.env.reset(**kwargs)
        if kwargs.get("return_info"):
            observation, info = first
            return self.observation(observation), info
        return self.observation(first)

    def step(self, action: Any) -> tuple[Any, Any, Any, Any]:
        """One step with the changed observation."""
        observation, reward, done, info = self.env.step(action)
        return self.observation(observation), reward, done, info

    def observation(self, observation: Any) -> Any:
        """The change."""
        raise NotImplementedError


class RewardWrapper(Wrapper):
    """Changes rewards by `reward`."""

    def step(self, action: Any) -> tuple[Any, Any, Any, Any]:
        """One step with the changed reward."""
        observation, reward, done, info = self.env.step(action)
        return observation, self.reward(reward), done, info

    def reward(self, reward: Any) -> Any:
        """The change."""
        raise NotImplementedError


class ActionWrapper(Wrapper):
    """Changes actions by `action`."""

    def step(self, action: Any) -> tuple[Any, Any, Any, Any]:
        """One step with the changed action."""
        return self.env.step(self.action(action))

    def action(self, action: Any) -> Any:
        """The change."""
        raise NotImplementedError
