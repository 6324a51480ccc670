"""`d4rl.infos`: REF_MIN_SCORE, REF_MAX_SCORE and DATASET_URLS.

The dictionaries hold D4RL's ids. The two of scores also answer for ids of this project
and of local datasets.
"""

from __future__ import annotations

import functools
from typing import Any

from offjax.compat import sources
from offjax.errors import UserError

NAMES = ("REF_MIN_SCORE", "REF_MAX_SCORE", "DATASET_URLS")


class References(dict):
    """Id → reference return."""

    def __init__(self, known: dict[str, float], which: str) -> None:
        super().__init__(known)
        self._which = which

    def __missing__(self, name: str) -> float:
        value = getattr(sources.find(name).env, self._which)
        if value is None:
            raise UserError(
                f"{name!r} has no reference scores, so its returns cannot be "
                "normalized. Report the returns."
            )
        self[name] = value
        return value


@functools.cache
def _made(name: str) -> Any:
    from offjax.datasets import download, legacy

    table = legacy.table()
    if name == "DATASET_URLS":
        return {id: f"{download.D4RL}/{entry.file}" for id, entry in table.items()}
    which = name.lower()
    known = {id: getattr(entry, which) for id, entry in table.items()}
    return References(known, which)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"d4rl.infos has no {name}; it has {', '.join(NAMES)}")
    return _made(name)
