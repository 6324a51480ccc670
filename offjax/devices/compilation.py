"""Compiled programs on disk, and in memory.

`keep_programs` has JAX keep them in `$OFFJAX_CACHE/programs/<machine>`, a folder per
kind of processor, since a program compiled for one may not run on another. JAX's own
variables go before: `JAX_COMPILATION_CACHE_DIR` names another place,
`JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

from offjax import cache

LIMIT = 2 * 2**30
"""Bytes of kept programs; beyond, the oldest go."""
MIN_SECONDS = 0.2
"""What compiles faster is not kept."""
MAPS = Path("/proc/self/maps")
MAX_MAPS = Path("/proc/sys/vm/max_map_count")
MAPS_SHARE = 0.5
"""Share of the maps that a process may have, from which programs are released."""


def keep_programs() -> Path | None:
    """Has JAX keep compiled programs on disk from now on; where, or None if not.

    A folder that cannot be written is told on stderr, and nothing is kept.
    """
    if os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "").lower() in ("0", "false"):
        return None
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if given:
        return Path(given)
    folder = cache.root() / "programs" / machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder)
    except OSError as error:
        print(f"compiled programs are not kept: {error}", file=sys.stderr)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_SECONDS)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def release_programs() -> bool:
    """Has JAX drop compiled programs, where they have become too many; whether it did.

    On CPUs a run's programs take a thousand memory maps, which JAX holds on to. Linux
    gives a process 65,530; the run that exceeds them crashes while it compiles.
    """
    try:
        limit = int(MAX_MAPS.read_text())
        used = MAPS.read_bytes().count(b"\n")
    except OSError:  # there is no such limit
        return False
    if used < MAPS_SHARE * limit:
        return False
    jax.clear_caches()
    return True


def machine() -> str:
    """A short name of the kind of processor and of the version of JAX."""
    features = ""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = ("model name", "flags", "Features")
        features = "".join(sorted({line for line in lines if line.startswith(names)}))
    kind = f"{platform.machine()} {platform.processor()} {features} {jax.__version__}"
    return f"{platform.machine()}-{hashlib.sha256(kind.encode()).hexdigest()[:12]}"


def _prune(folder: Path) -> None:
    """Removes the oldest programs beyond `LIMIT`; others may remove them, too."""
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            entries.append((path.stat().st_mtime, path.stat().st_size, path))
    size = sum(entry[1] for entry in entries)
    for _, bytes_, path in sorted(entries):
        if size <= LIMIT:
            break
        path.unlink(missing_ok=True)
        size -= bytes_
