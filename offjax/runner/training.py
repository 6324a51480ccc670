"""All that determines a run: a job with its data and options, and its stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offjax import methods
from offjax.datasets import streams
from offjax.datasets.dataset import Dataset
from offjax.datasets.stored import StoredDataset
from offjax.evaluation import environments
from offjax.methods import pixels
from offjax.runner import memory, settings, sinks
from offjax.runner.checkpoints import StageStore
from offjax.runner.options import Options
from offjax.runner.records import digest
from offjax.runner.settings import Job
from offjax.runner.stages import (
    StageRun,
    layout_of,
    models_of,
    plan_stages,
    resolve_config,
    stage_data,
    template,
)
from offjax.types import EnvSpec, Model, Pytree


def make_jobs(
    method: str, preset: str, dataset: Dataset, overrides: settings.Overrides
) -> list[Job]:
    """The recipe for a dataset, with overrides, as jobs."""
    return jobs_on(method, preset, dataset.card.id, dataset.spec, overrides)


def jobs_on(
    method: str,
    preset: str,
    dataset: str,
    spec: EnvSpec | None,
    overrides: settings.Overrides,
) -> list[Job]:
    """`make_jobs` for a dataset's id and environment, without its data."""
    recipe = methods.build(method, spec, preset, dataset)
    prefix = "" if preset == "paper" else f"preset={preset}"
    return settings.expand(recipe, overrides, prefix)


def check(
    method: str,
    preset: str,
    overrides: settings.Overrides,
    dataset: str = "",
    spec: EnvSpec | None = None,
) -> None:
    """Refuses settings that can be refused before the data are loaded.

    Without `spec`, names and types are checked alone: which values make sense may
    depend on the environment.

    Raises:
      UserError: an unknown method, preset or hyperparameter, or a value out of range.
    """
    if spec is None:
        settings.check(methods.build(method, None, preset), overrides)
        return
    for job in jobs_on(method, preset, dataset, spec, overrides):
        if job.recipe.validate is not None:
            job.recipe.validate(job.recipe, None)


MANY = 1000
"""Number of seeds beyond which their memory is looked at before they are planned.

That of a run in waves always is: it holds the states of all seeds at its end.
"""


@dataclasses.dataclass(frozen=True)
class Training:
    """One run, planned."""

    job: Job  # the recipe and its settings
    method: str  # its name
    preset: str  # its name
    dataset: Dataset  # what it is trained on
    options: Options  # how it is run
    config: dict[str, Any]  # content of config.json
    hash: str  # of `config`
    stages: list[StageRun]  # in their order; training and loading fill in their states

    @classmethod
    def of(
        cls, job: Job, method: str, preset: str, dataset: Dataset, options: Options
    ) -> Training:
        """Plans a run, and refuses what could not be trained.

        Raises:
          UserError: options or hyperparameters that make no sense.
        """
        options.validate()
        sinks.check(options.log)
        environments.require_known(dataset.spec)
        settings.validate(job)
        stored = isinstance(dataset, StoredDataset)
        rows = None if stored else dataset.observations
        pixels.check(job.recipe, dataset.spec, rows)
        if options.stream:
            streams.require(method, job.recipe.stages)
        if job.recipe.validate is not None:
            job.recipe.validate(job.recipe, dataset)
        if options.num_seeds > min(MANY, options.at_once):
            _require_memory(job, dataset, options)
        card = dataset.card
        config = resolve_config(job, method, preset, card.id, card.identity, options)
        stages = plan_stages(job, dataset, options)
        return cls(
            job, method, preset, dataset, options, config, digest(config), stages
        )

    @property
    def store(self) -> StageStore:
        """Where trained stages are kept."""
        return StageStore(Path(self.options.runs_dir))

    @property
    def total_steps(self) -> int:
        """Updates of all stages."""
        return self.stages[-1].last_step

    def described(self) -> str:
        """One line for a reader: method, dataset, stages, seeds."""
        settings, seeds = len(self.job.settings), self.options.num_seeds
        copies = f"{seeds} seed{'s' * (seeds > 1)}"
        if settings > 1:
            copies += f" × {settings} settings"
        if self.options.at_once < seeds:
            copies += f" in waves of {self.options.at_once} seeds"
        stages = ", ".join(run.stage.name for run in self.stages)
        return (
            f"{self.method} on {self.dataset.card.id}: {self.total_steps:,} updates "
            f"({stages}) of {copies}"
        )

    def upstream(self, run: StageRun) -> dict[str, Model]:
        """The models that a stage reads, leaves NumPy [slots, …]."""
        return models_of(
            self.stages, run.slots, run.stage.reads, self.options.num_seeds
        )

    def load_states(self, keys: Mapping[str, str]) -> None:
        """Fills in the states of a finished run from the store.

        Args:
          keys: stage → key under which it was stored, as run.json has them.

        Raises:
          UserError: a stage that is not in the store, or is damaged.
        """
        stored = isinstance(self.dataset, StoredDataset)
        for run in self.stages:
            upstream = self.upstream(run)
            data: Pytree = streams.outline(self.dataset)
            if not (stored and streams.possible(run.stage.view)):  # which may not fit
                data = stage_data(run, self.dataset, upstream)
            like = template(run, data, upstream)
            key = keys[run.stage.name]
            run.states = self.store.load(key, like)
            run.recall(self.store.meta(key))

    def save_states(self, run: StageRun) -> None:
        """Puts the states of a trained stage into the store."""
        described = run.described(self.dataset.card.id)
        self.store.save(run.key, run.states, described)


def _require_memory(job: Job, dataset: Dataset, options: Options) -> None:
    """Refuses more seeds than fit, by the stages that read no other.

    Raises:
      UserError: they do not fit; the message says how many do.
    """
    for run in plan_stages(job, dataset, dataclasses.replace(options, num_seeds=1)):
        if not run.stage.reads:
            data: Pytree = streams.outline(dataset)
            if not options.stream:
                data = stage_data(run, dataset, {})
            need = memory.need_of(run, data, template(run, data, {}), {})
            layout = layout_of(run.slots.num_slots * options.at_once, options)
            memory.require(need, layout, options.at_once, options.num_seeds)
