"""Ranking a finished run's settings by fitted Q evaluation, from its data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from offjax.catalog.load import load_dataset
from offjax.datasets import convert
from offjax.datasets.dataset import Dataset
from offjax.datasets.views import action_box
from offjax.evaluation import fqe
from offjax.runner.evaluator import Evaluator
from offjax.runner.records import EVALUATIONS, last_scores
from offjax.runner.reevaluate import plan
from offjax.runner.run import finished, options_of
from offjax.runner.training import Training
from offjax.types import Transitions


class Choice(NamedTuple):
    """One setting's estimated values, and its scores where they are known."""

    variant: str
    values: np.ndarray  # [seeds] discounted return, mean over first states
    scores: np.ndarray  # [seeds] NaN where the run holds none


def estimate(
    path: str | Path,
    *,
    improve: str | None = None,
    critic_run: str | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    config: fqe.Config,
    num_steps: int = 10_000,
    max_rows: int = 20_000,
    seed: int = 0,
    data_dir: str | None = None,
) -> list[Choice]:
    """Estimated value of every setting and seed of a run; highest mean first.

    Args:
      path: folder of a finished run.
      improve: operator in place of the run's, as in `reevaluate`.
      critic_run: run whose critic the operator reads, as in `reevaluate`.
      grid: settings of what acting alone reads, as in `reevaluate`.
      config: of the fit.
      num_steps: updates of the fit.
      max_rows: rows of the data that are used, drawn at random.
      seed: of the rows and of the fit.
      data_dir: root of the datasets.

    Raises:
      UserError: an unfinished run, an unknown setting, a policy that remembers, or a
        fit that diverged.
    """
    folder = finished(path)
    dataset = load_dataset(folder.config["dataset"], data_dir)
    options = options_of(folder)
    known = _scores(folder.path)
    choices = []
    for job in plan(folder, dataset, options, improve, critic_run, grid):
        method, preset = folder.config["method"], folder.config["preset"]
        training = Training.of(job, method, preset, dataset, options)
        training.load_states(folder.record["stages"])
        values = _values(
            Evaluator(training), dataset, config, num_steps, max_rows, seed
        )
        values = values.reshape(len(job.settings), -1)
        for variant, mine in zip(job.variants, values, strict=True):
            scores = [known.get((variant, str(s)), np.nan) for s in options.seeds]
            choices.append(Choice(variant, mine, np.array(scores)))
    return sorted(choices, key=lambda choice: -choice.values.mean())


def _values(
    evaluator: Evaluator,
    dataset: Dataset,
    config: fqe.Config,
    num_steps: int,
    max_rows: int,
    seed: int,
) -> np.ndarray:
    """Estimated value of each acting slot, [slots]."""
    rows = convert.to_transitions(dataset)
    starts = dataset.observations[dataset.episode_starts]
    rng = np.random.default_rng(seed)
    index = _some(rng, len(rows.rewards), max_rows)
    rows = Transitions(*(np.asarray(x)[index] for x in rows))
    starts = starts[_some(rng, len(starts), 1_000)]
    _, params = evaluator.acting_slots()
    agent, key = evaluator.agent(), jax.random.PRNGKey(seed)
    acted = [
        np.asarray(fqe.policy_actions(agent, params, observations, key))
        for observations in (rows.next_observations, starts)
    ]
    if dataset.spec is not None:  # as they would be executed
        low = np.asarray(dataset.spec.action_low, np.float32)
        high = np.asarray(dataset.spec.action_high, np.float32)
        acted = [np.clip(actions, low, high) for actions in acted]
    # Values of the size of one, whatever the rewards', suit one learning rate.
    spread = float(np.std(rows.rewards)) or 1.0
    scale = 10 * (1 - config.discount) / spread
    rewards = np.asarray(scale * rows.rewards, np.float32)
    statistics = convert.statistics(dataset, action_box=action_box(dataset.spec))
    problem = fqe.Problem(
        rows._replace(rewards=rewards), acted[0], starts, acted[1], statistics
    )
    return fqe.evaluate(problem, config, num_steps, seed).mean(-1) / scale


def _some(rng: np.random.Generator, count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of `count` rows, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(rng.choice(count, most, replace=False))


def _scores(path: Path) -> dict[tuple[str, str], float]:
    """(variant, seed) → last score of a run, or else of its later evaluations."""
    found: dict[tuple[str, str], float] = {}
    for file in sorted(path.glob(f"{EVALUATIONS}/*/scores.csv")):
        found |= last_scores(file.parent)
    return found | last_scores(path)
