"""Ids and specifications of the datasets that this project collects itself.

    offjax/budget/t<T>-<kind>[-i<instance>][-r<instances>][-k<kappa>][-n<noise>]-v0
    offjax/maze2d/<maze>[-dense]-v0
    offjax/antmaze/<maze>[-<kind>]-v0
    offjax/<robot>/<kind>-v0, and -v1 of longer trainings at D4RL's sizes
    offjax/<scene>/play-v0, and pixels-v0 of the same play seen by cameras

A part in brackets is spelled out only where it differs from the default (instance 0,
one instance, kappa 1.5, no noise), so that every dataset has one name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offjax.catalog.entries import (
    KINDS,
    ROBOTS,
    AntMaze,
    Budget,
    Entry,
    Locomotion,
    Maze2D,
    PixelPlay,
    Play,
    Request,
)
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import annotate
from offjax.envs.antmaze import ANT_MAZES
from offjax.envs.maze2d import MAZES
from offjax.envs.scene import SCENES
from offjax.errors import UserError

BUDGET_HORIZONS = (10, 20, 50, 100, 200)
BUDGET_KINDS = ("random", "smooth", "medium", "expert", "mixed", "under")

GENERATOR_VERSION = 0
"""Raise it when a generator's rule changes: data of another one are refused."""

_BUDGET = re.compile(
    r"t(?P<horizon>\d+)-(?P<kind>[a-z]+)"
    r"(-i(?P<instance>\d+))?(-r(?P<instances>\d+))?(-k(?P<kappa>\d+(\.\d+)?))?(-n(?P<noise>\d+(\.\d+)?))?"
)
_VERSION = re.compile(r"(?P<stem>.+)-v(?P<version>\d+)")


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
    played = [kind(scene).name for kind in (Play, PixelPlay) for scene in SCENES]
    return budgets + mazes + robots + played


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
        if versioned["stem"] not in ("play", "pixels"):
            known = f"offjax/{parts[1]}/play-v0 or offjax/{parts[1]}/pixels-v0"
            raise _unknown(name, f"is not {known}")
        return (Play if versioned["stem"] == "play" else PixelPlay)(parts[1])
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
        "generator_version": GENERATOR_VERSION,
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
    progress: Callable[[str], None] | None = None,
    scratch: Path | None = None,
) -> Dataset:
    """Makes the dataset in memory; arguments as of `specification` and `Request`.

    `scratch` must be of the same specification: an interrupted collection goes on by
    what lies there.
    """
    made_from = specification(entry, size, seed)
    unit, _ = entry.size
    rows = entry.generate(Request(made_from[unit], seed, progress, scratch))
    annotations = rows.pop("annotations", None)
    remark = rows.pop("remark", "")
    keys = [key for key in rows if key.startswith("infos/")]
    infos = {key.removeprefix("infos/"): rows.pop(key) for key in keys}
    dataset = Dataset.from_arrays(
        **rows,
        infos=infos,
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
            "is not spelled t<T>-<kind>[-i<instance>][-r<instances>][-k<kappa>]"
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
