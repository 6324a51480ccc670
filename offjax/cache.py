"""Where results that can be computed again are kept."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """The cache: $OFFJAX_CACHE, or ~/.cache/offjax; perhaps not there yet."""
    return Path(os.environ.get("OFFJAX_CACHE") or "~/.cache/offjax").expanduser()


def folder(name: str) -> Path:
    """A folder of the cache, made if missing."""
    path = root() / name
    path.mkdir(parents=True, exist_ok=True)
    return path
