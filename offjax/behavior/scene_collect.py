"""Collects play in a scene: episodes side by side in processes, resumed if broken off.

Episode i depends on the seed and i alone. Each is kept in a file of the cache until
all are there, so that a collection that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import shutil
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offjax import cache
from offjax.behavior.scene import WEIGHTS, Episode, play
from offjax.datasets.language import Annotations
from offjax.envs import opengl
from offjax.envs import scene_instructions as language
from offjax.envs.processes import Workers, cores
from offjax.envs.scene import Simulator, Snapshot
from offjax.envs.scene_drawing import Painter, decode_cameras, encode_cameras
from offjax.errors import UserError
from offjax.types import Camera

EPISODE = 500
"""Steps of an episode: a cube that lies in the drawer cannot be taken out again."""
_PAUSE = 30.0  # seconds between lines on how far it is


def generate(
    name: str,
    num_steps: int,
    seed: int = 0,
    processes: int | None = None,
    folder: Path | None = None,
    progress: Callable[[str], None] | None = None,
    cameras: Sequence[Camera] = (),
) -> dict[str, Any]:
    """Play of a scene, as `Dataset.from_arrays` takes it, and its annotations.

    Episodes are of `EPISODE` steps, the last one of what is left; one whose cubes
    fell out of reach is shorter, so that there may be a few rows less.

    Args:
      name: scene.
      num_steps: N, rows in all.
      seed: of everything.
      processes: in which episodes are collected; by default one per available core.
      folder: for what is under way, and for frames, which lie in a mapped file; by
        default one of the cache, removed at the end, and the memory.
      progress: called with a line of text now and then.
      cameras: what is observed in place of the state. The play is the same.

    Returns:
      observations, actions, rewards (zeros), terminals, timeouts, next_observations
      as flat rows; annotations: `Annotations`, with the state at each span's start.
      With cameras, observations are bytes, final_observations stand in place of
      next_observations, and infos/state has the states.

    Raises:
      UserError: OGBench is not installed, there is no OpenGL to draw with, or a
        process failed.
    """
    if cameras:
        opengl.require(f"Scene {name!r}")
    rule = zlib.crc32(repr(WEIGHTS).encode())  # no episodes drawn by another one
    if cameras:
        rule = zlib.crc32(encode_cameras(cameras).encode(), rule)
    work = folder or cache.folder(f"play/{name}-{num_steps}-{seed}-{rule:08x}")
    lengths = [EPISODE] * (num_steps // EPISODE)
    lengths += [num_steps % EPISODE] * (num_steps % EPISODE > 0)
    paths = [work / f"{i}.npz" for i in range(len(lengths))]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    tasks = [(paths[i], i, lengths[i]) for i in missing]
    arguments = [name, str(seed), encode_cameras(cameras)]
    _collect(arguments, tasks, processes or cores(), progress or (lambda _: None))
    episodes = []
    for path in paths:
        with np.load(path) as file:
            episodes.append({key: file[key] for key in file.files if key != "frames"})
    rows = _assemble(name, seed, episodes)
    if cameras:
        states = rows.pop("observations")
        rows.pop("next_observations")
        target = None if folder is None else work / "frames.npy"
        rows |= _frames(paths, len(states), target) | {"infos/state": states}
    if folder is None:
        shutil.rmtree(work, ignore_errors=True)
    return rows


def _frames(
    paths: Sequence[Path], num_rows: int, target: Path | None
) -> dict[str, np.ndarray]:
    """The episodes' frames as rows, in a mapped file or memory, and the last ones."""
    final: list[np.ndarray] = []
    begin, out = 0, np.zeros(0, np.uint8)
    for path in paths:
        with np.load(path) as file:
            frames = file["frames"]
        if not final:
            shape = num_rows, frames.shape[1]
            if target is None:
                out = np.empty(shape, np.uint8)
            else:
                out = np.lib.format.open_memmap(target, "w+", np.uint8, shape)
        end = begin + len(frames) - 1
        out[begin:end] = frames[:-1]
        final.append(frames[-1])
        begin = end
    return {"observations": out, "final_observations": np.stack(final)}


def _collect(
    arguments: Sequence[str],
    tasks: Sequence[tuple[Path, int, int]],
    processes: int,
    say: Callable[[str], None],
) -> None:
    """Plays the episodes of `tasks` (see `Collector`), some at a time."""
    if not tasks:
        return
    count, spoken = min(processes, len(tasks)), time.monotonic()
    kind = f"{Collector.__module__}:{Collector.__name__}"
    workers = Workers(kind, arguments, count, count if count > 1 else 0)
    try:
        for first in range(0, len(tasks), count):
            some = tasks[first : first + count]
            workers.call("collect", np.arange(len(some)), some)
            if time.monotonic() - spoken > _PAUSE:
                spoken = time.monotonic()
                say(f"  {first + len(some):,} of {len(tasks):,} episodes")
    except RuntimeError as error:
        raise UserError(
            f"Collecting play in {arguments[0]!r} failed. {error} Run the command "
            "again to go on from the episodes that are done."
        ) from error
    finally:
        workers.close()


class Collector:
    """Plays episodes of a scene in one process."""

    def __init__(self, name: str, seed: str, cameras: str, places: int) -> None:
        """`cameras` as `encode_cameras` writes them; nothing is drawn without any."""
        del places  # one episode after another
        self._simulator, self._seed = Simulator(name), int(seed)
        seen = decode_cameras(cameras)
        self._painter = Painter(self._simulator, seen) if seen else None

    def collect(self, place: int, task: tuple[Path, int, int]) -> None:
        """Plays an episode of (file that it is kept in, number, steps)."""
        del place
        path, index, length = task
        entropy = np.random.SeedSequence((self._seed, index))
        seed = int(entropy.generate_state(1)[0] >> 1)
        episode = play(self._simulator, seed, length)
        columns = _columns(episode)
        if self._painter is not None:
            columns["frames"] = np.stack(
                [self._painter.draw(s) for s in episode.states]
            )
        cache.save(path, columns, compressed=self._painter is not None)


def _columns(episode: Episode) -> dict[str, np.ndarray]:
    columns = {
        "observations": episode.observations,
        "actions": episode.actions,
        "starts": np.array([span.start for span in episode.spans], int),
        "ends": np.array([span.end for span in episode.spans], int),
        "names": np.array([span.name for span in episode.spans], str),
    }
    for field in Snapshot._fields:
        columns[field] = np.array([getattr(s, field) for s in episode.snapshots])
    return columns


def _assemble(
    name: str, seed: int, episodes: list[dict[str, np.ndarray]]
) -> dict[str, Any]:
    lengths = np.array([len(episode["actions"]) for episode in episodes])
    begins = np.cumsum(lengths) - lengths
    timeouts = np.zeros(lengths.sum(), bool)
    timeouts[begins + lengths - 1] = True

    def joined(key: str, rows: slice = slice(None)) -> np.ndarray:
        return np.concatenate([episode[key][rows] for episode in episodes])

    spans = np.array([len(episode["starts"]) for episode in episodes])
    offset = np.repeat(begins, spans)
    known = language.all_instructions(name)
    names = tuple(known)
    index = {known_name: i for i, known_name in enumerate(names)}
    # An episode without any success holds an empty list, whose type is not text.
    found = [index[str(n)] for episode in episodes for n in episode["names"]]
    sentences = [known[n].wordings for n in names]
    first = np.cumsum([0, *map(len, sentences)])
    rng = np.random.default_rng((seed, 2))
    texts = [first[i] + rng.integers(len(sentences[i])) for i in found]
    annotations = Annotations(
        joined("starts") + offset,
        joined("ends") + offset,
        np.array(found, int),
        np.array(texts, int),
        names,
        tuple(sentence for group in sentences for sentence in group),
        {
            field: np.concatenate(
                [episode[field] for episode in episodes if len(episode["starts"])]
            )
            for field in Snapshot._fields
            if found
        },
    )
    return {
        "observations": joined("observations", slice(0, -1)),
        "actions": joined("actions"),
        "rewards": np.zeros(lengths.sum(), np.float32),
        "terminals": np.zeros(lengths.sum(), bool),
        "timeouts": timeouts,
        "next_observations": joined("observations", slice(1, None)),
        "annotations": annotations,
    }
