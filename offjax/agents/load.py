"""Trained agents from archives: in a folder, a file, at a URL, or on a hub."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from offjax import cache
from offjax.agents import archive, hub
from offjax.datasets import download
from offjax.errors import UserError
from offjax.leaderboard.store import damaged_file
from offjax.runner.evaluator import Evaluator
from offjax.runner.stepped import SteppedAgent, agent_of

_ZIP = b"PK\x03\x04"


def load_agent(
    place: str | os.PathLike[str],
    seed: int | None = None,
    variant: str | None = None,
    sha256: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> SteppedAgent:
    """A trained agent, as `offjax.load_run(…).agent(seed)` gives it.

    No dataset is needed, and nothing of the archive is run as code.

    Args:
      place: an exported run's folder, or an archive; its http:// or https:// URL; or
        hf://USER/REPOSITORY, perhaps with a path in it. What was downloaded is kept.
      seed: which; by default the first that the archive has.
      variant: which, where the run has several; by default the first.
      sha256: hexadecimal digits that the archive must have.
      progress: called with a line of text while something is downloaded.

    Raises:
      UserError: there is no archive, it is damaged or of another version of offjax, its
        method is unknown, or the seed is not in it.
    """
    path = find(place, sha256, progress)
    found = archive.read(path)
    first = found.options.seed if seed is None else seed
    return agent_of(found, Evaluator(found), first, variant, str(path))


def find(
    place: str | os.PathLike[str],
    sha256: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """The file of an archive, downloaded if need be; arguments as of `load_agent`.

    Raises:
      UserError: there is none, or it has another checksum.
    """
    text = os.fspath(place)
    if text.startswith(("http://", "https://")):
        path = _downloaded(text, sha256, progress)
    elif text.startswith(hub.SCHEME):
        path = hub.download(text)
    else:
        path = _local(Path(text))
    if sha256 is not None and _sha256(path) != sha256.lower():
        raise UserError(
            f"{text} has the SHA-256 {_sha256(path)}, not {sha256}: it is another "
            "archive, or was changed. Ask whoever published it."
        )
    return path


def _local(place: Path) -> Path:
    """The archive of an exported run, or the file itself."""
    path = place / archive.FILE if place.is_dir() else place
    if not path.is_file():
        more = ""
        if (place / "run.json").is_file():
            more = " offjax.load_run loads a run that was trained here."
        raise UserError(
            f"There is no archive {path}. `offjax leaderboard --export=FOLDER "
            f"--parameters` writes one beside each exported run.{more}"
        )
    if path.name == archive.FILE and damaged_file(path.parent) == path.name:
        raise UserError(
            f"{path} differs from checksums.json beside it: it was changed, or copied "
            "in part. Copy the folder again."
        )
    return path


def _downloaded(
    url: str, sha256: str | None, progress: Callable[[str], None] | None
) -> Path:
    """The file at a URL, kept in the cache; one of another checksum is fetched anew."""
    if not urlsplit(url).path.endswith(".npz"):
        url = f"{url.rstrip('/')}/{archive.FILE}"
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    target = cache.root() / "agents" / name / archive.FILE
    if target.is_file() and sha256 is not None and _sha256(target) != sha256.lower():
        target.unlink()
    if not target.is_file() and os.environ.get("OFFJAX_OFFLINE", "") not in ("", "0"):
        raise UserError(f"{url} was not downloaded: $OFFJAX_OFFLINE is set.")
    prefix, _, relative = url.rpartition("/")
    return download.fetch(relative, target, [prefix], _ZIP, progress)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
