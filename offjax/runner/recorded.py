"""Jobs as the config.json of a run has them, whatever recipes are today."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from offjax.errors import UserError
from offjax.runner.settings import Job, Setting, Target, with_configs
from offjax.types import Recipe, Stage, added_defaults


def job_of(recipe: Recipe, config: Mapping[str, Any]) -> Job:
    """The job of a run, as its config.json has it; `recipe` may have changed since.

    Raises:
      UserError: the recipe has other stages or hyperparameters than the run.
    """
    names = [stage.name for stage in recipe.stages]
    if sorted(names) != sorted(config["stages"]):  # a file has them in another order
        raise UserError(
            f"the run has the stages {', '.join(config['stages'])}, but {recipe.name} "
            f"has {', '.join(names)} today: check out the commit in its run.json."
        )
    configs = {name: each["config"] for name, each in config["stages"].items()}
    configs |= config["acting"]
    if recipe.improve is not None:
        configs["improve"] = config["improve"]["config"]
    recipe = _as_recorded(recipe, config, configs)
    settings = tuple(
        Setting(
            tuple((_target(n), tuples(v)) for n, v in each["values"].items()),
            each["variant"],
        )
        for each in config["settings"]
    )
    return Job(recipe, settings, overrides_of(config))


def overrides_of(config: Mapping[str, Any]) -> dict[str, tuple]:
    """The overrides of a config.json, in the order that its variants name."""
    variants = "".join(f",{s['variant']}" for s in config["settings"])

    def place(name: str) -> int:
        return variants.find(f",{name.removeprefix('improve.')}=")

    names = sorted(config["overrides"], key=place)
    return {name: tuples(config["overrides"][name]) for name in names}


def as_trained(recipe: Recipe, config: Mapping[str, Any]) -> Recipe:
    """The recipe with the stages' hyperparameters of a run's config.json."""
    configs = {name: each["config"] for name, each in config["stages"].items()}
    return _as_recorded(recipe, config, configs)


def _as_recorded(
    recipe: Recipe, config: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any]]
) -> Recipe:
    """The recipe with recorded values.

    Fields that are newer keep theirs, `added` ones have their defaults.
    """

    def change(owner: str, mine: Any) -> Any:
        values = configs.get(owner, {})
        if owner in configs:
            values = added_defaults(mine) | dict(values)
        known = {field.name for field in dataclasses.fields(mine)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise UserError(
                f"the run has the hyperparameters {', '.join(unknown)}, which "
                f"{type(mine).__module__} does not have today: check out the commit in "
                "its run.json."
            )
        return dataclasses.replace(mine, **{n: tuples(v) for n, v in values.items()})

    steps = {name: each["num_steps"] for name, each in config["stages"].items()}
    recipe = with_configs(recipe, change, steps)
    stages = (_with_view(stage, config) for stage in recipe.stages)
    return dataclasses.replace(recipe, stages=tuple(stages))


def _with_view(stage: Stage, config: Mapping[str, Any]) -> Stage:
    """The stage with the fields of its view as recorded, where they are."""
    known = {field.name for field in dataclasses.fields(stage.view)}  # type: ignore[arg-type]
    fields = config["stages"].get(stage.name, {}).get("view", {}).get("fields")
    if fields is None:
        return stage
    fields = added_defaults(stage.view) | dict(fields)
    values = {name: tuples(v) for name, v in fields.items() if name in known}
    view = dataclasses.replace(stage.view, **values)  # type: ignore[type-var]
    return dataclasses.replace(stage, view=view)


def _target(name: str) -> Target:
    owner, field = name.rsplit(".", 1)
    return owner, field


def tuples(value: Any) -> Any:
    """A value of a JSON file with tuples for its lists."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value
