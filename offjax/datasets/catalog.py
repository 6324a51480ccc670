"""The datasets that this project collects itself: their ids and specifications.

    offjax/budget/t<T>-<kind>[-i<instance>][-k<kappa>][-n<noise>]-v0
    offjax/maze2d/<maze>[-dense]-v0

A part in brackets is spelt out only where it differs from the default (instance 0,
kappa 1.5, no noise), so that every dataset has one name.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
from typing import Any

from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec

BUDGET_HORIZONS = (10, 20, 50, 100, 200)
BUDGET_KINDS = ("random", "smooth", "medium", "expert", "mixed", "under")
MAZES = ("umaze", "medium", "large")

_GENERATOR_VERSION = 0
"""Raise it when a generator's rule changes: data of another one are refused."""

_BUDGET = re.compile(
    r"t(?P<horizon>\d+)-(?P<kind>[a-z]+)"
    r"(-i(?P<instance>\d+))?(-k(?P<kappa>\d+(\.\d+)?))?(-n(?P<noise>\d+(\.\d+)?))?"
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

    @property
    def name(self) -> str:
        """The dataset's only id."""
        parts = [f"t{self.horizon}", self.kind]
        parts += [f"i{self.instance}"] * (self.instance != 0)
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

        return budget.spec(self.horizon, self.instance, self.kappa, self.noise)

    def generate(self, size: int, seed: int) -> dict[str, Any]:
        """Flat rows of `size` episodes, as `Dataset.from_arrays` takes them."""
        from offjax.behavior import budget

        data = budget.generate(
            self.horizon,
            self.kind,
            instance=self.instance,
            kappa=self.kappa,
            noise=self.noise,
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

    def generate(self, size: int, seed: int) -> dict[str, Any]:
        """Flat rows of `size` steps, as `Dataset.from_arrays` takes them."""
        from offjax.behavior import waypoint

        data = waypoint.generate(
            self.maze, num_steps=size, noise=0.5, seed=seed, dense=self.dense
        )
        return {key: data[key] for key in data if not key.startswith("infos/")}


Entry = Budget | Maze2D


def ids() -> list[str]:
    """The ids with default instance, kappa and noise."""
    budgets = [Budget(t, kind).name for t in BUDGET_HORIZONS for kind in BUDGET_KINDS]
    mazes = [Maze2D(maze, dense).name for dense in (False, True) for maze in MAZES]
    return budgets + mazes


def parse(name: str) -> Entry:
    """What an id of this project's own names.

    Raises:
      UserError: naming the id, what is wrong with it, and ids close to it.
    """
    parts = name.split("/")
    if len(parts) != 3 or parts[0] != "offjax" or parts[1] not in ("budget", "maze2d"):
        raise _unknown(name, "is not offjax/budget/… or offjax/maze2d/…")
    versioned = _VERSION.fullmatch(parts[2])
    if versioned is None:
        raise _unknown(name, "does not end in a version such as -v0")
    if versioned["version"] != "0":
        raise _unknown(name, f"is of version {versioned['version']}; there is only v0")
    parse_stem = _parse_budget if parts[1] == "budget" else _parse_maze
    return parse_stem(name, versioned["stem"])


def specification(entry: Entry, size: int | None, seed: int) -> dict[str, Any]:
    """Everything that the generated data depend on, as JSON can hold it.

    Args:
      entry: the dataset.
      size: episodes (budget) or transitions (maze2d); None for the default.
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
    }


def identity(specification: dict[str, Any]) -> str:
    """SHA-256 of a specification."""
    text = json.dumps(specification, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def generate(entry: Entry, size: int | None = None, seed: int = 0) -> Dataset:
    """Makes the dataset in memory; arguments as in `specification`."""
    made_from = specification(entry, size, seed)
    unit, _ = entry.size
    rows = entry.generate(made_from[unit], seed)
    return Dataset.from_arrays(
        **rows,
        spec=entry.spec(),
        id=entry.name,
        source=f"collected by offjax, {unit} {made_from[unit]}, seed {seed}",
        identity=identity(made_from),
    )


def near(name: str, known: list[str]) -> str:
    """A sentence with the known ids that are close to `name`; may be empty."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def _parse_budget(name: str, stem: str) -> Budget:
    match = _BUDGET.fullmatch(stem)
    if match is None:
        raise _unknown(
            name,
            "is not spelt t<T>-<kind>[-i<instance>][-k<kappa>][-n<noise>]-v0, "
            "in this order",
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
    )
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


def _unknown(name: str, reason: str) -> UserError:
    return UserError(
        f"Dataset id {name!r} {reason}.{near(name, ids())} "
        "`--dataset=list` prints all ids."
    )
