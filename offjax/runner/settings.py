"""Overrides of hyperparameters → runs, and the slots of each of their stages.

An override is a name with one or more values. Values of a traced scalar share one
program with the seeds; each combination of static ones is a run of its own.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from offjax.errors import UserError
from offjax.types import Recipe, Stage, traced_fields

Overrides = Mapping[str, Sequence[Any]]
Target = tuple[str, str]
"""(stage name or "improve", field)."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """One combination of values: what differs, by target, and its name."""

    values: tuple[tuple[Target, Any], ...]
    variant: str

    def of(self, owner: str) -> dict[str, Any]:
        """The fields of a stage (or "improve") that this setting changes."""
        return {name: value for (o, name), value in self.values if o == owner}


@dataclasses.dataclass(frozen=True)
class Job:
    """A recipe whose static fields are fixed, and the settings of its traced ones."""

    recipe: Recipe
    settings: tuple[Setting, ...]
    overrides: dict[str, tuple]  # name → values, from which the job can be made again

    @property
    def variants(self) -> list[str]:
        """Variant of each setting."""
        return [setting.variant for setting in self.settings]


def known_names(recipe: Recipe) -> dict[str, list[Target]]:
    """Every name that an override may have, with the fields that it sets."""
    names: dict[str, list[Target]] = {}
    owners = [(s.name, s.config, ["num_steps"]) for s in recipe.stages]
    if recipe.improve is not None:
        owners.append(("improve", recipe.improve.config, []))
    for owner, config, extra in owners:
        fields = [f.name for f in dataclasses.fields(config)] if config else []
        for field in [*extra, *fields]:
            names.setdefault(f"{owner}.{field}", []).append((owner, field))
            names.setdefault(field, []).append((owner, field))
    return names


def _config_of(recipe: Recipe, owner: str) -> Any:
    if owner == "improve":
        assert recipe.improve is not None
        return recipe.improve.config
    return next(s.config for s in recipe.stages if s.name == owner)


def _default(recipe: Recipe, target: Target) -> Any:
    owner, field = target
    if field == "num_steps" and owner != "improve":
        return next(s.num_steps for s in recipe.stages if s.name == owner)
    return getattr(_config_of(recipe, owner), field)


def _coerce(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`, or a clear error."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, (int, float)):
        value = (value,)
    if kind is tuple and isinstance(value, (list, tuple)):
        entry = type(default[0]) if default else None
        if entry is None or all(type(v) is entry for v in value):
            return tuple(value)
    if kind is bool and value in ("true", "True", "false", "False"):
        return value in ("true", "True")
    if default is None or (type(value) is kind and kind is not tuple):
        return value
    raise UserError(
        f"--config.{name}={value!r} is of type {type(value).__name__}, but {name} is "
        f"of type {kind.__name__} (its default is {default!r})."
    )


def _resolve(recipe: Recipe, name: str, values: Sequence[Any]) -> list[Any]:
    names = known_names(recipe)
    if name not in names:
        close = difflib.get_close_matches(name, names, 3, 0.5)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        known = ", ".join(sorted(n for n in names if "." not in n))
        raise UserError(
            f"{recipe.name} has no hyperparameter {name!r}.{hint} Known: {known} (each "
            "also as STAGE.NAME, with the stages "
            f"{', '.join(s.name for s in recipe.stages)})."
        )
    if not values:
        raise UserError(f"--config.{name} was given without a value.")
    default = _default(recipe, names[name][0])
    if isinstance(default, tuple) and not isinstance(values[0], (tuple, list)):
        values = [tuple(values)]  # one tuple, typed without its parentheses
    if isinstance(default, str):
        values = [v for value in values for v in str(value).split(",")]
    coerced = [_coerce(name, value, default) for value in values]
    return list(dict.fromkeys(coerced))


def _text(value: Any) -> str:
    return (
        format(value, "g") if isinstance(value, float) else str(value).replace(" ", "")
    )


def _replace(recipe: Recipe, values: Sequence[tuple[Target, Any]]) -> Recipe:
    stages: list[Stage] = []
    for stage in recipe.stages:
        mine = {field: value for (o, field), value in values if o == stage.name}
        steps = mine.pop("num_steps", stage.num_steps)
        config = dataclasses.replace(stage.config, **mine) if mine else stage.config
        stages.append(dataclasses.replace(stage, config=config, num_steps=steps))
    improve = recipe.improve
    mine = {field: value for (o, field), value in values if o == "improve"}
    if improve is not None and mine:
        config = dataclasses.replace(improve.config, **mine)
        improve = dataclasses.replace(improve, config=config)
    return dataclasses.replace(recipe, stages=tuple(stages), improve=improve)


def expand(recipe: Recipe, overrides: Overrides, prefix: str = "") -> list[Job]:
    """The runs that `overrides` ask for.

    Args:
      recipe: with the values of its preset.
      overrides: name → values; a name without a stage sets every field of that name.
      prefix: what variants begin with (`preset=small`), or "".

    Raises:
      UserError: an unknown name or a value of the wrong type.
    """
    names = known_names(recipe)
    axes = [(n, _resolve(recipe, n, values)) for n, values in overrides.items()]
    jobs: dict[tuple, Job] = {}
    for combination in itertools.product(*(values for _, values in axes)):
        fixed: list[tuple[Target, Any]] = []
        traced: list[tuple[Target, Any]] = []
        label = [prefix] if prefix else []
        mine: dict[str, tuple] = {}
        for (name, values), value in zip(axes, combination, strict=True):
            if any(_default(recipe, t) != value for t in names[name]):
                label.append(f"{name.removeprefix('improve.')}={_text(value)}")
            together = len(values) > 1 and _is_traced(recipe, names[name])
            mine[name] = tuple(values) if together else (value,)
            (traced if together else fixed).extend((t, value) for t in names[name])
        key = tuple(fixed)
        if key not in jobs:
            jobs[key] = Job(_replace(recipe, fixed), (), mine)
        setting = Setting(tuple(traced), ",".join(label) or "default")
        settings = (*jobs[key].settings, setting)
        jobs[key] = dataclasses.replace(jobs[key], settings=settings)
    return list(jobs.values())


def _is_traced(recipe: Recipe, targets: Sequence[Target]) -> bool:
    return all(
        field in traced_fields(type(_config_of(recipe, owner)))
        for owner, field in targets
    )


@dataclasses.dataclass(frozen=True)
class Slots:
    """The slots of a stage: every seed with every setting that matters to it.

    Attributes:
      seeds: seed of each slot.
      values: the changed fields of the stage's own config, per slot.
      of_setting: for each setting of the job, the index of its first slot; seed i
        of the setting is at that index + i.
    """

    seeds: tuple[int, ...]
    values: tuple[dict[str, Any], ...]
    of_setting: tuple[int, ...]

    @property
    def num_slots(self) -> int:
        """Number of slots."""
        return len(self.seeds)


def stage_slots(job: Job, owner: str, seeds: Sequence[int]) -> Slots:
    """Slots of one stage, or of acting with owner "improve" (every setting)."""
    relevant = _upstream(job.recipe, owner)
    firsts: dict[tuple, int] = {}
    of_setting: list[int] = []
    slot_seeds: list[int] = []
    values: list[dict[str, Any]] = []
    for setting in job.settings:
        mine = tuple((t, v) for t, v in setting.values if t[0] in relevant)
        key = mine if owner != "improve" else setting.values
        if key not in firsts:
            firsts[key] = len(slot_seeds)
            slot_seeds += list(seeds)
            values += [setting.of(owner)] * len(seeds)
        of_setting.append(firsts[key])
    return Slots(tuple(slot_seeds), tuple(values), tuple(of_setting))


def _upstream(recipe: Recipe, owner: str) -> set[str]:
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
