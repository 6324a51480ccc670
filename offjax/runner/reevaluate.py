"""Evaluation of finished runs with other operators and settings; no training."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offjax import methods
from offjax.datasets.dataset import Dataset
from offjax.datasets.load import load_dataset
from offjax.errors import UserError
from offjax.improvement import OPERATORS, improvement
from offjax.methods.compose import check
from offjax.runner import settings
from offjax.runner.evaluator import Evaluator
from offjax.runner.options import Options
from offjax.runner.records import HEADERS, RunFolder
from offjax.runner.run import Run, finished, load_run, options_of, overrides_of
from offjax.runner.settings import Job
from offjax.runner.training import Training
from offjax.types import Recipe


def reevaluate(
    path: str | Path,
    *,
    improve: str | None = None,
    critic_run: str | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    episodes: int = 100,
    eval_seed: int = 0,
    data_dir: str | None = None,
    max_devices: int = 0,
    videos: int = 0,
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields (variant, scores [seeds], returns [seeds]) and extends the run's records.

    Args:
      path: folder of a finished run.
      improve: operator of `offjax.improvement.OPERATORS` in place of the run's.
      critic_run: run whose critic the operator reads, where the run has none.
      grid: `improve.NAME`, `NAME` or `STAGE.NAME` of what acting alone reads →
        values; traced ones and numbers of candidates run together.
      episodes: full episodes per seed.
      eval_seed: number of the set of episodes.
      data_dir: root of the datasets.
      max_devices: devices to use at most; 0 = all.
      videos: episodes of each variant to film, into the run's `videos/`.

    Raises:
      UserError: an unfinished run, an unknown operator or setting, no critic.
    """
    folder = finished(path)
    config = folder.config
    dataset = load_dataset(config["dataset"], data_dir)
    base = options_of(folder, max_devices)
    options = dataclasses.replace(base, eval_episodes=episodes, eval_seed=eval_seed)
    jobs = plan(folder, dataset, base, improve, critic_run, grid)
    for job in jobs:
        training = Training.of(
            job, config["method"], config["preset"], dataset, options
        )
        training.load_states(folder.record["stages"])
        evaluator = Evaluator(training)
        if not evaluator.possible:
            reason = evaluator.missing
            raise UserError(f"{path} cannot be evaluated: {reason}")
        rows, each, _, scores = evaluator.rows(config["method"], training.total_steps)
        _replace(folder, "episodes.csv", each)
        _replace(folder, "scores.csv", rows)
        if videos:
            evaluator.film(videos, folder.path / "videos", eval_seed)
        returns = np.array([float(row[6]) for row in rows]).reshape(scores.shape)
        for i, variant in enumerate(job.variants):
            yield variant, scores[i], returns[i]


def plan(
    folder: RunFolder,
    dataset: Dataset,
    options: Options,
    improve: str | None = None,
    critic_run: str | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> list[Job]:
    """The run's settings with another operator, critic or grid, as jobs to act with.

    Args: as of `reevaluate`; `options` are the run's own.
    """
    config = folder.config
    method, preset = config["method"], config["preset"]
    recipe = methods.build(method, dataset.spec, preset, dataset.card.id)
    label = [] if config["preset"] == "paper" else [f"preset={config['preset']}"]
    overrides = overrides_of(config)
    if improve is not None:
        check("operator", improve, OPERATORS)
        recipe = dataclasses.replace(recipe, improve=improvement(improve))
        label.append(f"improve={improve}")
        known = settings.known_names(recipe)  # the former operator's are gone
        overrides = {name: v for name, v in overrides.items() if name in known}
    if critic_run is not None:
        recipe = _borrow(recipe, load_run(critic_run, dataset), options)
        label.append(f"critic={RunFolder(Path(critic_run)).config['method']}")
    if recipe.improve is not None and recipe.critic is None:
        raise UserError(
            f"{config['method']} has no critic for the operator {improve}; name a run "
            "that has one with --critic_run."
        )
    with_grid = _with_grid(recipe, overrides, grid or {})
    return settings.expand(recipe, with_grid, ",".join(label))


def _with_grid(
    recipe: Recipe, overrides: settings.Overrides, grid: settings.Overrides
) -> dict[str, Sequence[Any]]:
    """The run's overrides with a grid in place of those that set the same."""
    names = settings.known_names(recipe)
    allowed = {
        name
        for name, targets in names.items()
        if all(settings.acting_only(recipe, owner) for owner, _ in targets)
    }
    chosen = {}
    for name, values in grid.items():
        full = f"improve.{name}" if f"improve.{name}" in allowed else name
        if recipe.improve is None and full not in allowed:
            raise UserError(
                f"{recipe.name} acts without an operator, so there is no {name} that "
                "--grid could set; choose an operator with --improve."
            )
        if full not in allowed:
            known = sorted(n for n in allowed if "." not in n)
            reason = "is read in training" if full in names else "is not known"
            raise UserError(
                f"--grid={name}: {name} {reason}. What acting alone reads: "
                f"{', '.join(known)}; anything else is set by experiments.run "
                "--config."
            )
        chosen[full] = values
    set_by_grid = {target for name in chosen for target in names[name]}
    kept = {n: v for n, v in overrides.items() if not set_by_grid.issuperset(names[n])}
    return {**kept, **chosen}


def _borrow(recipe: Recipe, run: Run, options: Options) -> Recipe:
    """The recipe with the stages and the critic of another run behind its own."""
    other = run.training.job.recipe
    if run.training.options.seeds != options.seeds or len(run.variants) > 1:
        raise UserError(
            f"{run.path} has the seeds {run.training.options.seeds} and the variants "
            f"{run.variants}; a critic is read seed by seed, so it needs the seeds "
            f"{options.seeds} and a single variant."
        )
    if other.critic is None:
        raise UserError(f"{run.path} has no critic that an operator could read.")
    both = {s.name for s in recipe.stages} & {s.name for s in other.stages}
    if both:
        raise UserError(
            f"{run.path} and the run both have stages named {', '.join(both)}; train "
            "them together with --method=compose instead."
        )
    stages = (*recipe.stages, *other.stages)
    return dataclasses.replace(recipe, stages=stages, critic=other.critic)


def _replace(folder: RunFolder, file: str, rows: Sequence[Sequence[Any]]) -> None:
    """Appends rows in place of those of the same variant, seed and step."""
    header = HEADERS[file]
    key = [header.index(name) for name in ("variant", "seed", "step")]
    new = {tuple(str(row[i]) for i in key) for row in rows}
    with (folder.path / file).open() as lines:
        old = list(csv.reader(lines))[1:]
    kept = [row for row in old if tuple(row[i] for i in key) not in new]
    folder.rewrite(file, [*kept, *rows])
