"""Evaluation of finished runs with other operators and settings; no training.

Every evaluation is a record of its own, in `evaluations/<name>/` of the run's folder:
scores.csv, episodes.csv and evaluation.json. The same evaluation has the same name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from offjax import methods
from offjax.catalog.load import load_dataset
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.improvement import OPERATORS, improvement
from offjax.methods.compose import check
from offjax.runner import recorded, settings
from offjax.runner.evaluator import Evaluator
from offjax.runner.options import Options
from offjax.runner.records import (
    EVALUATIONS,
    SCHEMA,
    RunFolder,
    digest,
    environment,
    write_json,
    writing,
)
from offjax.runner.run import Run, finished, load_run, options_of
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
    """Yields (variant, scores [seeds], returns [seeds]), each when it is recorded.

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
      videos: episodes of each variant to film at the end, into the run's `videos/`.

    Raises:
      UserError: an unfinished run, an unknown operator or setting, no critic.
    """
    folder = finished(path)
    config = folder.config
    base = options_of(folder, max_devices)
    options = dataclasses.replace(base, eval_episodes=episodes, eval_seed=eval_seed)
    options.validate()
    if improve is not None:
        check("operator", improve, OPERATORS)
    dataset = load_dataset(config["dataset"], data_dir)
    asked = {
        "episodes": episodes,
        "eval_chains": options.eval_chains,
        "eval_seed": eval_seed,
        "improve": improve,
        "critic_run": critic_run and Path(critic_run).name,
        "grid": {name: list(values) for name, values in (grid or {}).items()},
    }
    keys = folder.record["stages"]
    if critic_run is not None:
        keys |= RunFolder(Path(critic_run)).record["stages"]
    evaluators = []
    for job in plan(folder, dataset, base, improve, critic_run, grid):
        training = Training.of(
            job, config["method"], config["preset"], dataset, options
        )
        evaluator = Evaluator(training)
        if not evaluator.possible:
            reason = evaluator.missing
            raise UserError(f"{path} cannot be evaluated: {reason}")
        training.load_states(keys)
        step = training.total_steps
        rows, each, _, scores = evaluator.rows(config["method"], step)
        record(folder, rows, each, asked | {"variants": job.variants, "step": step})
        returns = np.array([float(row[6]) for row in rows]).reshape(scores.shape)
        for i, variant in enumerate(job.variants):
            yield variant, scores[i], returns[i]
        if videos:
            evaluators.append(evaluator)
    for evaluator in evaluators:
        evaluator.film(videos, folder.path / "videos", eval_seed)


def record(
    folder: RunFolder,
    scores: Sequence[Sequence[Any]],
    episodes: Sequence[Sequence[Any]],
    facts: Mapping[str, Any],
) -> Path:
    """Writes one evaluation of a finished run, rows of both files; its folder.

    `facts` are what was asked for: the same facts replace their earlier record.
    """
    name = f"{facts['episodes']}-episodes-set{facts['eval_seed']}-{digest(facts)[:8]}"
    mine = RunFolder(folder.path / EVALUATIONS / name)
    with writing(folder.path):
        mine.path.mkdir(parents=True, exist_ok=True)
    mine.rewrite("episodes.csv", episodes)
    write_json(
        mine.path / "evaluation.json", {"schema": SCHEMA, **facts, **environment()}
    )
    mine.rewrite("scores.csv", scores)  # last: it is what readers look for
    return mine.path


def plan(
    folder: RunFolder,
    dataset: Dataset,
    options: Options,
    improve: str | None = None,
    critic_run: str | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> list[Job]:
    """The run's settings with another operator, critic or grid, as jobs to act with.

    As for `reevaluate`; `options` are the run's own.
    """
    config = folder.config
    method, preset = config["method"], config["preset"]
    recipe = methods.build(method, dataset.spec, preset, dataset.card.id)
    label = [] if config["preset"] == "paper" else [f"preset={config['preset']}"]
    overrides = recorded.overrides_of(config)
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
    jobs = settings.expand(recipe, with_grid, ",".join(label))
    return [
        dataclasses.replace(job, recipe=recorded.as_trained(job.recipe, config))
        for job in jobs
    ]


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
                f"{', '.join(known)}; anything else is set with "
                "`offjax run --config.NAME=…`."
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
