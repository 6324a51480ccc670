"""What tuning cost: the score that a method is expected to have after k evaluations.

Read from the tuning.json files that `offjax tune` leaves in a run store.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offjax.errors import UserError
from offjax.leaderboard.store import clean


@dataclass(frozen=True)
class Effort:
    """One method tuned on one dataset."""

    dataset: str
    method: str
    search: str
    evaluations: int  # settings that were trained and evaluated on tuning seeds
    # [k − 1] score on tuning seeds of the best of k trials, on average
    expected_best: tuple[float, ...]
    chosen: str  # the setting that won
    final_score: float  # its score on the final seeds


def read(roots: Iterable[str | Path]) -> list[Effort]:
    """Every tuned method below `roots`, by dataset and method.

    Raises:
      UserError: there is none, or a file is not what `offjax tune` writes.
    """
    found: list[Effort] = []
    for root in roots:
        for path in sorted(Path(root).glob("tuning/*/tuning.json")):
            found += _entries(path)
    if not found:
        raise UserError(
            "no tuning.json lies in tuning/*/ of the runs folder; tune methods with "
            "`offjax tune`."
        )
    return sorted(found, key=lambda e: (e.dataset, e.method))


def markdown(efforts: Iterable[Effort]) -> str:
    """A table: score after 1, 2, 4, … evaluations, and on the final seeds."""
    efforts = list(efforts)
    longest = max(len(e.expected_best) for e in efforts)
    counts = [2**i for i in range(longest.bit_length())]
    head = ["dataset", "method", "search", "evaluations"]
    head += [f"after {k}" for k in counts] + ["chosen", "final seeds"]
    lines = [head, ["---"] * len(head)]
    for e in efforts:
        after = [
            f"{e.expected_best[k - 1]:.1f}" if k <= len(e.expected_best) else ""
            for k in counts
        ]
        row = [e.dataset, e.method, e.search, str(e.evaluations), *after]
        lines.append([*row, e.chosen, f"{e.final_score:.1f}"])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _entries(path: Path) -> list[Effort]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return [
            Effort(
                clean(dataset),
                clean(method),
                clean(entry["search"]),
                int(entry["evaluations"]),
                tuple(float(score) for score in entry["expected_best"]),
                clean(", ".join(f"{n}={v}" for n, v in entry["chosen"].items())),
                float(entry["final_score"]),
            )
            for dataset, methods in content.items()
            for method, entry in methods.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not what `offjax tune` writes ({type(error).__name__}: "
            f"{error}); remove it, and tune again."
        ) from error
