"""CALVIN's folders: one file per frame, bounds of the recordings, annotations.

    <split>/episode_0000000.npz …   a frame: robot_obs, scene_obs, rel_actions, …
    <split>/ep_start_end_ids.npy    first and last frame of each recording, [E, 2]
    <split>/lang_annotations/auto_lang_ann.npy   described spans (a pickle)
    <split>/lang_annotations/embeddings.npy      what the benchmark says (a pickle)

`read` makes a `LanguageDataset` of such a folder, whose rows are the frames. The
annotations are pickles, of which only data are let through (`untrusted.read_pickle`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from offjax import cache
from offjax.datasets import checks, untrusted
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, LanguageDataset, annotate
from offjax.envs.calvin_table import HORIZON, STATE, Frames
from offjax.errors import UserError
from offjax.types import EnvSpec

ACTIONS = "rel_actions"
BOUNDS = "ep_start_end_ids.npy"
ANNOTATIONS = "lang_annotations"
RECORDED, TESTED = "auto_lang_ann.npy", "embeddings.npy"
"""Described spans, and the sentences in which the benchmark says its tasks."""
SPLITS = ("training", "validation")
_CHUNK = 256  # frames that are encoded at a time


def frame(folder: Path, index: int) -> Path:
    """The file of a frame."""
    return folder / f"episode_{index:07d}.npz"


def spec(observation_dim: int, action_dim: int = 7) -> EnvSpec:
    """How policies of CALVIN's data act: relative actions, in [-1, 1]."""
    return EnvSpec(
        id="offjax/calvin",
        observation_dim=observation_dim,
        action_low=(-1.0,) * action_dim,
        action_high=(1.0,) * action_dim,
        horizon=HORIZON,
        domain="calvin",
    )


def read(
    folder: str | Path,
    split: str = "training",
    keys: Sequence[str] = STATE,
    language: str = ANNOTATIONS,
    encode: Callable[[Frames], np.ndarray] | None = None,
    name: str = "",
) -> LanguageDataset:
    """Reads one split of a CALVIN folder.

    What was read is kept in the cache, so that the next time takes seconds.

    Args:
      folder: such as `task_D_D`.
      split: training or validation.
      keys: of each frame, which side by side are the observation.
      language: folder of the annotations within the split.
      encode: makes the observations [B, O] of frames, instead of laying them side by
        side: latents of a frozen encoder of images, say. `keys` are what it reads.
      name: of the encoder, under which its latents are kept.

    Raises:
      UserError: frames or keys are missing or of the wrong shape, annotations leave
        the recordings or hold anything but data, or `encode` has no name.
    """
    place = Path(folder).expanduser() / split
    if encode is not None and not name:
        raise UserError(
            "Latents of CALVIN's frames are kept under the name of their encoder: pass "
            "`name`, another one for another encoder."
        )
    bounds = _bounds(place)
    stored = _cache_file(place, bounds, (*keys, ACTIONS), name)
    rows = cache.load(stored)
    if rows is None:
        rows = _rows(place, bounds, keys, encode)
        cache.save(stored, rows)
    count = len(rows["actions"])
    timeouts = np.zeros(count, bool)
    timeouts[np.cumsum(bounds[:, 1] - bounds[:, 0] + 1) - 1] = True
    dataset = Dataset.from_arrays(
        rows["observations"],
        rows["actions"],
        np.zeros(count),
        np.zeros(count, bool),
        timeouts,
        spec=spec(rows["observations"].shape[1], rows["actions"].shape[1]),
        id=f"calvin/{Path(folder).name}/{split}{f'/{name}' if name else ''}",
        source=f"CALVIN's files in {place}",
    )
    return annotate(dataset, _annotations(place, bounds, language))


def table(path: str | Path) -> dict[str, np.ndarray]:
    """Sentence → embedding [D] f32, of all that CALVIN has at `path`.

    Args:
      path: a folder with splits, such as task_D_D, or one file of embeddings:
        auto_lang_ann.npy or embeddings.npy.

    Raises:
      UserError: there is neither, files are laid out otherwise, or their embeddings
        are of several lengths, or of none.
    """
    place = Path(path).expanduser()
    if place.is_file():
        found = _embeddings(place)
    else:
        folders = [place / split / ANNOTATIONS for split in SPLITS]
        recorded = [folder for folder in folders if (folder / RECORDED).is_file()]
        files = [folder / file for folder in recorded for file in (RECORDED, TESTED)]
        found = {}
        for file in filter(Path.is_file, files):
            found |= _embeddings(file)
    lengths = {len(vector) for vector in found.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(
            f"{place} holds no table of sentence embeddings ({len(found)} sentences, "
            f"of lengths {sorted(lengths)}): name a folder of CALVIN's with "
            f"{'/'.join((SPLITS[0], ANNOTATIONS, RECORDED))}, or a file of embeddings."
        )
    return found


def sentences(folder: str | Path, split: str = "validation") -> dict[str, str]:
    """The sentence in which the benchmark says each task.

    Raises:
      UserError: the file is missing or laid out otherwise.
    """
    path = Path(folder).expanduser() / split / ANNOTATIONS / TESTED
    with _laid_out(path, TESTED_LAYOUT):
        return {str(task): str(e["ann"][0]) for task, e in _tested(path).items()}


def _embeddings(path: Path) -> dict[str, np.ndarray]:
    """Sentence → embedding [D] f32 of one of the two files of annotations."""
    if path.name == TESTED:
        with _laid_out(path, TESTED_LAYOUT):
            return {
                str(entry["ann"][0]): np.asarray(entry["emb"], np.float32).ravel()
                for entry in _tested(path).values()
            }
    recorded = untrusted.read_pickle(path)
    with _laid_out(path, RECORDED_LAYOUT):
        spoken = recorded["language"]
        vectors = [v.ravel() for v in np.asarray(spoken["emb"], np.float32)]
        return dict(zip(map(str, spoken["ann"]), vectors, strict=True))


def _tested(path: Path) -> dict[Any, Any]:
    content = untrusted.read_pickle(path)
    if not isinstance(content, dict):
        raise TypeError(f"it holds {type(content).__name__}, not a dict")
    return content


RECORDED_LAYOUT = (
    "language/ann, language/task, language/emb and info/indx, of equal lengths"
)
TESTED_LAYOUT = "for each task, ann (a list with its sentence) and emb"


@contextmanager
def _laid_out(path: Path, layout: str) -> Iterator[None]:
    """Turns missing entries of what `path` holds into an error about its layout."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} is not laid out as CALVIN's annotations are "
            f"({type(error).__name__}: {error}): it must hold {layout}."
        ) from error


def _bounds(place: Path) -> np.ndarray:
    """First and last frame of each recording, [E, 2] int."""
    path = place / BOUNDS
    remedy = (
        "A split of CALVIN's is a folder (training, validation) with "
        f"{BOUNDS} and a file for each frame."
    )
    if not path.is_file():
        raise UserError(f"There is no {path}. {remedy}")
    with checks.damaged(str(path), remedy):
        bounds = np.load(path, allow_pickle=False)
    shape = bounds.shape
    if bounds.ndim != 2 or shape[1] != 2 or not np.issubdtype(bounds.dtype, np.integer):
        raise UserError(
            f"{path} holds {bounds.dtype} of shape {shape}; it must hold the first and "
            "last frame of each recording, integers of shape [E, 2]."
        )
    wrong = bounds[:, 0] > bounds[:, 1]
    wrong[1:] |= bounds[1:, 0] <= bounds[:-1, 1]
    if not len(bounds) or bounds[0, 0] < 0 or wrong.any():
        raise UserError(
            f"{path} holds no recordings, or some that overlap or end before they "
            f"begin (see entry {int(np.argmax(wrong)) if shape[0] else 0})."
        )
    return bounds.astype(np.int64)


def _cache_file(
    place: Path, bounds: np.ndarray, keys: tuple[str, ...], name: str
) -> Path:
    """Where what is read from these frames is kept; changes when they do.

    Two million frames are as many files: their number, sizes and newest change tell.
    """
    count = size = newest = 0
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("episode_"):
                status = entry.stat()
                count, size = count + 1, size + status.st_size
                newest = max(newest, status.st_mtime_ns)
    stamps = (count, size, newest)
    what = repr((str(place.resolve()), bounds.tobytes(), keys, name, stamps))
    digest = hashlib.sha256(what.encode()).hexdigest()
    return cache.folder("calvin") / f"{digest[:32]}.npz"


def _rows(
    place: Path,
    bounds: np.ndarray,
    keys: Sequence[str],
    encode: Callable[[Frames], np.ndarray] | None,
) -> dict[str, np.ndarray]:
    indices = np.concatenate([np.arange(a, b + 1) for a, b in bounds])
    missing = [i for i in indices if not frame(place, i).is_file()]
    if missing:
        raise UserError(
            f"{len(missing):,} of the {len(indices):,} frames that {BOUNDS} names are "
            f"not in {place}, the first of them {frame(place, missing[0]).name}: the "
            "download is incomplete, or the folder is of another split."
        )
    observations, acted = [], []
    for frames in _chunks(place, indices, (*keys, ACTIONS)):
        acted.append(frames.pop(ACTIONS).astype(np.float32))
        if encode is not None:
            observations.append(np.asarray(encode(frames), np.float32))
            continue
        parts = [frames[key].reshape(len(acted[-1]), -1) for key in keys]
        observations.append(np.concatenate(parts, axis=1, dtype=np.float32))
    return {
        "observations": np.concatenate(observations),
        "actions": np.concatenate(acted),
    }


def _chunks(
    place: Path, indices: np.ndarray, keys: tuple[str, ...]
) -> Iterator[dict[str, np.ndarray]]:
    """`keys` of `_CHUNK` frames at a time, [B, ...]."""
    shapes: dict[str, tuple[int, ...]] = {}
    for begin in range(0, len(indices), _CHUNK):
        columns: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        for index in indices[begin : begin + _CHUNK]:
            path = frame(place, index)
            found = untrusted.read_npz(path, keys, f"{path}, a frame of CALVIN's,")
            for key, value in found.items():
                if value.shape != shapes.setdefault(key, value.shape):
                    raise UserError(
                        f"{key!r} in {path} has shape {value.shape}, but "
                        f"{shapes[key]} in the frames before it."
                    )
                columns[key].append(value)
        yield {key: np.stack(values) for key, values in columns.items()}


def _annotations(place: Path, bounds: np.ndarray, language: str) -> Annotations:
    path = place / language / RECORDED
    recorded = untrusted.read_pickle(path)
    with _laid_out(path, RECORDED_LAYOUT):
        spoken, spans = recorded["language"], recorded["info"]["indx"]
        frames = np.asarray(spans, np.int64).reshape(-1, 2)
        said, tasks = list(map(str, spoken["ann"])), list(map(str, spoken["task"]))
        if not len(said) == len(tasks) == len(frames):
            raise ValueError(f"{len(said)}, {len(tasks)} and {len(frames)} entries")
    recording = np.searchsorted(bounds[:, 0], frames[:, 0], side="right") - 1
    outside = (recording < 0) | (frames[:, 1] > bounds[recording, 1])
    outside |= frames[:, 1] < frames[:, 0]
    if outside.any():
        first = int(np.argmax(outside))
        raise UserError(
            f"Annotation {first} of {path}, {said[first]!r}, is of frames "
            f"{frames[first].tolist()}, which do not lie within one recording of "
            f"{BOUNDS}: the annotations belong to another split."
        )
    lengths = bounds[:, 1] - bounds[:, 0] + 1
    offset = (np.cumsum(lengths) - lengths)[recording] - bounds[recording, 0]
    names, instructions = np.unique(tasks, return_inverse=True)
    texts, which = np.unique(said, return_inverse=True)
    return Annotations(
        frames[:, 0] + offset,
        frames[:, 1] + offset + 1,
        instructions,
        which,
        tuple(names.tolist()),
        tuple(texts.tolist()),
    )
