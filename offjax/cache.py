"""Where results that can be computed again are kept."""

from __future__ import annotations

import os
from pathlib import Path


def folder(name: str) -> Path:
    """A folder of the cache, made if missing: $OFFJAX_CACHE_DIR or ~/.cache/offjax."""
    root = os.environ.get("OFFJAX_CACHE_DIR") or "~/.cache/offjax"
    path = Path(root).expanduser() / name
    path.mkdir(parents=True, exist_ok=True)
    return path
