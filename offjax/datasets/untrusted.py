"""Arrays of files that nobody vouches for: data only, and never more than they hold."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from offjax.datasets import checks
from offjax.errors import UserError

if TYPE_CHECKING:
    from h5py import h5f

_MAX_COMPRESSION = 1100  # deflate's is 1032


def read_npz(path: Path, keys: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """The named arrays of an npz file, which must hold numbers.

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


def read_text(path: Path, name: str, most: int, what: str) -> str:
    """A text file of at most `most` bytes inside a zip or npz file.

    Raises:
      UserError: the zip file is damaged, or has no such file, or a longer one.
    """
    with (
        checks.damaged(what, "Copy it again."),
        zipfile.ZipFile(path) as archive,
    ):
        if name not in archive.namelist():
            raise UserError(f"{what} has no {name}: it is a file of another kind.")
        with archive.open(name) as stream:
            content = stream.read(most + 1)
        if len(content) > most:
            raise ValueError(f"{name} has more than {most:,} bytes")
        return content.decode()


def read_pickle(path: Path | zipfile.Path) -> Any:
    """The object that a `.npy` file holds as a pickle, none of whose code is run.

    The file may lie inside an `.npz`.

    Raises:
      UserError: the file is missing or damaged, or holds anything but arrays and
        Python's numbers, strings, lists, tuples and dicts.
    """
    if not path.is_file():
        raise UserError(
            f"There is no {path}: the folder is of another kind, or was copied in part."
        )
    remedy = "Nothing in it was run; copy it again from where it is published."
    with checks.damaged(str(path), remedy), path.open("rb") as stream:
        _, dtype = npy_header(stream)
        if not dtype.hasobject:
            raise ValueError("it holds no object")
        return _DataUnpickler(stream).load().item()


def read_hdf5(file: h5f.FileID, key: str) -> np.ndarray:
    """One array of an HDF5 file.

    Raises:
      ValueError: the file cannot hold as much as its header claims.
    """
    from h5py import h5d, h5s

    dataset = h5d.open(file, key.encode())
    chunked = dataset.get_create_plist().get_layout() == h5d.CHUNKED
    most = dataset.get_storage_size() * (_MAX_COMPRESSION if chunked else 1)
    _require_stored(key, dataset.shape, dataset.dtype, most)
    array = np.empty(dataset.shape, dataset.dtype)
    dataset.read(h5s.ALL, h5s.ALL, array)
    return array


def require_numbers(key: str, dtype: np.dtype) -> None:
    """Raises ValueError unless the array `key` holds numbers or booleans."""
    if dtype.kind not in "biuf":
        raise ValueError(f"{key} is of type {dtype}, not of numbers")


def _require_stored(
    key: str, shape: tuple[int, ...], dtype: np.dtype, stored: int
) -> None:
    """Reading an array that claims more bytes than there are would fill the memory."""
    if math.prod(shape) * dtype.itemsize > stored:
        raise ValueError(f"{key} is shorter than its shape {shape}")


class _DataUnpickler(pickle.Unpickler):
    """Lets arrays and built-in data through, and nothing that could act."""

    _ALLOWED = frozenset(
        (f"numpy.{core}.{module}", name)
        for core in ("core", "_core")
        for module, name in (
            ("multiarray", "_reconstruct"),
            ("multiarray", "scalar"),
            ("numeric", "_frombuffer"),
        )
    ) | {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not data")


def npz_header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array of an npz file, which is not read.

    Raises:
      ValueError: the file cannot hold as much as the header claims; and whatever
        `zipfile` raises.
    """
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        shape, dtype = npy_header(stream)
        stored = archive.getinfo(name).file_size - stream.tell()
        _require_stored(name, shape, dtype, stored)
        return shape, dtype


def npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array that follows."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = npy.read_array_header_1_0(stream)
    else:
        shape, _, dtype = npy.read_array_header_2_0(stream)
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as stream:
        shape, dtype = npy_header(stream)
        require_numbers(name, dtype)
        stored = archive.getinfo(name).file_size - stream.tell()
        _require_stored(name, shape, dtype, stored)
        stream.seek(0)
        return npy.read_array(stream, allow_pickle=False)
