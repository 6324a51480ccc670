"""Frames of OGBench's `visual-*` files, in a mapped file of the cache.

A file's `observations` [N, H, W, 3] of bytes are compressed: 12 GB a million. They are
unpacked once, in blocks, without the last state of each trajectory, so that row i + 1
follows row i. All else is read as of the files of states (`ogbench`).
"""

from __future__ import annotations

import uuid
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from offjax import cache
from offjax.datasets import checks, untrusted
from offjax.errors import UserError
from offjax.types import Camera

CAMERA = Camera("pixels", 64, 64)
"""What OGBench's visual environments show."""
_MEMBER = "observations.npy"
_BLOCK = 2000  # frames that are in memory at once


def frames(path: Path, keep: np.ndarray, what: str) -> np.ndarray:
    """The frames of a file's rows where `keep` [N] is true, as rows of bytes, mapped.

    Args:
      path: npz file.
      keep: rows of the file.
      what: the file in words, as the subject of an error's sentence.

    Raises:
      UserError: the file is damaged, or its observations are no images of `CAMERA`, or
        not as many as there are rows.
    """
    source = path.stat()
    stamp = f"{path.resolve()} {source.st_size} {source.st_mtime_ns}"
    code = zlib.crc32(np.packbits(keep).tobytes(), zlib.crc32(stamp.encode()))
    target = cache.folder("ogbench") / f"{path.stem}-{code:08x}.npy"
    width = CAMERA.height * CAMERA.width * 3
    shape = int(keep.sum()), width
    with suppress(OSError, ValueError):
        found = np.load(target, mmap_mode="r")
        if found.shape == shape and found.dtype == np.uint8:
            return found
    temporary = target.with_name(f".{uuid.uuid4().hex}")
    try:
        with checks.damaged(what, "Copy it again."):
            _require_images(path, len(keep), what)
            out = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            _unpack(path, keep, out)
            out.flush()
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return np.load(target, mmap_mode="r")


def _require_images(path: Path, rows: int, what: str) -> None:
    shape, dtype = untrusted.npz_header(path, _MEMBER)
    expected = (rows, CAMERA.height, CAMERA.width, 3)
    if shape != expected or dtype != np.uint8:
        raise UserError(
            f"{what} has observations {shape} of {dtype}, but those of OGBench's "
            f"visual datasets are {expected} of uint8, a row for each of `terminals`. "
            "It is another file, or was converted: copy the published one."
        )


def _unpack(path: Path, keep: np.ndarray, out: np.ndarray) -> None:
    """Fills `out` with the kept frames, block by block."""
    width, begin = out.shape[1], 0
    with zipfile.ZipFile(path) as archive, archive.open(_MEMBER) as stream:
        untrusted.npy_header(stream)
        for first in range(0, len(keep), _BLOCK):
            chosen = keep[first : first + _BLOCK]
            content = stream.read(len(chosen) * width)
            rows = np.frombuffer(content, np.uint8).reshape(len(chosen), width)[chosen]
            out[begin : begin + len(rows)] = rows
            begin += len(rows)
