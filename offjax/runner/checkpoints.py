"""Checkpoints of complete states by orbax: asynchronous and atomic.

States are NumPy arrays with leading axis [slots], which another number of devices or
hosts can resume; their checksums tell a corrupt array that reads well. All hosts call
every method; the first one writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from offjax.datasets.checks import damaged
from offjax.devices import hosts
from offjax.errors import UserError
from offjax.runner.records import read_json, require_space, writing
from offjax.types import Pytree


class Checkpoints:
    """The newest checkpoints of a run, by total step."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True
        )
        self._folder = folder
        with writing(folder):
            self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, state: Pytree, meta: dict[str, Any]) -> None:
        """Begins to write `state` (NumPy) and `meta`; returns before it is on disk.

        Waits for the previous one, so that a full disk is seen one save later at most.
        """
        listed = _listed(state)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(listed),
            meta=ocp.args.JsonSave(meta),
            checksums=ocp.args.JsonSave(_checksums(listed)),
        )
        self.wait()
        require_space(self._folder, _size(listed))
        with writing(self._folder):
            self._manager.save(step, args=args, force=True)

    def wait(self) -> None:
        """Returns when what was saved is on disk."""
        with writing(self._folder):
            self._manager.wait_until_finished()

    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def newest_whole(self, say: Callable[[str], None]) -> int | None:
        """Step of the newest checkpoint that reads as it was written.

        `say` is told of the others, which are removed.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                self.meta(step)
                self._load(step, None)
                return step
            except UserError as error:
                say(f"{error} The one before it is tried.")
                hosts.barrier(f"corrupt {step}")
                if hosts.is_writer():
                    shutil.rmtree(self._folder / str(step), ignore_errors=True)
                hosts.barrier(f"removed {step}")
                self._manager.reload()
        return None

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps."""
        for later in self._manager.all_steps():
            if later > step:
                self._manager.delete(later)

    def meta(self, step: int) -> dict[str, Any]:
        """What was saved beside the state."""
        with _reading(self._folder / str(step)):
            args = ocp.args.Composite(meta=ocp.args.JsonRestore())
            return self._manager.restore(step, args=args)["meta"]

    def restore(self, step: int, like: Pytree) -> Pytree:
        """The state saved at `step`, in the structure of `like`."""
        template = _listed(jax.tree.map(np.asarray, like))
        listed = self._load(step, template)
        with _reading(self._folder / str(step)):
            return _unlisted(listed, like)

    def _load(self, step: int, template: dict[str, np.ndarray] | None) -> Any:
        with _reading(self._folder / str(step)):
            args = ocp.args.Composite(
                state=ocp.args.StandardRestore(template),
                checksums=ocp.args.JsonRestore(),
            )
            saved = self._manager.restore(step, args=args)
            _check(saved["state"], saved["checksums"])
            return saved["state"]

    def close(self) -> None:
        """Waits until everything is on disk."""
        self.wait()
        self._manager.close()


class StageStore:
    """Trained stages by the hash of what made them: `<runs_dir>/stages/<hash>/`."""

    def __init__(self, runs_dir: Path) -> None:
        self._folder = runs_dir / "stages"

    def has(self, key: str) -> bool:
        """Whether the stage is there, whole."""
        return (self._folder / key / "stage.json").exists()

    def save(self, key: str, state: Pytree, meta: dict[str, Any]) -> None:
        """Stores a state (NumPy, leading axis [slots]); keeps what is there already."""
        if hosts.agree(lambda: self.has(key)):
            return
        token = hosts.agree(lambda: secrets.token_hex(4))
        temporary = self._folder / f".{key}-{token}"
        listed = _listed(state)
        with writing(self._folder):
            try:
                temporary.mkdir(parents=True, exist_ok=True)
                require_space(self._folder, _size(listed))
                with ocp.StandardCheckpointer() as checkpointer:
                    checkpointer.save((temporary / "state").resolve(), listed)
                if hosts.is_writer():
                    content = meta | {"checksums": _checksums(listed)}
                    (temporary / "stage.json").write_text(json.dumps(content, indent=2))
                    os.rename(temporary, self._folder / key)
            except OSError:
                if not self.has(key):  # another process may have been faster
                    raise
            finally:
                hosts.barrier(f"stored {key}")
                shutil.rmtree(temporary, ignore_errors=True)

    def discard(self, key: str) -> None:
        """Removes a stage, to be trained anew."""
        hosts.barrier(f"discard {key}")
        shutil.rmtree(self._folder / key, ignore_errors=True)

    def lock(self, key: str) -> Path:
        """The file that a process locks while it trains the stage."""
        return self._folder / f".lock-{key}"

    def meta(self, key: str) -> dict[str, Any]:
        """What was stored beside the state."""
        return read_json(self._folder / key / "stage.json")

    def load(self, key: str, like: Pytree) -> Pytree:
        """The stored state, in the structure of `like` (arrays or shapes)."""
        path = self._folder / key
        if not self.has(key):
            raise UserError(
                f"the trained stage {key[:12]} is not in {self._folder}; run folders "
                "need the stages/ folder that they were made beside, and the code that "
                "trained them. Train the run again, copy stages/ along, or check out "
                "the commit in its run.json."
            )
        with _reading(path), ocp.StandardCheckpointer() as checkpointer:
            template = _listed(jax.tree.map(np.asarray, like))
            state = checkpointer.restore((path / "state").resolve(), template)
            _check(state, self.meta(key)["checksums"])
            return _unlisted(state, like)


def _reading(path: Path) -> contextlib.AbstractContextManager[None]:
    """Turns whatever goes wrong while reading into advice that names the file."""
    return damaged(
        f"the checkpoint {path}",
        "Remove it to go on from an older one, or begin anew without --resume.",
    )


def _listed(tree: Pytree) -> dict[str, np.ndarray]:
    """Leaves by position: files do not depend on the names of Python classes."""
    return {f"{i:05d}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(tree))}


def _checksums(listed: dict[str, np.ndarray]) -> dict[str, int]:
    return {
        name: zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data)
        for name, x in listed.items()
    }


def _size(listed: dict[str, np.ndarray]) -> int:
    return sum(x.nbytes for x in listed.values())


def _check(listed: dict[str, Any], checksums: dict[str, int]) -> None:
    found = _checksums({k: np.asarray(x) for k, x in listed.items()})
    if found != checksums:
        raise ValueError("its arrays are not those that were written")


def _unlisted(listed: dict[str, Any], like: Pytree) -> Pytree:
    leaves = [np.asarray(listed[key]) for key in sorted(listed)]
    wanted = jax.tree.leaves(like)
    if [np.shape(x) for x in leaves] != [np.shape(x) for x in wanted]:
        raise ValueError("its arrays have other shapes")
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
