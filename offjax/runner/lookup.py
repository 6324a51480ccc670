"""Runs by name: a folder, a run id, `latest`, or `latest:METHOD`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from offjax.errors import UserError
from offjax.folders import BESIDE


def folders(runs_dir: str | Path) -> list[Path]:
    """Folders of runs that have a record, the newest first."""
    return sorted(_walk(Path(runs_dir)), key=lambda path: path.name, reverse=True)


def _walk(root: Path) -> Iterator[Path]:
    for place, inner, files in os.walk(root):
        if "run.json" in files:
            inner.clear()  # checkpoints hold many small files
            yield Path(place)
            continue
        hidden = [name for name in inner if name.startswith(".")]
        skipped = (*hidden, *BESIDE) if Path(place) == root else hidden
        inner[:] = [name for name in inner if name not in skipped]


def find(name: str | Path, runs_dir: str | Path = "runs") -> Path:
    """The folder that a name means.

    Args:
      name: a folder; the id of a run, or its beginning, if one run alone has it;
        `latest`, the newest finished run, or `latest:METHOD`.
      runs_dir: where runs are looked for.

    Raises:
      UserError: there is no such run, or several have the name.
    """
    if Path(name).is_dir():
        return Path(name)
    text = str(name)
    word, _, method = text.partition(":")
    if word == "latest":
        return _latest(runs_dir, method)
    if os.sep in text:
        raise UserError(
            f"{name} does not exist, so it is not a run; `offjax list runs` prints "
            "those that there are."
        )
    found = [path for path in folders(runs_dir) if path.name.startswith(text)]
    exact = [path for path in found if path.name == text]
    found = exact or found
    if len(found) > 1:
        shown = ", ".join(map(str, found[:5]))
        raise UserError(f"{len(found)} runs are called {text}: {shown}. Name a folder.")
    if not found:
        raise UserError(
            f"there is no folder {text}, and no run of that id in {runs_dir}; "
            f"`offjax list runs --runs_dir={runs_dir}` prints the runs."
        )
    return found[0]


def _latest(runs_dir: str | Path, method: str) -> Path:
    """The newest finished run, of a method if one is named."""
    from offjax.runner.records import RunFolder  # JAX, which completion does without

    methods = set()
    for path in folders(runs_dir):
        run = RunFolder(path)
        try:
            finished, its = run.record["status"] == "finished", run.config["method"]
        except (UserError, KeyError):  # half written, or damaged
            continue
        if finished and method in ("", its):
            return path
        methods |= {its} if finished else set()
    known = f" It has runs of {', '.join(sorted(methods))}." if methods else ""
    wanted = f" of {method}" if method else ""
    raise UserError(
        f"{runs_dir} has no finished run{wanted}.{known} Train one with `offjax run`, "
        "or name another folder with --runs_dir."
    )
