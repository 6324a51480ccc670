"""A training run again for the rows that it went through: replay datasets.

A training depends on its plan and on the steps at which its sessions began, which are
packaged with its policies (`policies/v1/<robot>.json`). The same versions on the same
kind of processor give the same rows and policies to the last bit; others, where floats
round differently, give another training of the same kind.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from offjax.behavior import policies, sac, training
from offjax.datasets import checks
from offjax.envs import mujoco

PACKAGES = ("jax", "jaxlib", "mujoco", "numpy")

COLUMNS = (
    "observations",
    "actions",
    "rewards",
    "next_observations",
    "terminals",
    "infos/qpos",
    "infos/qvel",
)


@dataclasses.dataclass(frozen=True)
class History:
    """All that a training depends on, and the versions of packages that it ran with."""

    plan: training.Plan
    sessions: tuple[tuple[int, int], ...]  # (first step, steps planned in all) of each
    versions: dict[str, str]

    @property
    def num_steps(self) -> int:
        """Environment steps of the whole training."""
        first, planned = self.sessions[-1]
        vector_steps = -(-max(planned - first, 0) // self.plan.num_envs)
        return first + vector_steps * self.plan.num_envs


def history(plan: training.Plan, folder: Path) -> History:
    """Of the training that was run in `folder`."""
    with np.load(folder / training.CHECKPOINT) as file:
        sessions = tuple((int(first), int(steps)) for first, steps in file["sessions"])
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return History(plan, sessions, versions)


def save(path: Path, history: History) -> None:
    """Writes a history as JSON."""
    path.write_text(json.dumps(dataclasses.asdict(history), indent=1) + "\n")


def load(path: Path) -> History:
    """Reads what `save` wrote.

    Raises:
      UserError: the file is missing or damaged.
    """
    advice = "Put back the file of this package, or train the policies anew."
    with checks.damaged(f"{path}, the history of a training,", advice):
        found = json.loads(path.read_text())
        algorithm = found["plan"]["algorithm"]
        algorithm["hidden_dims"] = tuple(algorithm["hidden_dims"])
        found["plan"]["algorithm"] = sac.Config(**algorithm)
        return History(
            training.Plan(**found["plan"]),
            tuple((int(first), int(steps)) for first, steps in found["sessions"]),
            found["versions"],
        )


def rows(
    history: History, num_steps: int, report: Callable[[int], None]
) -> tuple[list[dict[str, np.ndarray]], policies.Actor]:
    """Runs the first `num_steps` environment steps of a training again.

    `report` is called with the steps so far, often.

    Returns:
      Its episodes in the order in which they began, each with `COLUMNS` and timeouts
      (see `locomotion.generate`); those under way at the end are cut there. And the
      policy that it had then.
    """
    learner = training.Learner(history.plan)
    places = np.arange(history.plan.num_envs)
    record = _Record()
    ends = [first for first, _ in history.sessions[1:]] + [num_steps]
    for (_, planned), end in zip(history.sessions, ends, strict=True):
        learner.begin(planned)
        env = learner.env
        assert isinstance(env, mujoco.MujocoBatch)
        record.begin(places)
        while learner.steps < min(end, num_steps):
            states = env.states(places)
            record.add((*learner.advance(), *states))
            record.begin(learner.episodes.over)
            report(learner.steps)
    return record.episodes(), policies.from_params(learner.actor)


class _Record:
    """Steps of places side by side, and at which of them episodes began."""

    def __init__(self) -> None:
        self._steps: list[tuple[np.ndarray, ...]] = []
        self._begun: list[tuple[int, int]] = []  # (step, place)

    def begin(self, places: np.ndarray) -> None:
        """New episodes begin in `places` with the next step."""
        self._begun += [(len(self._steps), int(place)) for place in places]

    def add(self, columns: tuple[np.ndarray, ...]) -> None:
        """Takes a step of all places."""
        self._steps.append(columns)

    def episodes(self) -> list[dict[str, np.ndarray]]:
        """The rows of each episode, in the order in which they began."""
        columns = zip(*self._steps, strict=True)
        arrays = {n: np.stack(c) for n, c in zip(COLUMNS, columns, strict=True)}
        arrays["rewards"] = arrays["rewards"].astype(np.float32)
        following: dict[int, int] = {}  # place → where its next episode began
        spans = []
        for first, place in reversed(self._begun):
            spans.append((first, following.get(place, len(self._steps)), place))
            following[place] = first
        return [
            with_timeouts({name: arrays[name][a:b, place] for name in COLUMNS})
            for a, b, place in reversed(spans)
            if b > a
        ]


def with_timeouts(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An episode that did not end the MDP was cut at its last row."""
    timeouts = np.zeros(len(rows["rewards"]), bool)
    timeouts[-1] = not rows["terminals"][-1]
    return {**rows, "timeouts": timeouts}
