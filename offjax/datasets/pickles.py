"""Pickles that others made, opened without running what they may hold.

A pickle can name any function and have it called when it is opened. Only NumPy's
arrays and Python's own data types are let through here.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from offjax.errors import UserError


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


def load(path: Path | zipfile.Path) -> Any:
    """The object that a `.npy` file, also one inside an `.npz`, holds as a pickle.

    Raises:
      UserError: the file is missing or damaged, or holds anything but arrays and
        Python's numbers, strings, lists, tuples and dicts.
    """
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            _, _, dtype = header(stream)
            if not dtype.hasobject:
                raise ValueError("it holds no object")
            return _DataUnpickler(stream).load().item()
    except FileNotFoundError as error:
        raise UserError(
            f"There is no {path}: the folder is of another kind, or was copied in part."
        ) from error
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{path} cannot be read as data ({error}). Nothing in it was run; copy the "
            "file again from where it is published."
        ) from error
