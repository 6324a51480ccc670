"""The AntMaze datasets of this project: their names and specification.

offjax/antmaze/{umaze,umaze-diverse}-v0
offjax/antmaze/{medium,large}-{play,diverse}-v0
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from offjax.types import EnvSpec


@dataclasses.dataclass(frozen=True)
class AntMaze:
    """An AntMaze dataset after D4RL's, by this project's own goal-reaching ant."""

    kind: str

    @property
    def name(self) -> str:
        """The dataset's only id."""
        return f"offjax/antmaze/{self.kind}-v0"

    @property
    def size(self) -> tuple[str, int]:
        """What sets the amount of data, and its default."""
        return "num_transitions", 1_000_000

    @property
    def origin(self) -> dict[str, str]:
        """What else the data depend on: the ant's policy, by the hash of its file."""
        from offjax.behavior import ant_goal, policies

        return {"policies": policies.digest(ant_goal.NAME)}

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        from offjax.envs import antmaze

        return antmaze.spec(self.kind.partition("-")[0])

    def generate(
        self, size: int, seed: int, progress: Callable[[str], None] | None = None
    ) -> dict[str, Any]:
        """Flat rows of `size` steps, as `Dataset.from_arrays` takes them."""
        from offjax.behavior import antmaze

        data = antmaze.generate(self.kind, size, seed, progress)
        infos = {"goal": data.pop("infos/goal")}
        return {**data, "infos": infos}
