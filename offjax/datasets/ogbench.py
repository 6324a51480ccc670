"""OGBench's `.npz` files, read without ogbench.

    <environment>-<collection>-v0                      goal-conditioned, no rewards
    <environment>-<collection>-singletask[-task<k>]-v0   one of its five tasks

Both names mean the file `<environment>-<collection>-v0.npz`, and its validation part
`…-val.npz`. A file holds T + 1 states of each trajectory of T steps; `terminals` marks
the last of them, where the recording was cut, and its action was never executed. With
`visual-` before an id and its file, observations are images (`ogbench_pixels`).

A single task is relabeled from the recorded states as OGBench does since 1.2, from
the state before the action: in mazes the reward is 0 within the tolerance of the goal
and −1 elsewhere; at the table it is minus the number of objects that are not in place
(cubes, drawer and window within .04, buttons equal). Successful rows are terminals,
although the recording goes on.

`ogbench.json` holds horizon, collections and tasks of each environment. Source: Park
et al., "OGBench: Benchmarking Offline Goal-Conditioned RL" (2025) and its package.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from offjax.datasets import checks, download, ogbench_pixels, untrusted
from offjax.datasets.dataset import DataDir, Dataset
from offjax.errors import UserError
from offjax.types import EnvSpec

STATES = ("qpos", "qvel", "button_states")
"""Arrays of the simulator's state that a file may hold beside the observations."""

_KEYS = ("observations", "actions", "terminals")
_NAME = re.compile(
    r"(?P<pixels>visual-)?(?P<env>[a-z]+(-(?!singletask)[a-z0-9]+)?)"
    r"-(?P<collection>navigate|stitch|explore|play|noisy)"
    r"(?P<single>-singletask(-task(?P<task>\d+))?)?-v0"
)
_VISUAL = ("antmaze", "humanoidmaze", "cube", "scene", "puzzle")
"""Kinds of environments that there are with images as well."""
_SIGNATURE = b"PK\x03\x04"
_ARM = 14  # numbers of qpos before the first object
_CUBE = 7  # numbers of qpos of a cube
_IN_PLACE = 0.04
_BALL = 15  # where the ball's position begins in qpos of antsoccer


@dataclasses.dataclass(frozen=True)
class Entry:
    """What an OGBench id names."""

    id: str
    env: str  # environment and its size ("antmaze-large")
    collection: str  # who collected ("navigate")
    task: int | None  # from 1; 0 the default one; None for goal-conditioned data
    is_visual: bool = False  # whether observations are images

    @property
    def file(self) -> str:
        """Name of the file of the training part."""
        return f"{self._prefix}{self.env}-{self.collection}-v0.npz"

    @property
    def env_id(self) -> str:
        """Gymnasium id of the single-task environment; the id itself if none."""
        if self.task is None:
            return self.id
        task = f"-task{self.task}" * (self.task > 0)
        return f"{self._prefix}{self.env}-singletask{task}-v0"

    @property
    def _prefix(self) -> str:
        return "visual-" * self.is_visual

    @property
    def horizon(self) -> int:
        """Steps after which evaluation cuts an episode."""
        return table()[self.env]["horizon"]

    @property
    def goal(self) -> dict[str, Any]:
        """What the task asks for: a goal, or the places of objects."""
        assert self.task is not None
        row = table()[self.env]
        return row["tasks"][(self.task or row["default_task"]) - 1]


@functools.cache
def table() -> Mapping[str, dict[str, Any]]:
    """Horizon, collections, default task and tasks of each environment."""
    file = resources.files("offjax.datasets").joinpath("ogbench.json")
    return json.loads(file.read_text())


def ids() -> list[str]:
    """The goal-conditioned ids; each has single-task variants too."""
    return [
        f"{prefix}{env}-{collection}-v0"
        for prefix in ("", "visual-")
        for env, row in table().items()
        if not prefix or _has_images(env)
        for collection in row["collections"]
    ]


def _has_images(env: str) -> bool:
    """Whether OGBench has an environment and data of the same with images."""
    return env.partition("-")[0] in _VISUAL


def parse(name: str) -> Entry | None:
    """What an OGBench id names; None if it is not of that form.

    Raises:
      UserError: it is of that form, but there is no such dataset or task.
    """
    match = _NAME.fullmatch(name)
    if match is None or match["env"] not in table():
        return None
    env, collection = match["env"], match["collection"]
    if match["pixels"] and not _has_images(env):
        raise UserError(
            f"OGBench has no dataset {name!r}: those with images are of "
            f"{', '.join(_VISUAL)}; {name.removeprefix('visual-')} has states."
        )
    row = table()[env]
    if collection not in row["collections"]:
        there = ", ".join(row["collections"]) or "none"
        raise UserError(
            f"OGBench has no dataset {name!r}: its collections in {env} are {there}."
        )
    task = None if match["single"] is None else int(match["task"] or 0)
    if match["task"] and not 1 <= int(match["task"]) <= len(row["tasks"]):
        raise UserError(
            f"{name!r} asks for task {match['task']}; {env} has tasks 1 to "
            f"{len(row['tasks'])}."
        )
    return Entry(name, env, collection, task, bool(match["pixels"]))


def folders(data_dir: DataDir = None) -> list[Path]:
    """Where files are looked for: `data_dir`, $OGBENCH_DATASET_DIR, ~/.ogbench/data."""
    chosen = (data_dir, os.environ.get("OGBENCH_DATASET_DIR"), "~/.ogbench/data")
    return [Path(folder).expanduser() for folder in chosen if folder]


def find(file: str, data_dir: DataDir = None) -> Path | None:
    """The file of that name in the first of `folders` that has it."""
    paths = (folder / file for folder in folders(data_dir))
    return next((path for path in paths if path.is_file()), None)


def obtain(
    file: str,
    data_dir: DataDir = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """The file: the one found, else downloaded into the first of `folders`.

    Raises:
      UserError: naming the file, where to put it, and the places that were tried.
    """
    path = find(file, data_dir)
    if path is not None:
        return path
    searched = folders(data_dir)
    absent = (
        f"OGBench's file {file} is in none of {', '.join(map(str, searched))}. Put it "
        "into one of these folders, or name its folder with --data_dir or "
        "$OGBENCH_DATASET_DIR."
    )
    target = searched[0] / file
    return download.obtain(absent, file, target, download.OGBENCH, _SIGNATURE, progress)


def read(
    name: str,
    data_dir: DataDir = None,
    infos: Sequence[str] = (),
    split: str = "train",
    progress: Callable[[str], None] | None = None,
) -> Dataset:
    """Reads the file of an OGBench id; goal-conditioned data have rewards 0.

    Args:
      name: an id that `parse` knows.
      data_dir: first of the folders that are searched.
      infos: of `STATES`, those to read as well.
      split: "train", or "val" for the validation part.
      progress: called with lines of text during a download.

    Raises:
      UserError: the file cannot be had, is damaged, lacks an array, or its arrays do
        not fit together; or an unknown id or split.
    """
    entry = parse(name)
    if entry is None:
        raise UserError(f"{name!r} is not the id of an OGBench dataset.")
    if split not in ("train", "val"):
        raise UserError(f"split={split!r} is unknown; choose train or val.")
    file = entry.file if split == "train" else entry.file[:-4] + "-val.npz"
    path = obtain(file, data_dir, progress)
    states = set(infos) | ({"qpos"} if entry.task is not None else set())
    if entry.task is not None and "buttons" in entry.goal:
        states.add("button_states")
    what = f"{path}, OGBench's {file},"
    keys = [key for key in _KEYS if not (entry.is_visual and key == "observations")]
    arrays = untrusted.read_npz(path, (*keys, *sorted(states)), what)
    try:
        steps, following = _steps(arrays)
        if entry.is_visual:
            keep = np.zeros(len(arrays["terminals"]), bool)
            keep[steps] = True
            seen, after = ogbench_pixels.frames(path, keep, what), None
        else:
            observations = checks.matrix(arrays["observations"], "observations")
            checks.same_length(observations, "observations", len(arrays["terminals"]))
            seen, after = observations[steps], observations[following]
        return _dataset(entry, arrays, seen, after, infos, f"OGBench file {path}")
    except UserError as error:
        raise UserError(f"OGBench file {path} cannot be used: {error}") from error


def rewards(entry: Entry, states: Mapping[str, np.ndarray]) -> np.ndarray:
    """Rewards of a single task in the given states, [N] f32; 0 means success.

    Args:
      entry: with a task.
      states: qpos [N, …] and, where the task has buttons, button_states [N, B].

    Raises:
      UserError: the states hold fewer objects than the task.
    """
    goal = entry.goal
    qpos = _states(states["qpos"], "qpos", _width(entry))
    if "goal" in goal:
        start = _BALL if entry.env.startswith("antsoccer") else 0
        tolerance = 1.0 if entry.env.startswith("pointmaze") else 0.5
        distance = np.linalg.norm(qpos[:, start : start + 2] - goal["goal"], axis=-1)
        return (distance <= tolerance).astype(np.float32) - 1.0
    in_place = []
    for index, place in enumerate(goal.get("cubes", ())):
        start = _ARM + index * _CUBE
        distance = np.linalg.norm(place - qpos[:, start : start + 3], axis=-1)
        in_place.append(distance <= _IN_PLACE)
    if "buttons" in goal:
        wanted = np.asarray(goal["buttons"])
        buttons = _states(states["button_states"], "button_states", len(wanted))
        if buttons.shape[1] != len(wanted):
            raise UserError(
                f"`button_states` holds {buttons.shape[1]} numbers a row; {entry.env} "
                f"has {len(wanted)} buttons."
            )
        in_place += list((buttons == wanted).T)
    if "drawer" in goal:
        slides = _slides(entry)
        for column, key in enumerate(("drawer", "window"), start=slides):
            in_place.append(np.abs(qpos[:, column] - goal[key]) <= _IN_PLACE)
    done = np.stack(in_place)
    return (done.sum(axis=0) - len(done)).astype(np.float32)


def _slides(entry: Entry) -> int:
    """Where in qpos the drawer's place stands; the window's follows it."""
    return _ARM + _CUBE * len(entry.goal["cubes"]) + len(entry.goal["buttons"])


def _width(entry: Entry) -> int:
    """Numbers of qpos that the task looks at."""
    if "drawer" in entry.goal:
        return _slides(entry) + 2
    if "goal" in entry.goal:
        return _BALL + 2 if entry.env.startswith("antsoccer") else 2
    return _ARM + _CUBE * len(entry.goal.get("cubes", ()))


def _states(array: np.ndarray, name: str, width: int) -> np.ndarray:
    if array.ndim != 2 or array.shape[1] < width or array.dtype.kind not in "biuf":
        raise UserError(
            f"`{name}` has shape {array.shape} and type {array.dtype}; the task needs "
            f"{width} or more numbers a row."
        )
    return array


def _steps(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a file that are steps, and those that follow them."""
    rows = len(arrays.get("observations", arrays["actions"]))
    last = checks.flags(arrays["terminals"], "terminals", rows)
    for key in arrays.keys() - set(_KEYS):
        checks.same_length(arrays[key], key, rows)
    if not last[-1]:
        raise UserError(
            "the last row of `terminals` is not set, so that the last trajectory is "
            "incomplete. Copy the file again."
        )
    steps = np.flatnonzero(~last)
    if not steps.size:
        raise UserError("every row of `terminals` is set; there is no step in it.")
    return steps, steps + 1


def _dataset(
    entry: Entry,
    arrays: Mapping[str, np.ndarray],
    observations: np.ndarray,
    next_observations: np.ndarray | None,
    infos: Sequence[str],
    source: str,
) -> Dataset:
    """The dataset of a file's steps; `observations` [N, O] are at them."""
    steps, following = _steps(arrays)
    actions = checks.matrix(arrays["actions"], "actions", len(arrays["terminals"]))
    spec = EnvSpec(
        id=entry.env_id,
        observation_dim=observations.shape[1],
        action_low=(-1.0,) * actions.shape[1],
        action_high=(1.0,) * actions.shape[1],
        horizon=entry.horizon,
        domain="ogbench",
        cameras=(ogbench_pixels.CAMERA,) if entry.is_visual else (),
    )
    taken, notes = checks.clip_recorded(actions[steps], spec)
    timeouts = arrays["terminals"].reshape(-1)[following].astype(bool)
    values, done = np.zeros(len(steps), np.float32), np.zeros(len(steps), bool)
    if entry.task is None:
        notes += ("goal-conditioned: no rewards; -singletask variants have them",)
    else:
        states = {key: arrays[key][steps] for key in STATES if key in arrays}
        values = rewards(entry, states)
        done = values == 0.0
        notes += ("successful rows are terminals, although the recording goes on",)
    if entry.is_visual:
        notes += ("the frame after the last step of each trajectory is left out",)
    return Dataset.from_arrays(
        observations,
        taken,
        values,
        done,
        timeouts & ~done,
        next_observations,
        spec=spec,
        id=entry.id,
        source=source,
        notes=notes,
        infos={key: arrays[key][steps] for key in infos},
    )
