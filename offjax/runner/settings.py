"""Overrides of hyperparameters → runs, and the slots of each of their stages.

An override is a name with one or more values. Values of a traced scalar share one
program with the seeds, and so do several numbers of candidates of an operator, which
are masks of the largest; each combination of other static values is a run of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from offjax.errors import UserError
from offjax.improvement import MASKS, validate
from offjax.runner.ranges import require_sound
from offjax.types import Recipe, Stage, traced_fields

Overrides = Mapping[str, Sequence[Any]]
Target = tuple[str, str]
"""(stage name or "improve", field)."""
Pairs = tuple[tuple[Target, Any], ...]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One combination of values: what differs, by target, and its name."""

    values: Pairs
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
    # A stage of one update measures something; the length of trainings is not its.
    measuring = {s.name for s in recipe.stages if s.num_steps == 1}
    if recipe.improve is not None:
        owners.append(("improve", recipe.improve.config, []))
    for owner, config, extra in owners:
        fields = [f.name for f in dataclasses.fields(config)] if config else []
        for field in [*extra, *fields]:
            names.setdefault(f"{owner}.{field}", []).append((owner, field))
            if field != "num_steps" or owner not in measuring:
                names.setdefault(field, []).append((owner, field))
    return names


def _config_of(recipe: Recipe, owner: str) -> Any:
    if owner == "improve":
        assert recipe.improve is not None
        return recipe.improve.config
    return next(s.config for s in recipe.stages if s.name == owner)


def default_value(recipe: Recipe, target: Target) -> Any:
    """What the recipe itself has for a field."""
    owner, field = target
    if field == "num_steps" and owner != "improve":
        return next(s.num_steps for s in recipe.stages if s.name == owner)
    return getattr(_config_of(recipe, owner), field)


def _coerce(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of `default`, or a clear error."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e4
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


def check(recipe: Recipe, overrides: Overrides) -> None:
    """Raises `UserError` for an unknown name, or a value that none of its can be.

    The recipe may be that of another domain, or of none: names and types are the same.
    """
    for name, values in overrides.items():
        _resolve(recipe, name, values)


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
    default = default_value(recipe, names[name][0])
    if isinstance(default, tuple) and not isinstance(values[0], (tuple, list)):
        # One tuple, typed without its parentheses: 256,256 or open_window,close_window.
        parts = (v.split(",") if isinstance(v, str) else (v,) for v in values)
        values = [tuple(entry for part in parts for entry in part if entry != "")]
    if isinstance(default, str):
        values = [v for value in values for v in str(value).split(",")]
    coerced = [_coerce(name, value, default) for value in values]
    for value in coerced:
        require_sound(name, value, default, names[name][0][0])
    return list(dict.fromkeys(coerced))


@contextlib.contextmanager
def blamed(job: Job, stage: str) -> Iterator[None]:
    """Makes errors that settings cause, while a program is traced, errors about them.

    Raises:
      UserError: instead of what was raised inside, where the job has overrides.
    """
    try:
        yield
    except (TypeError, ValueError, ArithmeticError, LookupError, AssertionError) as e:
        if not job.overrides:
            raise
        given = ", ".join(
            f"{name}={','.join(map(_text, values))}"
            for name, values in job.overrides.items()
        )
        raise UserError(
            f"stage {stage} cannot be made with the settings {given}: "
            f"{type(e).__name__}: {str(e)[:300]}. Change them, or leave some away."
        ) from e


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
    recipe = dataclasses.replace(recipe, stages=tuple(stages), improve=improve)
    return recipe.link(recipe) if recipe.link is not None else recipe


def expand(recipe: Recipe, overrides: Overrides, prefix: str = "") -> list[Job]:
    """The runs that `overrides` ask for.

    Args:
      recipe: with the values of its preset.
      overrides: name → values; a name without a stage sets every field of that name
        that no STAGE.NAME among them sets, in whatever order they are given.
      prefix: what variants begin with (`preset=small`), or "".

    Raises:
      UserError: an unknown name or a value of the wrong type.
    """
    names = known_names(recipe)
    specific = {names[name][0] for name in overrides if "." in name and name in names}
    axes = [_axis(recipe, names, overrides, name, specific) for name in overrides]
    axes = [axis for axis in axes if axis]
    jobs: dict[tuple, Job] = {}
    for points in itertools.product(*axes):
        fixed = [pair for point in points for pair in point.fixed]
        traced = [pair for point in points for pair in point.traced]
        labels = [prefix, *(point.label for point in points)]
        key = tuple(fixed)
        if key not in jobs:
            mine = {point.name: point.together for point in points}
            jobs[key] = Job(_replace(recipe, fixed), (), mine)
        variant = ",".join(label for label in labels if label) or "default"
        setting = Setting(tuple(traced), variant)
        settings = (*jobs[key].settings, setting)
        jobs[key] = dataclasses.replace(jobs[key], settings=settings)
        _validate(jobs[key].recipe, setting)
    return list(jobs.values())


def _validate(recipe: Recipe, setting: Setting) -> None:
    """Checks the operator's settings here, since inside a program they are traced."""
    if recipe.improve is not None:
        validate(dataclasses.replace(recipe.improve.config, **setting.of("improve")))


@dataclasses.dataclass(frozen=True)
class _Point:
    """One value of an override: what it sets, in the program or per slot."""

    name: str
    fixed: Pairs
    traced: Pairs
    together: tuple  # all values of the override that share the program
    label: str  # "" where the value is the default


def _axis(
    recipe: Recipe,
    names: Mapping[str, Sequence[Target]],
    overrides: Overrides,
    name: str,
    specific: set[Target],
) -> list[_Point]:
    """The values of one override; none where STAGE.NAME sets all that it would set."""
    values, targets = _resolve(recipe, name, overrides[name]), names[name]
    if "." not in name:
        targets = [target for target in targets if target not in specific]
        if not targets:
            return []
    mask = _mask(recipe, targets, values)
    # A single value of what a stage reads when acting must not change its identity.
    of_slots = _is_traced(recipe, targets) and (
        len(values) > 1
        or all(t[0] != "improve" and acting_only(recipe, *t) for t in targets)
    )
    points = []
    for value in values:
        fixed: Pairs = tuple((target, value) for target in targets)
        traced: Pairs = ()
        if mask is not None:
            fixed = tuple((target, max(values)) for target in targets)
            traced = ((mask, float(value)),)
        elif of_slots:
            fixed, traced = (), fixed
        together = tuple(values) if traced else (value,)
        # A specific value is named beside a general one even where it is the default.
        shown = "." in name and targets[0][1] in overrides
        label = ""
        if shown or any(default_value(recipe, t) != value for t in targets):
            label = f"{name.removeprefix('improve.')}={_text(value)}"
        points.append(_Point(name, fixed, traced, together, label))
    return points


def _mask(
    recipe: Recipe, targets: Sequence[Target], values: Sequence[Any]
) -> Target | None:
    """The field that hides candidates, where several numbers of them are asked for."""
    if len(values) < 2 or len(targets) != 1 or targets[0][1] not in MASKS:
        return None
    owner, field = targets[0]
    mask, least = MASKS[field]
    if owner != "improve" or not hasattr(_config_of(recipe, owner), mask):
        return None
    if min(values) < least:
        raise UserError(
            f"{field} is {min(values)} among {sorted(values)}; it must be at least "
            f"{least}."
        )
    return owner, mask


def acting_only(recipe: Recipe, owner: str, field: str) -> bool:
    """Whether no training depends on a field, so that acting alone reads it."""
    if owner == "improve":
        return True
    stage = next(s for s in recipe.stages if s.name == owner)
    return field in stage.acting and not any(owner in s.reads for s in recipe.stages)


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
        mine = setting.values
        if owner != "improve":
            mine = tuple(
                (target, value)
                for target, value in mine
                if target[0] in relevant and not acting_only(job.recipe, *target)
            )
        if mine not in firsts:
            firsts[mine] = len(slot_seeds)
            slot_seeds += list(seeds)
            values += [{n: value for (o, n), value in mine if o == owner}] * len(seeds)
        of_setting.append(firsts[mine])
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
