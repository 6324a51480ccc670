"""Which folder a run writes to: a new one, or that of an unfinished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from offjax.devices import hosts
from offjax.errors import UserError
from offjax.runner.options import Options
from offjax.runner.records import RunFolder, find_runs, write_json


def open_folder(
    config: dict[str, Any], config_hash: str, options: Options
) -> tuple[RunFolder, bool]:
    """The folder, and whether it is one that is resumed; the same on all hosts.

    With `options.resume` it is that of the newest unfinished run of the same
    configuration, else of the newest finished one.

    Raises:
      UserError: an interrupted run of another configuration is there with progress to
        go on from, or the folder cannot be written.
    """
    path, resumed = hosts.agree(lambda: _open(config, config_hash, options))
    return RunFolder(Path(path)), resumed


def _open(
    config: dict[str, Any], config_hash: str, options: Options
) -> tuple[str, bool]:
    method, dataset = config["method"], config["dataset"]
    runs_dir = Path(options.runs_dir)
    if options.resume:
        known = find_runs(runs_dir, method, dataset)
        found = _to_resume(known, config, config_hash, alone=not options.sweep)
        if found is not None:
            return str(found.path), True
        if not options.quiet and not options.sweep:  # jobs of sweeps ask for it always
            print(
                f"--resume: no unfinished run of {method} on {dataset} in "
                f"{runs_dir}; a new one begins."
            )
    folder = RunFolder.create(runs_dir, method, dataset, config_hash)
    write_json(folder.path / "config.json", config)
    return str(folder.path), False


def _to_resume(
    known: Sequence[RunFolder], config: dict[str, Any], config_hash: str, alone: bool
) -> RunFolder | None:
    same = [r for r in known if r.record.get("config_hash") == config_hash]
    unfinished = [r for r in same if r.record["status"] != "finished"]
    if unfinished or same:
        return (unfinished or same)[0]
    others = [r for r in known if _has_progress(r)]
    if not others or not alone:  # a sweep's other settings are under way beside it
        return None
    changed = "; ".join(_differences(others[0].config, config))
    raise UserError(
        f"--resume: the unfinished run {others[0].path} has another configuration "
        f"({changed}). Give its flags again to continue it, or omit --resume to begin "
        "a new run."
    )


def _has_progress(run: RunFolder) -> bool:
    """Whether a run was interrupted, or killed, after a checkpoint."""
    if run.record["status"] in ("finished", "failed"):
        return False
    return any(p.name.isdecimal() for p in run.path.glob("checkpoints/*"))


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Entries in which two configurations differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            difference
            for name in sorted({*old, *new})
            for difference in _differences(
                old.get(name), new.get(name), f"{path}.{name}" if path else name
            )
        ]
    same = old == new or (isinstance(new, tuple) and list(new) == old)
    return [] if same else [f"{path} is {old} there, {new} here"]
