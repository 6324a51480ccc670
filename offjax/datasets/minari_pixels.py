"""Images in Minari datasets: a Dict of cameras, or one image, as rows of bytes.

This project writes a Dict with a Box [H, W, 3] of bytes for each camera, compressed
without loss. Reading decompresses them once, into a file of rows that is mapped: frames
are in memory only where they are used.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import gymnasium
import h5py
import numpy as np
from gymnasium.spaces import Box, Dict

from offjax import cache
from offjax.datasets import minari_rows
from offjax.datasets.dataset import content_hash
from offjax.datasets.untrusted import require_numbers
from offjax.errors import UserError
from offjax.types import Camera

FRAMES, REST = "offjax_frames.npy", "offjax_rows.npz"
"""Files beside a dataset's data: its rows of pixels, and all else."""
_CHUNK, _LEVEL = 16, 4
"""Frames of an HDF5 chunk and gzip's level. Frames resemble the one before, which lies
within gzip's window of 32 KB: 16 frames together take half of what they take alone.
Level 6 saves another 7 % and writes at two thirds of the speed; a shuffle of single
bytes changes nothing."""
_ONE = "pixels"  # the camera of observations that are one image
_FIELDS = (
    "actions",
    "rewards",
    "terminals",
    "timeouts",
    "final_observations",
    "checksum",
)


def space(cameras: Sequence[Camera]) -> Dict:
    """The observation space of cameras."""
    return Dict(
        {c.name: Box(0, 255, (c.height, c.width, 3), np.uint8) for c in cameras}
    )


def write(group: h5py.Group, cameras: Sequence[Camera], rows: np.ndarray) -> None:
    """Writes an episode's rows [T + 1, O] as `group/<camera>` [T + 1, H, W, 3]."""
    first = 0
    for camera in cameras:
        shape = (camera.height, camera.width, 3)
        part = rows[:, first : first + int(np.prod(shape))]
        first += part.shape[1]
        group.create_dataset(
            camera.name,
            data=part.reshape(-1, *shape),
            chunks=(min(_CHUNK, len(rows)), *shape),
            compression="gzip",
            compression_opts=_LEVEL,
        )


def cameras(data: Mapping[str, Any], name: str) -> tuple[Camera, ...]:
    """The cameras of a dataset with this metadata; () where it holds no images.

    A Dict's cameras are in the order in which this project stored them, else in that
    of the space.

    Raises:
      UserError: images that are not [H, W, 3] bytes, or among other observations.
    """
    from minari.serialization import deserialize_space

    observed = deserialize_space(data["observation_space"])
    spaces = observed.spaces if isinstance(observed, Dict) else {_ONE: observed}
    if not any(_is_image(each) for each in spaces.values()):
        return ()
    found = {}
    for key, each in spaces.items():
        shape = tuple(each.shape or ())
        if not (_is_image(each) and each.dtype == np.uint8 and shape[2] == 3):
            raise UserError(
                f"Dataset {name!r} has images and, as {key!r}, {each}: observations "
                "that are images must all be [height, width, 3] of bytes (uint8). "
                "Convert the others yourself and pass them to Dataset.from_arrays."
            )
        found[key] = Camera(key, shape[0], shape[1])
    stored = (data.get("offjax", {}).get("spec") or {}).get("cameras", ())
    order = [camera[0] for camera in stored] or list(found)
    if sorted(order) != sorted(found):
        raise UserError(
            f"Dataset {name!r} holds the cameras {', '.join(found)}, its "
            f"specification names {', '.join(order)}: it is damaged, collect it again."
        )
    return tuple(found[key] for key in order)


def read(folder: Path, data: dict[str, Any], seen: Sequence[Camera]) -> dict[str, Any]:
    """Flat rows of a dataset's folder, as `Dataset.from_arrays` takes them.

    The observations are mapped from a file beside the data, which is made if it is not
    there or is of other data. Where the folder cannot be written they are in memory.

    Raises:
      ValueError: frames are missing or of other sizes, or episodes do not fit
        together; and whatever h5py raises.
    """
    width = sum(camera.height * camera.width * 3 for camera in seen)
    rows = cache.load(folder / REST)
    if _is_of(rows, folder):
        with suppress(OSError, ValueError):
            frames = np.load(folder / FRAMES, mmap_mode="r")
            if frames.shape == (len(rows["rewards"]), width):
                return _finished(rows, frames)
    shape = int(data["total_steps"]), width
    temporary = folder / f".{uuid.uuid4().hex}.npy"
    try:
        frames = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
    except OSError:  # a read-only place is read without a cache
        frames = np.empty(shape, np.uint8)
        return _finished(_unpack(folder, data, seen, frames), frames)
    try:
        rows = _unpack(folder, data, seen, frames)
        frames.flush()
        temporary.replace(folder / FRAMES)
        stamp = np.asarray(cache.stamp(folder / "data"))
        cache.save(folder / REST, {"stamp": stamp, **rows})
    finally:
        temporary.unlink(missing_ok=True)
    return _finished(rows, np.load(folder / FRAMES, mmap_mode="r"))


def _is_of(rows: dict[str, Any] | None, folder: Path) -> TypeGuard[dict[str, Any]]:
    """Whether cached rows are of the folder's data as they are now."""
    if rows is None or rows.keys() != {"stamp", *_FIELDS}:
        return False
    return str(rows.pop("stamp")) == cache.stamp(folder / "data")


def _finished(rows: dict[str, Any], frames: np.ndarray) -> dict[str, Any]:
    return {**rows, "observations": frames, "checksum": str(rows["checksum"])}


def _unpack(
    folder: Path,
    data: dict[str, Any],
    seen: Sequence[Camera],
    out: np.ndarray,
) -> dict[str, Any]:
    """Fills `out` [N, O] with the frames; the other rows."""
    one = len(seen) == 1 and seen[0].name == _ONE
    paths = [f"observations/{camera.name}" for camera in seen]
    layout = ("observations",) if one else tuple(paths)
    fields = minari_rows.FIELDS[1:]
    columns: dict[str, list[np.ndarray]] = {key: [] for key in fields}
    last, begin = [], 0
    episodes = minari_rows.episodes(
        folder / "data", data, (*layout, *fields), images=True
    )
    for parts in episodes:
        images, rest = parts[: len(seen)], parts[len(seen) :]
        length = len(rest[1])
        for camera, image in zip(seen, images, strict=True):
            expected = (length + 1, camera.height, camera.width, 3)
            if image.shape != expected or image.dtype != np.uint8:
                raise ValueError(
                    f"camera {camera.name!r} has frames {image.shape} of {image.dtype} "
                    f"in an episode of {length} steps, not {expected} of uint8"
                )
        if not length or begin + length > len(out):
            raise ValueError("its episodes are not those that its metadata count")
        whole = np.concatenate([x.reshape(length + 1, -1) for x in images], axis=1)
        out[begin : begin + length] = whole[:-1]
        last.append(whole[-1])
        begin += length
        for key, value in zip(fields, rest, strict=True):
            require_numbers(key, value.dtype)
            if len(value) != length:
                raise ValueError("the arrays of an episode differ in length")
            columns[key].append(value)
    if begin != len(out):
        raise ValueError(f"it holds {begin} steps, its metadata count {len(out)}")
    flat = {key: np.concatenate(parts) for key, parts in columns.items()}
    lengths = np.array([len(rewards) for rewards in columns["rewards"]])
    rows = {
        "actions": flat["actions"].astype(np.float32),
        "rewards": flat["rewards"].astype(np.float32),
        "terminals": flat["terminations"].astype(bool),
        "timeouts": minari_rows.cut_at(
            lengths, flat["terminations"], flat["truncations"]
        ),
        "final_observations": np.stack(last),
    }
    checksum = content_hash(out, *rows.values())
    return {**rows, "checksum": np.asarray(checksum)}


def _is_image(space: gymnasium.Space) -> bool:
    return isinstance(space, Box) and len(space.shape) == 3
