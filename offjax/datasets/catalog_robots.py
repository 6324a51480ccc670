"""The robots' datasets of this project: their names and specification.

    offjax/{hopper,halfcheetah,walker2d}/<kind>-v0
    offjax/{hopper,halfcheetah,walker2d}/<kind>-v1, and of ant if it has policies

Version 1 has D4RL's sizes, and replays that are those of a training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offjax.errors import UserError
from offjax.types import EnvSpec

_POLICIES = Path(__file__).parents[1] / "behavior" / "policies"
_ROBOTS = ("hopper", "halfcheetah", "walker2d")
ROBOTS = (
    _ROBOTS,
    tuple(
        robot
        for robot in (*_ROBOTS, "ant")
        if (_POLICIES / "v1" / f"{robot}.csv").is_file()
    ),
)
"""Robots of each version: those whose policies are packaged."""

_KINDS = ("random", "medium", "medium-replay", "medium-expert", "expert")
KINDS = (_KINDS, (*_KINDS, "full-replay"))
"""Kinds of each version."""


@dataclasses.dataclass(frozen=True)
class Locomotion:
    """A robot's dataset after D4RL's definitions, by this project's own policies."""

    robot: str
    kind: str
    version: int = 0

    @property
    def name(self) -> str:
        """The dataset's only id."""
        return f"offjax/{self.robot}/{self.kind}-v{self.version}"

    @property
    def _is_replay(self) -> bool:
        return self.version == 1 and self.kind.endswith("-replay")

    @property
    def size(self) -> tuple[str, int]:
        """What sets the amount of data, and its default: all there is of a replay."""
        if self._is_replay:
            from offjax.behavior import locomotion

            return "num_transitions", locomotion.replay_steps(self.robot, self.kind)
        if self.version == 0:
            return "num_transitions", 200_000
        halves = 2 if self.kind == "medium-expert" else 1
        return "num_transitions", halves * 1_000_000

    @property
    def origin(self) -> dict[str, str]:
        """What else the data depend on: policies or training, by file hashes."""
        if self.kind == "random":
            return {}
        from offjax.behavior import policies

        origin = {"policies": policies.digest(self.robot, self.version)}
        if self._is_replay:
            origin["training"] = policies.digest(self.robot, self.version, "json")
        return origin

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        from offjax.envs import mujoco

        return mujoco.spec(self.robot)

    def generate(
        self,
        size: int,
        seed: int,
        progress: Callable[[str], None] | None = None,
        scratch: Path | None = None,
    ) -> dict[str, Any]:
        """Flat rows of `size` steps, as `Dataset.from_arrays` takes them.

        Besides, a `remark` for the card. `scratch` keeps what is finished.
        """
        from offjax.behavior import locomotion

        remark = ""
        if self._is_replay:
            if seed != 0:
                raise UserError(
                    f"--seed={seed} does not apply to {self.name}: it is a training "
                    "run again, whose seed is packaged with its policies. Leave out "
                    "--seed."
                )
            data, remark = locomotion.replay(self.robot, self.kind, size, progress)
        else:
            data = locomotion.generate(
                self.robot, self.kind, size, seed, progress, self.version, scratch
            )
        infos = {key: data.pop(f"infos/{key}") for key in ("qpos", "qvel")}
        return {**data, "infos": infos, "remark": remark}
