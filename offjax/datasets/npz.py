"""Arrays of `.npz` files that nobody vouches for: numbers only, never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from offjax.datasets import checks
from offjax.errors import UserError


def read(path: Path, keys: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The named arrays of an npz file.

    Args:
      path: the file.
      keys: arrays to read.
      what: the file in words, as the subject of an error's sentence.

    Raises:
      UserError: the file is damaged, an array is missing, does not hold numbers, or
        is shorter than its header says.
    """
    with (
        checks.damaged(what, "Copy it again."),
        zipfile.ZipFile(path) as archive,
    ):
        there = [name.removesuffix(".npy") for name in archive.namelist()]
        missing = [key for key in keys if key not in there]
        if missing:
            raise UserError(
                f"{what} has no array {', '.join(missing)}; it holds "
                f"{', '.join(there)}. It is another file, or only a part of one: copy "
                "it again."
            )
        return {key: _array(archive, f"{key}.npy") for key in keys}


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    size = archive.getinfo(name).file_size
    with archive.open(name) as stream:
        version = npy.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, _, dtype = npy.read_array_header_2_0(stream)
        else:
            raise ValueError(f"{name} is of version {version}")
        if dtype.kind not in "biuf":
            raise ValueError(f"{name} is of type {dtype}, not of numbers")
        # A header that claims more than the file holds would fill the memory.
        claimed = dtype.itemsize
        for length in shape:
            claimed *= length
        if claimed > size - stream.tell():
            raise ValueError(f"{name} is shorter than its shape {shape}")
    with archive.open(name) as stream:
        return npy.read_array(stream, allow_pickle=False)
