"""Files of run folders, as they are read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the named files of a folder, as hexadecimal digits."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names
    }


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; `ValueError` for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not a JSON object")
    return content


def damaged(folder: Path) -> str:
    """Name of a file that does not match the folder's checksums, or ""."""
    if not (folder / "checksums.json").exists():
        return ""
    claimed = read_json(folder / "checksums.json")
    names = [
        n for n in claimed if not Path(n).is_absolute() and ".." not in Path(n).parts
    ]
    present = checksums(folder, [n for n in names if (folder / n).is_file()])
    return next((n for n in claimed if claimed[n] != present.get(n)), "")
