"""Runs from Python: train, load, evaluate, act."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from offjax import methods
from offjax.catalog.load import known_spec, load_dataset
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.methods.compose import check as check_name
from offjax.runner import lookup, recorded
from offjax.runner.evaluator import Evaluator
from offjax.runner.options import Options
from offjax.runner.records import RunFolder
from offjax.runner.stepped import SteppedAgent, agent_of
from offjax.runner.train import train_together as carry_out
from offjax.runner.training import Training, check, make_jobs
from offjax.types import Pytree


@dataclasses.dataclass(frozen=True)
class Request:
    """A method with a preset and overrides, before it meets a dataset."""

    method: str
    preset: str
    overrides: dict[str, tuple[Any, ...]]


def recipe(method: str, preset: str = "small", **overrides: Any) -> Request:
    """A method to train: `recipe("cfpi", log_tau=0.5)`.

    A list as a value trains every entry in the same program; a hyperparameter of one
    stage is given as `**{"sarsa.critic_lr": 1e-4}`.

    Raises:
      UserError: an unknown method, preset or hyperparameter, or a value out of range.
    """
    values = {
        name: tuple(value) if isinstance(value, list) else (value,)
        for name, value in overrides.items()
    }
    check(method, preset, values)
    return Request(method, preset, values)


class Scores(NamedTuple):
    """An evaluation: [seeds, episodes] each (after [settings] where several)."""

    returns: np.ndarray
    lengths: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run."""

    folder: RunFolder  # where its records lie
    training: Training  # what was trained, with its states
    evaluator: Evaluator  # acts with them

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def variants(self) -> list[str]:
        """Variant of each setting."""
        return self.training.job.variants

    @property
    def states(self) -> dict[str, Pytree]:
        """Stage → its states, NumPy with leading axis [settings × seeds]."""
        return {run.stage.name: run.states for run in self.training.stages}

    def agent(self, seed: int = 0, variant: str | None = None) -> SteppedAgent:
        """One seed's policy, to be stepped from Python."""
        return agent_of(self.training, self.evaluator, seed, variant, str(self.path))


def train(
    request: Request | str, dataset: Dataset | str, num_seeds: int = 5, **options: Any
) -> Run:
    """Trains a method on a dataset.

    Args:
      request: from `recipe`, or a method's name (preset small).
      dataset: a dataset, or its id.
      num_seeds: seeds, all in one program.
      **options: any other field of `offjax.runner.options.Options`.

    Raises:
      UserError: bad input, or several values of a static hyperparameter (each of
        which is a run of its own).
    """
    (run,) = train_together(request, [dataset], num_seeds, **options)
    return run


def train_together(
    request: Request | str,
    datasets: Sequence[Dataset | str],
    num_seeds: int = 5,
    **options: Any,
) -> list[Run]:
    """Trains a method on several datasets, a run each, as `train` would.

    Datasets of one shape are one program: it is compiled once, and the cores or the
    accelerator are shared by the seeds of all of them. The results are the same.

    Args:
      request: as in `train`.
      datasets: datasets, or their ids.
      num_seeds: seeds on each dataset.
      **options: as in `train`.

    Raises:
      UserError: as `train`; no dataset, or the same one twice.
    """
    if isinstance(request, str):
        request = recipe(request)
    if not isinstance(request, Request):
        raise UserError(
            f"train takes a method's name or what offjax.recipe(...) returns, not a "
            f"{type(request).__name__}."
        )
    if not datasets:
        raise UserError("datasets is empty: give one dataset or more.")
    chosen = _options(num_seeds, options)
    trainings = [_planned(request, dataset, chosen) for dataset in datasets]
    names = [training.dataset.card.id for training in trainings]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the dataset {name} is given twice: give it once.")
    folders = carry_out(trainings)
    return [
        Run(folder, training, Evaluator(training))
        for folder, training in zip(folders, trainings, strict=True)
    ]


def _planned(request: Request, dataset: Dataset | str, options: Options) -> Training:
    """The only run that is asked for on a dataset."""
    method, preset, overrides = request.method, request.preset, request.overrides
    if isinstance(dataset, str):
        check(method, preset, overrides, dataset, known_spec(dataset))
        dataset = load_dataset(dataset)
    jobs = make_jobs(method, preset, dataset, overrides)
    if len(jobs) > 1:
        raise UserError(
            f"{len(jobs)} combinations of hyperparameters that shape the program were "
            "asked for; call train once for each."
        )
    return Training.of(jobs[0], method, preset, dataset, options)


def _options(num_seeds: int, given: dict[str, Any]) -> Options:
    """The options of `train`; `UserError` with near names for an unknown one."""
    known = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        check_name("option of train", name, known)
    options = Options(num_seeds=num_seeds, **given)
    options.validate()
    return options


def finished(path: str | Path) -> RunFolder:
    """The folder of a finished run; `UserError` for anything else.

    Args:
      path: the folder, or another name of a run in `runs`, see `lookup.find`.
    """
    folder = RunFolder(lookup.find(path))
    record = folder.record
    status = record["status"]
    if status == "failed":
        raise UserError(
            f"{path} failed ({record.get('error', 'unknown error')}), so it has no "
            "result to read; remove the cause and train again."
        )
    if status == "running":
        raise UserError(f"{path} is running: wait until it is finished.")
    if status != "finished":
        raise UserError(
            f"{path} is not finished (its status: {status}); run its command again "
            "with --resume."
        )
    return folder


def options_of(folder: RunFolder, max_devices: int = 0) -> Options:
    """The options that a run was made with, as far as they shape its states."""
    config = folder.config
    parents = [p for p in folder.path.parents if (p / "stages").exists()]
    if not parents:
        raise UserError(
            f"no stages/ folder lies above {folder.path}: run folders need the one "
            "that they were made beside."
        )
    return Options(
        num_seeds=len(config["seeds"]),
        seed=config["seeds"][0],
        eval_every=config["eval_every"],
        eval_episodes=config["eval_episodes"],
        eval_chains=config.get("eval_chains", 0),
        eval_seed=config["eval_seed"],
        layout=config["layout"],
        matmul_precision=config.get("matmul_precision", "default"),
        runs_dir=str(parents[0]),
        max_devices=max_devices,
        quiet=True,
    )


def load_run(path: str | Path, dataset: Dataset | None = None) -> Run:
    """Loads a finished run from its folder, or by name: `load_run("latest:iql")`.

    Raises:
      UserError: not a run, unfinished, or its stages are missing.
    """
    folder = finished(path)
    config = folder.config
    dataset = dataset or load_dataset(config["dataset"])
    if dataset.card.identity != config["dataset_identity"]:
        raise UserError(
            f"{path} was trained on another version of {config['dataset']} (identity "
            f"{config['dataset_identity'][:12]}, here {dataset.card.identity[:12]})."
        )
    method, preset = config["method"], config["preset"]
    recipe = methods.build(method, dataset.spec, preset, dataset.card.id)
    job = recorded.job_of(recipe, config)
    training = Training.of(job, method, preset, dataset, options_of(folder))
    training.load_states(folder.record["stages"])
    return Run(folder, training, Evaluator(training))


def evaluate(run: Run, episodes: int = 100, eval_seed: int = 0) -> Scores:
    """Full episodes of every seed (and setting) of a run.

    Returns:
      Arrays [seeds, episodes]; [settings, seeds, episodes] where a run has several.
    """
    spec = run.training.dataset.spec
    if spec is None or not run.evaluator.possible:
        reason = run.evaluator.missing
        raise UserError(f"{run.path} cannot be evaluated: {reason}")
    returns, lengths = run.evaluator.rollout(episodes, eval_seed)
    if len(run.variants) == 1:
        returns, lengths = returns[0], lengths[0]
    return Scores(returns, lengths, spec.score(returns))
