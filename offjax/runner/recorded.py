"""Jobs as the config.json of a run has them, whatever recipes are today."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from offjax.errors import UserError
from offjax.runner.settings import Job, Setting, Target
from offjax.types import Recipe


def job_of(recipe: Recipe, config: Mapping[str, Any]) -> Job:
    """The job of a run, as its config.json has it.

    Args:
      recipe: the method's recipe of today, whose values may have changed since.
      config: content of config.json.

    Raises:
      UserError: the recipe has other stages or hyperparameters than the run.
    """
    names = [stage.name for stage in recipe.stages]
    if names != list(config["stages"]):
        raise UserError(
            f"the run has the stages {', '.join(config['stages'])}, but {recipe.name} "
            f"has {', '.join(names)} today: check out the commit in its run.json."
        )
    recipe = as_trained(recipe, config)
    acting = {
        name: _as_recorded(mine, config["acting"][name])
        for name, mine in recipe.acting.items()
    }
    improve = recipe.improve
    if improve is not None:
        values = config["improve"]["config"]
        improve = dataclasses.replace(
            improve, config=_as_recorded(improve.config, values)
        )
    settings = tuple(
        Setting(
            tuple((_target(n), tuples(v)) for n, v in each["values"].items()),
            each["variant"],
        )
        for each in config["settings"]
    )
    recipe = dataclasses.replace(recipe, acting=acting, improve=improve)
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
    stages = []
    for stage in recipe.stages:
        if stage.name in config["stages"]:
            mine = config["stages"][stage.name]
            stage = dataclasses.replace(
                stage,
                config=_as_recorded(stage.config, mine["config"]),
                num_steps=mine["num_steps"],
            )
        stages.append(stage)
    return dataclasses.replace(recipe, stages=tuple(stages))


def _target(name: str) -> Target:
    owner, field = name.rsplit(".", 1)
    return owner, field


def _as_recorded(config: Any, values: Mapping[str, Any]) -> Any:
    """A config with the values of its record; fields that are newer keep theirs."""
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(
            f"the run has the hyperparameters {', '.join(unknown)}, which "
            f"{type(config).__module__} does not have today: check out the commit in "
            "its run.json."
        )
    return dataclasses.replace(config, **{n: tuples(v) for n, v in values.items()})


def tuples(value: Any) -> Any:
    """A value of a JSON file with tuples for its lists."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value
