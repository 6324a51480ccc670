"""Overrides of hyperparameters → runs.

Several values of a traced scalar share one program with the seeds, and so do several
numbers of candidates of an operator, which are masks of the largest. Each combination
of other values is a run of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from offjax.errors import UserError
from offjax.improvement import MASKS
from offjax.methods.renamed import RENAMED
from offjax.runner.values import text, typed
from offjax.types import Recipe, traced_fields

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


def owners(recipe: Recipe) -> dict[str, Any]:
    """Configs by the name that goes before their fields in overrides."""
    found = {stage.name: stage.config for stage in recipe.stages} | dict(recipe.acting)
    if recipe.improve is not None:
        found["improve"] = recipe.improve.config
    return found


def known_names(recipe: Recipe) -> dict[str, list[Target]]:
    """Every name that an override may have, with the fields that it sets."""
    names: dict[str, list[Target]] = {}
    for stage in recipe.stages:
        names[f"{stage.name}.num_steps"] = [(stage.name, "num_steps")]
        if not stage.fixed_length:
            names.setdefault("num_steps", []).append((stage.name, "num_steps"))
    for owner, config in owners(recipe).items():
        for field in dataclasses.fields(config):
            names.setdefault(f"{owner}.{field.name}", []).append((owner, field.name))
            names.setdefault(field.name, []).append((owner, field.name))
    return names


def default_value(recipe: Recipe, target: Target) -> Any:
    """What the recipe itself has for a field."""
    owner, field = target
    if field == "num_steps":
        return recipe.stage(owner).num_steps
    return getattr(owners(recipe)[owner], field)


def check(recipe: Recipe, overrides: Overrides) -> None:
    """Raises `UserError` for an unknown name, or a value that none of its can be.

    The recipe may be for another domain: names and types are the same.
    """
    names = known_names(recipe)
    for name, values in overrides.items():
        _require_known(recipe, names, name)
        owner = names[name][0][0]
        typed(name, values, default_value(recipe, names[name][0]), owner)


def _require_known(recipe: Recipe, names: Iterable[str], name: str) -> None:
    """Refuses names that the recipe does not have, and former names of its fields."""
    owner, _, field = name.rpartition(".")
    for stage in recipe.stages:
        new = RENAMED.get(stage.method.name, {}).get(field, "")
        moved = "." in new  # to an entry of acting: the field alone still names it
        if new and (owner == stage.name or (not owner and not moved)):
            new = new if moved else f"{stage.name}.{new}"
            raise UserError(
                f"--config.{name}: {field} of the stage {stage.name} is called "
                f"{new.rpartition('.')[2]} now: give --config.{new}."
            )
    if name in names:
        return
    close = difflib.get_close_matches(name, list(names), 3, 0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    known = ", ".join(sorted(n for n in names if "." not in n))
    raise UserError(
        f"{recipe.name} has no hyperparameter {name!r}.{hint} Known: {known} (each "
        f"also as STAGE.NAME, with the stages {', '.join(owners(recipe))})."
    )


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
            f"{name}={','.join(map(text, values))}"
            for name, values in job.overrides.items()
        )
        raise UserError(
            f"stage {stage} cannot be made with the settings {given}: "
            f"{type(e).__name__}{_place(e)}: {textwrap.shorten(str(e), 300)}. Change "
            "the settings, or leave some out. If the method is new, its code may be "
            "wrong."
        ) from e


def _place(error: Exception) -> str:
    """Where it was raised, outside installed packages: " in FILE, line N" or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "site-packages" not in f.filename]
    return f" in {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""


def with_configs(
    recipe: Recipe,
    change: Callable[[str, Any], Any],
    num_steps: Mapping[str, int],
) -> Recipe:
    """The recipe with `change(owner, config)` for each config, and other lengths.

    Owners are the stages, the entries of acting, and "improve".
    """
    stages = tuple(
        dataclasses.replace(
            stage,
            config=change(stage.name, stage.config),
            num_steps=num_steps.get(stage.name, stage.num_steps),
        )
        for stage in recipe.stages
    )
    acting = {name: change(name, config) for name, config in recipe.acting.items()}
    improve = recipe.improve
    if improve is not None:
        config = change("improve", improve.config)
        improve = dataclasses.replace(improve, config=config)
    return dataclasses.replace(recipe, stages=stages, acting=acting, improve=improve)


def _replace(recipe: Recipe, values: Sequence[tuple[Target, Any]]) -> Recipe:
    """The recipe with these fields set."""
    steps = {o: value for (o, field), value in values if field == "num_steps"}
    fields = {target: value for target, value in values if target[1] != "num_steps"}

    def change(owner: str, config: Any) -> Any:
        mine = {field: value for (o, field), value in fields.items() if o == owner}
        return dataclasses.replace(config, **mine) if mine else config

    return with_configs(recipe, change, steps)


def expand(recipe: Recipe, overrides: Overrides, prefix: str = "") -> list[Job]:
    """The runs that `overrides` ask for.

    Args:
      recipe: with the values of its preset.
      overrides: name → values; a name without a stage sets every field of that name
        that no STAGE.NAME among them sets.
      prefix: what variants begin with (`preset=small`), or "".

    Raises:
      UserError: an unknown name, a value of the wrong type or one that makes no sense.
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
    for job in jobs.values():
        validate(job)
    return list(jobs.values())


def validate(job: Job) -> None:
    """Raises `UserError` for values that make no sense; in programs they are traced."""
    for owner, config in owners(job.recipe).items():
        for setting in job.settings:
            dataclasses.replace(config, **setting.of(owner)).validate()


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
    _require_known(recipe, names, name)
    targets = names[name]
    default = default_value(recipe, targets[0])
    values = typed(name, overrides[name], default, targets[0][0])
    if "." not in name:
        targets = [target for target in targets if target not in specific]
        if not targets:
            return []
    mask = _mask(recipe, targets, values)
    of_slots = _is_traced(recipe, targets) and len(values) > 1
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
            label = f"{name.removeprefix('improve.')}={text(value)}"
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
    if owner != "improve" or mask not in traced_fields(type(owners(recipe)[owner])):
        return None
    if min(values) < least:
        raise UserError(
            f"{field} is {min(values)} among {sorted(values)}; it must be at least "
            f"{least}."
        )
    return owner, mask


def acting_only(recipe: Recipe, owner: str) -> bool:
    """Whether acting alone reads what an owner of settings holds."""
    return owner == "improve" or owner in recipe.acting


def _is_traced(recipe: Recipe, targets: Sequence[Target]) -> bool:
    configs = owners(recipe)
    return all(field in traced_fields(type(configs[owner])) for owner, field in targets)
