"""Collects play in a scene: episodes side by side in processes, resumed if broken off.

Episode i depends on the seed and i alone. Each is kept in a file of the cache until
all are there, so that a collection that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from offjax import cache
from offjax.behavior.scene import WEIGHTS, Episode, play
from offjax.datasets.language import Annotations
from offjax.envs import scene_instructions as language
from offjax.envs.scene import Simulator, Snapshot
from offjax.errors import UserError

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
) -> dict[str, Any]:
    """Play of a scene, as `Dataset.from_arrays` takes it, and its annotations.

    Episodes are of `EPISODE` steps, the last one of what is left; one whose cubes
    fell out of reach is shorter, so that there may be a few rows less.

    Args:
      name: scene.
      num_steps: N, rows in all.
      seed: of everything.
      processes: in which episodes are collected; by default one per available core.
      folder: for what is under way; by default one of the cache, removed at the end.
      progress: called with a line of text now and then.

    Returns:
      observations, actions, rewards (zeros), terminals, timeouts, next_observations
      as flat rows; annotations: `Annotations`, with the state at each span's start.

    Raises:
      UserError: OGBench is not installed, or a process failed.
    """
    rule = zlib.crc32(repr(WEIGHTS).encode())  # no episodes drawn by another one
    work = folder or cache.folder(f"play/{name}-{num_steps}-{seed}-{rule:08x}")
    lengths = [EPISODE] * (num_steps // EPISODE)
    lengths += [num_steps % EPISODE] * (num_steps % EPISODE > 0)
    processes = min(processes or len(os.sched_getaffinity(0)), len(lengths))

    def say() -> None:
        if progress:
            done = len(list(work.glob("[0-9]*.npz")))
            progress(f"  {done:,} of {len(lengths):,} episodes")

    if processes == 1:
        _collect(name, num_steps, seed, work, 0, 1, say)
    else:
        _spawn(name, num_steps, seed, work, processes, say)
    rows = _assemble(name, seed, [_load(work, i) for i in range(len(lengths))])
    if folder is None:
        shutil.rmtree(work, ignore_errors=True)
    return rows


def _spawn(
    name: str,
    num_steps: int,
    seed: int,
    work: Path,
    processes: int,
    say: Callable[[], None],
) -> None:
    """Plain processes: the parent may hold threads that a fork would not survive."""
    arguments = [name, str(num_steps), str(seed), str(work)]
    command = [sys.executable, "-m", "offjax.behavior.scene_collect", *arguments]
    running = [
        subprocess.Popen([*command, str(i), str(processes)]) for i in range(processes)
    ]
    try:
        spoken = time.monotonic()
        while any(process.poll() is None for process in running):
            time.sleep(0.2)
            if time.monotonic() - spoken > _PAUSE:
                spoken = time.monotonic()
                say()
    finally:
        for process in running:
            process.kill()
    codes = [process.wait() for process in running]
    if any(codes):
        raise UserError(
            f"Collecting play in {name!r} failed: a process ended with exit code "
            f"{next(filter(None, codes))}; its message stands above. Run the command "
            "again to go on from the episodes that are done."
        )


def _collect(
    name: str,
    num_steps: int,
    seed: int,
    work: Path,
    first: int,
    stride: int,
    say: Callable[[], None] | None = None,
) -> None:
    """Episodes first, first + stride, … that are not there yet."""
    simulator, spoken = None, time.monotonic()
    for index in range(first, -(-num_steps // EPISODE), stride):
        path = work / f"{index}.npz"
        if path.exists():
            continue
        simulator = simulator or Simulator(name)
        length = min(EPISODE, num_steps - index * EPISODE)
        entropy = np.random.SeedSequence((seed, index))
        episode = play(simulator, int(entropy.generate_state(1)[0] >> 1), length)
        temporary = work / f".{uuid.uuid4().hex}.npz"
        np.savez(temporary, **_columns(episode))  # type: ignore[arg-type]
        temporary.replace(path)
        if say and time.monotonic() - spoken > _PAUSE:
            spoken = time.monotonic()
            say()


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


def _load(work: Path, index: int) -> dict[str, np.ndarray]:
    with np.load(work / f"{index}.npz") as file:
        return dict(file)


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


if __name__ == "__main__":
    scene, steps, number, place, part, parts = sys.argv[1:]
    _collect(scene, int(steps), int(number), Path(place), int(part), int(parts))
