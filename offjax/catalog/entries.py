"""The families of datasets that this project collects, each entry one dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from offjax.envs import antmaze, budget, maze2d, mujoco, scene, scene_drawing
from offjax.errors import UserError
from offjax.types import EnvSpec


class Request(NamedTuple):
    """What is asked of a generator.

    Attributes:
      size: episodes of Budget Allocation, transitions of all others.
      seed: of everything random.
      progress: called with a line of text when something takes time.
      scratch: folder for what a long collection has so far.
    """

    size: int
    seed: int = 0
    progress: Callable[[str], None] | None = None
    scratch: Path | None = None


ROBOTS = (
    ("hopper", "halfcheetah", "walker2d"),
    ("hopper", "halfcheetah", "walker2d", "ant"),
)
"""Robots of each version."""

_KINDS = ("random", "medium", "medium-replay", "medium-expert", "expert")
KINDS = (_KINDS, (*_KINDS, "full-replay"))
"""Kinds of the robots' data, of each version."""


class Entry:
    """One dataset; the fields of a subclass are what sets it apart."""

    @property
    def name(self) -> str:
        """The dataset's only id."""
        raise NotImplementedError

    @property
    def size(self) -> tuple[str, int]:
        """What sets the amount of data, and its default."""
        return "num_transitions", 1_000_000

    @property
    def origin(self) -> dict[str, str]:
        """What else the data depend on, beside name, size and seed."""
        return {}

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        raise NotImplementedError

    def generate(self, request: Request) -> dict[str, Any]:
        """Flat rows as `Dataset.from_arrays` takes them, infos as "infos/<key>".

        There may also be `annotations`, and a `remark` for the card.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Budget(Entry):
    """Budget Allocation: the environment, and who spent the budget."""

    horizon: int
    kind: str
    instance: int = 0
    kappa: float = 1.5
    noise: float = 0.0
    instances: int = 1

    @property
    def name(self) -> str:
        """The dataset's only id."""
        parts = [f"t{self.horizon}", self.kind]
        parts += [f"i{self.instance}"] * (self.instance != 0)
        parts += [f"r{self.instances}"] * (self.instances != 1)
        parts += [f"k{self.kappa}"] * (self.kappa != 1.5)
        parts += [f"n{self.noise}"] * (self.noise != 0.0)
        return f"offjax/budget/{'-'.join(parts)}-v0"

    @property
    def size(self) -> tuple[str, int]:
        """What sets the amount of data, and its default."""
        return "num_episodes", 10_000 if self.horizon >= 100 else 2_000

    @property
    def origin(self) -> dict[str, str]:
        """Marks data made since each instance has behavior of its own."""
        return {"behaviour": "of the instance"} if self.instance else {}

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        return budget.spec(
            self.horizon,
            self.instance,
            self.kappa,
            self.noise,
            context=self.instances > 1,
            instances=self.instances,
        )

    def generate(self, request: Request) -> dict[str, Any]:
        """Flat rows, as of `Entry`."""
        from offjax.behavior.budget import generate

        data = generate(
            **dataclasses.asdict(self), num_episodes=request.size, seed=request.seed
        )
        observations = data.pop("observations")
        data["observations"] = observations[:, :-1]
        data["next_observations"] = observations[:, 1:]
        return {key: x.reshape(-1, *x.shape[2:]) for key, x in data.items()}


@dataclasses.dataclass(frozen=True)
class Maze2D(Entry):
    """maze2d by D4RL's waypoint controller, action noise 0.5."""

    maze: str
    dense: bool = False

    @property
    def name(self) -> str:
        """The dataset's only id."""
        return f"offjax/maze2d/{self.maze}{'-dense' * self.dense}-v0"

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        return maze2d.spec(self.maze, dense=self.dense)

    def generate(self, request: Request) -> dict[str, Any]:
        """Flat rows, as of `Entry`."""
        from offjax.behavior import waypoint

        data = waypoint.generate(
            self.maze, request.size, noise=0.5, seed=request.seed, dense=self.dense
        )
        del data["infos/goal"]  # of the navigation, which the data do not tell
        return data


@dataclasses.dataclass(frozen=True)
class AntMaze(Entry):
    """AntMaze after D4RL's data, by this project's own goal-reaching ant."""

    kind: str

    @property
    def name(self) -> str:
        """The dataset's only id."""
        return f"offjax/antmaze/{self.kind}-v0"

    @property
    def origin(self) -> dict[str, str]:
        """The ant's policy, by the hash of its file."""
        from offjax.behavior import ant_goal, policies

        return {"policies": policies.digest(ant_goal.NAME)}

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        return antmaze.spec(self.kind.partition("-")[0])

    def generate(self, request: Request) -> dict[str, Any]:
        """Flat rows, as of `Entry`."""
        from offjax.behavior.antmaze import generate

        return generate(self.kind, request.size, request.seed, request.progress)


@dataclasses.dataclass(frozen=True)
class Locomotion(Entry):
    """A robot's data after D4RL's definitions, by this project's own policies.

    Version 1 has D4RL's sizes, policies at about its levels, and replays that are
    those of a training.
    """

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
        """Of a replay all there is, by default."""
        if self._is_replay:
            from offjax.behavior import locomotion

            return "num_transitions", locomotion.replay_steps(self.robot, self.kind)
        if self.version == 0:
            return "num_transitions", 200_000
        halves = 2 if self.kind == "medium-expert" else 1
        return "num_transitions", halves * 1_000_000

    @property
    def origin(self) -> dict[str, str]:
        """Policies and training, by the hashes of their files."""
        if self.kind == "random":
            return {}
        from offjax.behavior import policies

        origin = {"policies": policies.digest(self.robot, self.version)}
        if self._is_replay:
            origin["training"] = policies.digest(self.robot, self.version, "json")
        return origin

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        return mujoco.spec(self.robot)

    def generate(self, request: Request) -> dict[str, Any]:
        """Flat rows, as of `Entry`."""
        from offjax.behavior import locomotion

        if not self._is_replay:
            return locomotion.generate(
                self.robot,
                self.kind,
                request.size,
                request.seed,
                request.progress,
                self.version,
                request.scratch,
            )
        if request.seed != 0:
            raise UserError(
                f"--seed={request.seed} does not apply to {self.name}: it is a "
                "training run again, whose seed is packaged. Leave out --seed."
            )
        data, remark = locomotion.replay(
            self.robot, self.kind, request.size, request.progress
        )
        return {**data, "remark": remark}


@dataclasses.dataclass(frozen=True)
class Play(Entry):
    """Annotated play in one of OGBench's scenes, by its scripted oracles."""

    scene: str

    @property
    def name(self) -> str:
        """The dataset's only id."""
        return f"offjax/{self.scene}/play-v0"

    @property
    def size(self) -> tuple[str, int]:
        """What sets the amount of data, and its default."""
        return "num_transitions", 400_000

    @property
    def origin(self) -> dict[str, str]:
        """Marks data made since cubes are stacked as often as moved."""
        return {} if self.scene == "scene" else {"stacks": "as often as moves"}

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        return scene.spec(self.scene)

    def generate(self, request: Request) -> dict[str, Any]:
        """Flat rows, as of `Entry`."""
        from offjax.behavior import scene_collect

        return scene_collect.generate(
            self.scene, request.size, request.seed, progress=request.progress
        )


@dataclasses.dataclass(frozen=True)
class PixelPlay(Entry):
    """The same play, seen by two cameras."""

    scene: str

    @property
    def name(self) -> str:
        """The dataset's only id."""
        return f"offjax/{self.scene}/pixels-v0"

    @property
    def size(self) -> tuple[str, int]:
        """What sets the amount of data, and its default."""
        return "num_transitions", 100_000

    @property
    def origin(self) -> dict[str, str]:
        """That of the play, and how it is drawn."""
        cameras = scene_drawing.encode_cameras(scene_drawing.CAMERAS)
        drawing = {"drawing": f"{scene_drawing.VERSION}, {cameras}"}
        return {**Play(self.scene).origin, **drawing}

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        return scene.spec(self.scene, scene_drawing.CAMERAS)

    def generate(self, request: Request) -> dict[str, Any]:
        """Flat rows, as of `Entry`; observations are bytes."""
        from offjax.behavior import scene_collect

        return scene_collect.generate(
            self.scene,
            request.size,
            request.seed,
            folder=request.scratch,
            progress=request.progress,
            cameras=scene_drawing.CAMERAS,
        )
