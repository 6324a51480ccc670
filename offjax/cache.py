"""Where results that can be computed again are kept."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def root() -> Path:
    """The cache: $OFFJAX_CACHE, or ~/.cache/offjax; perhaps not there yet."""
    return Path(os.environ.get("OFFJAX_CACHE") or "~/.cache/offjax").expanduser()


def folder(name: str) -> Path:
    """A folder of the cache, made if missing."""
    path = root() / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def save(
    path: Path, arrays: Mapping[str, np.ndarray], compressed: bool = False
) -> None:
    """Writes an npz file that is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            write = np.savez_compressed if compressed else np.savez
            write(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> dict[str, np.ndarray] | None:
    """What `save` wrote; None where there is nothing, or what cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except Exception:  # a damaged file raises anything
        return None


def stamp(folder: Path) -> str:
    """Names, sizes and times of a folder's files; changes when any of them does."""
    files = sorted(
        (path.relative_to(folder).as_posix(), path.stat())
        for path in folder.rglob("*")
        if path.is_file()
    )
    return json.dumps([(name, s.st_size, s.st_mtime_ns) for name, s in files])
