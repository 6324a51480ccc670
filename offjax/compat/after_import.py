"""What today's libraries have dropped, put back when a script imports them.

Only names that scripts of D4RL's time use, and that have one meaning.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def _tree_map(jax: Any) -> None:
    """`jax.tree_map` is `jax.tree.map` today."""
    jax.tree_map = jax.tree.map


def _save_without_a_file(wandb: Any) -> None:
    """`run.save()` without a file did nothing; today's wandb refuses it."""
    save = wandb.Run.save

    def accepting(run: Any, glob_str: Any = None, *args: Any, **kwargs: Any) -> Any:
        return None if glob_str is None else save(run, glob_str, *args, **kwargs)

    wandb.Run.save = accepting


CHANGES: dict[str, Callable[[Any], None]] = {
    "jax": _tree_map,
    "wandb": _save_without_a_file,
}
"""Module → what is done to it after its import."""


class Finder(MetaPathFinder):
    """Finds a module of `CHANGES` as ever, and changes it once it is imported."""

    def __init__(self) -> None:
        self._pending = dict(CHANGES)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The spec that the other finders give, with a longer `exec_module`."""
        change = self._pending.pop(fullname, None)
        if change is None:
            return None
        spec = importlib.util.find_spec(fullname)  # by the others: it is not pending
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch() -> None:
    """Begins to change modules; those that are imported already stay as they are."""
    sys.meta_path.insert(0, Finder())
