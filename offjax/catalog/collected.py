"""The datasets that this project collects itself: their ids and specifications.

    offjax/budget/t<T>-<kind>[-i<instance>][-r<instances>][-k<kappa>][-n<noise>]-v0
    offjax/maze2d/<maze>[-dense]-v0
    offjax/antmaze/<maze>[-<kind>]-v0
    offjax/<robot>/<kind>-v0, and -v1 of longer trainings at D4RL's sizes
    offjax/<scene>/play-v0

A part in brackets is spelt out only where it differs from the default (instance 0,
one instance, kappa 1.5, no noise), so that every dataset has one name.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offjax.catalog.antmaze import AntMaze
from offjax.catalog.robots import KINDS, ROBOTS, Locomotion
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import annotate
from offjax.envs.antmaze import ANT_MAZES
from offjax.errors import UserError
from offjax.types import EnvSpec

BUDGET_HORIZONS = (10, 20, 50, 100, 200)
BUDGET_KINDS = ("random", "smooth", "medium", "expert", "mixed", "under")
MAZES = ("umaze", "medium", "large")
SCENES = ("scene", "cube-double", "cube-triple")

_GENERATOR_VERSION = 0
"""Raise it when a generator's rule changes: data of another one are refused."""

Progress = Callable[[str], None] | None
"""Called with a line of text when something takes time."""

_BUDGET = re.compile(
    r"t(?P<horizon>\d+)-(?P<kind>[a-z]+)"
    r"(-i(?P<instance>\d+))?(-r(?P<instances>\d+))?(-k(?P<kappa>\d+(\.\d+)?))?(-n(?P<noise>\d+(\.\d+)?))?"
)
_VERSION = re.compile(r"(?P<stem>.+)-v(?P<version>\d+)")


@dataclasses.dataclass(frozen=True)
class Budget:
    """A Budget Allocation dataset: the environment, and who spent the budget."""

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

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        from offjax.envs import budget

        return budget.spec(
            self.horizon,
            self.instance,
            self.kappa,
            self.noise,
            context=self.instances > 1,
            instances=self.instances,
        )

    @property
    def origin(self) -> dict[str, str]:
        """What else the data depend on: how the behavior is drawn.

        Until it was drawn for each instance anew, all had the actions of instance 0.
        """
        return {"behaviour": "of the instance"} if self.instance else {}

    def generate(
        self, size: int, seed: int, progress: Progress = None
    ) -> dict[str, Any]:
        """Flat rows of `size` episodes, as `Dataset.from_arrays` takes them."""
        from offjax.behavior import budget

        data = budget.generate(
            self.horizon,
            self.kind,
            instance=self.instance,
            kappa=self.kappa,
            noise=self.noise,
            instances=self.instances,
            num_episodes=size,
            seed=seed,
        )
        observations = data["observations"]
        rows = {
            "observations": observations[:, :-1],
            "next_observations": observations[:, 1:],
            **{
                key: data[key]
                for key in ("actions", "rewards", "terminals", "timeouts")
            },
        }
        return {key: rows[key].reshape(-1, *rows[key].shape[2:]) for key in rows}


@dataclasses.dataclass(frozen=True)
class Maze2D:
    """A maze2d dataset of D4RL's waypoint controller, action noise 0.5."""

    maze: str
    dense: bool = False

    @property
    def name(self) -> str:
        """The dataset's only id."""
        return f"offjax/maze2d/{self.maze}{'-dense' * self.dense}-v0"

    @property
    def size(self) -> tuple[str, int]:
        """What sets the amount of data, and its default."""
        return "num_transitions", 1_000_000

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        from offjax.envs import maze2d

        return maze2d.spec(self.maze, dense=self.dense)

    @property
    def origin(self) -> dict[str, str]:
        """What else the data depend on: nothing."""
        return {}

    def generate(
        self, size: int, seed: int, progress: Progress = None
    ) -> dict[str, Any]:
        """Flat rows of `size` steps, as `Dataset.from_arrays` takes them."""
        from offjax.behavior import waypoint

        data = waypoint.generate(
            self.maze, num_steps=size, noise=0.5, seed=seed, dense=self.dense
        )
        return {key: data[key] for key in data if not key.startswith("infos/")}


@dataclasses.dataclass(frozen=True)
class Play:
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
        """What else the data depend on: how often each instruction is drawn.

        Until stacking was drawn as often as other moves of cubes, it was a third of
        that. Nothing is stacked in `scene`, whose play is the same as ever.
        """
        return {} if self.scene == "scene" else {"stacks": "as often as moves"}

    def spec(self) -> EnvSpec:
        """Where policies trained on it are evaluated."""
        from offjax.envs import scene

        return scene.spec(self.scene)

    def generate(
        self, size: int, seed: int, progress: Progress = None
    ) -> dict[str, Any]:
        """Flat rows of `size` steps, as `Dataset.from_arrays` takes them."""
        from offjax.behavior import scene_collect

        return scene_collect.generate(self.scene, size, seed, progress=progress)


Entry = Budget | Maze2D | AntMaze | Locomotion | Play


def ids() -> list[str]:
    """The ids with default instance, kappa and noise, of what can be collected."""
    from offjax.behavior import policies

    budgets = [Budget(t, kind).name for t in BUDGET_HORIZONS for kind in BUDGET_KINDS]
    mazes = [Maze2D(maze, dense).name for dense in (False, True) for maze in MAZES]
    mazes += [AntMaze(kind).name for kind in ANT_MAZES]
    robots = [
        Locomotion(robot, kind, version).name
        for version in (0, 1)
        for robot in ROBOTS[version]
        for kind in KINDS[version]
        if kind == "random" or robot in policies.packaged(version)
    ]
    return budgets + mazes + robots + [Play(scene).name for scene in SCENES]


def parse(name: str) -> Entry:
    """What an id of this project's own names.

    Raises:
      UserError: naming the id, what is wrong with it, and ids close to it.
    """
    parts = name.split("/")
    families = ("budget", "maze2d", "antmaze", *ROBOTS[1], *SCENES)
    if len(parts) != 3 or parts[0] != "offjax" or parts[1] not in families:
        raise _unknown(
            name, f"is not of the families offjax/{{{','.join(families)}}}/…"
        )
    versioned = _VERSION.fullmatch(parts[2])
    if versioned is None:
        raise _unknown(name, "does not end in a version such as -v0")
    version = int(versioned["version"])
    if parts[1] in ROBOTS[1] and version <= 1:
        return _parse_robot(name, parts[1], versioned["stem"], version)
    if version != 0:
        known = "v0 and v1" if parts[1] in ROBOTS[1] else "v0"
        raise _unknown(name, f"is of version {version}; there is only {known}")
    if parts[1] == "antmaze":
        if versioned["stem"] not in ANT_MAZES:
            raise _unknown(name, f"names none of {', '.join(ANT_MAZES)}")
        return AntMaze(versioned["stem"])
    if parts[1] in SCENES:
        if versioned["stem"] != "play":
            raise _unknown(name, f"is not offjax/{parts[1]}/play-v0")
        return Play(parts[1])
    parse_stem = _parse_budget if parts[1] == "budget" else _parse_maze
    return parse_stem(name, versioned["stem"])


def with_slashes(name: str) -> str:
    """`offjax-hopper-medium-v0` → `offjax/hopper/medium-v0`; other ids as they are.

    Names of files hold ids with dashes.
    """
    parts = name.split("-", 2)
    return "/".join(parts) if parts[0] == "offjax" and len(parts) == 3 else name


def specification(entry: Entry, size: int | None, seed: int) -> dict[str, Any]:
    """Everything that the generated data depend on, as JSON can hold it.

    Args:
      entry: the dataset.
      size: episodes (budget) or transitions (others); None for the default.
      seed: of the generator.
    """
    unit, default = entry.size
    size = default if size is None else size
    if size < 1:
        raise UserError(f"--{unit}={size} asks for no data; pass 1 or more.")
    return {
        "id": entry.name,
        "generator_version": _GENERATOR_VERSION,
        unit: size,
        "seed": seed,
        **entry.origin,
    }


def identity(specification: dict[str, Any]) -> str:
    """SHA-256 of a specification."""
    text = json.dumps(specification, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def generate(
    entry: Entry,
    size: int | None = None,
    seed: int = 0,
    progress: Progress = None,
    scratch: Path | None = None,
) -> Dataset:
    """Makes the dataset in memory.

    Args:
      entry: as in `specification`.
      size: likewise.
      seed: likewise.
      progress: called with a line of text.
      scratch: folder for what a long collection has so far, by which it goes on when
        it was interrupted; of the same specification only.
    """
    made_from = specification(entry, size, seed)
    unit, _ = entry.size
    if isinstance(entry, Locomotion):
        rows = entry.generate(made_from[unit], seed, progress, scratch)
    else:
        rows = entry.generate(made_from[unit], seed, progress)
    annotations = rows.pop("annotations", None)
    remark = rows.pop("remark", "")
    dataset = Dataset.from_arrays(
        **rows,
        spec=entry.spec(),
        id=entry.name,
        source=f"collected by offjax, {unit} {made_from[unit]}, seed {seed}"
        + (f"; {remark}" if remark else ""),
        identity=identity(made_from),
    )
    return dataset if annotations is None else annotate(dataset, annotations)


def near(name: str, known: list[str]) -> str:
    """A sentence with the known ids that are close to `name`; may be empty."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def _parse_budget(name: str, stem: str) -> Budget:
    match = _BUDGET.fullmatch(stem)
    if match is None:
        raise _unknown(
            name,
            "is not spelt t<T>-<kind>[-i<instance>][-r<instances>][-k<kappa>]"
            "[-n<noise>]-v0, in this order",
        )
    horizon, kind = int(match["horizon"]), match["kind"]
    if horizon not in BUDGET_HORIZONS:
        raise _unknown(name, f"has T = {horizon}; T is one of {BUDGET_HORIZONS}")
    if kind not in BUDGET_KINDS:
        raise _unknown(name, f"has kind {kind!r}; kinds are {', '.join(BUDGET_KINDS)}")
    entry = Budget(
        horizon,
        kind,
        int(match["instance"] or 0),
        float(match["kappa"] or 1.5),
        float(match["noise"] or 0.0),
        int(match["instances"] or 1),
    )
    if entry.instances < 1:
        raise _unknown(name, "has 0 instances; an episode needs one")
    if entry.kappa <= 0.0:
        raise _unknown(name, "has kappa 0; kappa, the sum of β, is positive")
    if entry.name != name:
        raise _unknown(name, f"has one spelling only, {entry.name}")
    return entry


def _parse_maze(name: str, stem: str) -> Maze2D:
    maze, dense, rest = stem.partition("-dense")
    if maze not in MAZES or rest:
        raise _unknown(
            name, f"names no maze: {', '.join(MAZES)}, each with or without -dense"
        )
    return Maze2D(maze, bool(dense))


def _parse_robot(name: str, robot: str, stem: str, version: int) -> Locomotion:
    if robot not in ROBOTS[version]:
        raise _unknown(name, f"is of version {version}, which has no {robot}")
    if stem not in KINDS[version]:
        raise _unknown(name, f"names no behavior: {', '.join(KINDS[version])}")
    return Locomotion(robot, stem, version)


def _unknown(name: str, reason: str) -> UserError:
    return UserError(
        f"Dataset id {name!r} {reason}.{near(name, ids())} "
        "`--dataset=list` prints all ids."
    )
