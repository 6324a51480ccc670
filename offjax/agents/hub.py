"""Archives on the Hugging Face Hub, through the package huggingface_hub.

Tokens are the package's business: `hf auth login`, or $HF_TOKEN.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offjax.agents import archive
from offjax.errors import UserError

SCHEME = "hf://"


def download(place: str) -> Path:
    """The archive at hf://USER/REPOSITORY[@REVISION][/PATH], kept in the hub's cache.

    Raises:
      UserError: the package is not installed, or the hub has no such file.
    """
    user, _, rest = place.removeprefix(SCHEME).partition("/")
    repository, _, inner = rest.partition("/")
    repository, _, revision = repository.partition("@")
    if not user or not repository:
        raise UserError(
            f"{place} names no repository: write {SCHEME}USER/REPOSITORY, and after it "
            f"the path of the archive if that is not {archive.FILE}."
        )
    if not inner.endswith(".npz"):
        inner = f"{inner.rstrip('/')}/{archive.FILE}".lstrip("/")
    library = _library()
    with _asking(place):
        return Path(
            library.hf_hub_download(
                repo_id=f"{user}/{repository}",
                filename=inner,
                revision=revision or None,
            )
        )


def upload(place: str | os.PathLike[str], repository: str) -> str:
    """Uploads an exported run, or an archive alone; makes the repository if need be.

    Of an exported run all files go up, so that whoever has them can verify its scores.

    Args:
      place: the folder of an exported run, or an archive.
      repository: USER/REPOSITORY on the hub.

    Returns:
      What `offjax.load_agent` takes.

    Raises:
      UserError: there is no archive, the package is not installed, or the hub refuses.
    """
    path = Path(place)
    file = path / archive.FILE if path.is_dir() else path
    archive.read(file)
    library = _library()
    with _asking(repository):
        api = library.HfApi()
        api.create_repo(repo_id=repository, exist_ok=True)
        if path.is_dir() and (path / "checksums.json").is_file():
            api.upload_folder(repo_id=repository, folder_path=str(path))
        else:
            api.upload_file(
                repo_id=repository,
                path_or_fileobj=str(file),
                path_in_repo=archive.FILE,
            )
    return f"{SCHEME}{repository}"


def _library() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise UserError(
            "The Hugging Face Hub needs the package huggingface_hub, which is not "
            "installed: pip install 'offjax[hub]'."
        ) from error


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turns what the hub or its package raises into advice."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip()[:300]
        raise UserError(
            f"The Hugging Face Hub did not do it for {what} ({reason}). Look whether "
            "the name is right, and whether you may: `hf auth login`."
        ) from error
