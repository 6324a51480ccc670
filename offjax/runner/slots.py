"""The slots of a stage: every seed with every setting that matters to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from offjax.runner.settings import Job
from offjax.types import Recipe


@dataclasses.dataclass(frozen=True)
class Slots:
    """See the module; [slots] each."""

    seeds: tuple[int, ...]  # seed of each slot
    values: tuple[dict[str, Any], ...]  # changed fields of the stage's own config
    of_setting: tuple[int, ...]  # first slot of each setting; seed i is i further

    @property
    def num_slots(self) -> int:
        """Number of slots."""
        return len(self.seeds)


def stage_slots(job: Job, owner: str, seeds: Sequence[int]) -> Slots:
    """Slots of one stage, or of acting with owner "improve" (every setting)."""
    relevant = _with_upstream(job.recipe, owner)
    firsts: dict[tuple, int] = {}
    of_setting: list[int] = []
    slot_seeds: list[int] = []
    values: list[dict[str, Any]] = []
    for setting in job.settings:
        mine = setting.values
        if owner != "improve":
            mine = tuple(
                (target, value) for target, value in mine if target[0] in relevant
            )
        if mine not in firsts:
            firsts[mine] = len(slot_seeds)
            slot_seeds += list(seeds)
            values += [{n: value for (o, n), value in mine if o == owner}] * len(seeds)
        of_setting.append(firsts[mine])
    return Slots(tuple(slot_seeds), tuple(values), tuple(of_setting))


def _with_upstream(recipe: Recipe, owner: str) -> set[str]:
    stages = {s.name: s for s in recipe.stages}
    found, todo = set(), [owner]
    while todo:
        name = todo.pop()
        found.add(name)
        todo += stages[name].reads if name in stages else []
    return found


def slot_map(job: Job, source: Slots, target: Slots, num_seeds: int) -> list[int]:
    """For each slot of `target`, the slot of `source` with its seed and setting."""
    result = [0] * target.num_slots
    for first, origin in zip(target.of_setting, source.of_setting, strict=True):
        for i in range(num_seeds):
            result[first + i] = origin + i
    return result
