"""What the studies share: training, measures of plans, and tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.tables import write_csv
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.leaderboard import statistics
from offjax.methods import asp
from offjax.runner.evaluator import Evaluator
from offjax.runner.options import Options
from offjax.runner.run import Run, evaluate
from offjax.runner.train import train as carry_out
from offjax.runner.training import Training, make_jobs
from offjax.types import Model


def train(
    method: str,
    dataset: Dataset,
    overrides: Mapping[str, Sequence[Any]],
    options: Options,
    preset: str = "small",
) -> Run:
    """A run with these settings; trained stages are taken from the store."""
    (job,) = make_jobs(method, preset, dataset, overrides)
    training = Training.of(job, method, preset, dataset, options)
    return Run(carry_out(training), training, Evaluator(training))


def scores_of(run: Run) -> np.ndarray:
    """Scores [settings, seeds] of a run, by its own options."""
    options = run.training.options
    result = evaluate(run, options.eval_episodes, options.eval_seed).scores.mean(-1)
    return result.reshape(len(run.variants), -1)


class PlanStatistics(NamedTuple):
    """How plans of a window are, in units of half the action box.

    Attributes:
      first_error: RMS distance of the window's first action to the recorded one.
      last_error: that of its last action to what was recorded then: how far an
        open-loop plan has drifted from the behavior.
      spread: standard deviation over seeds of the planned action, RMS over a window.
    """

    first_error: float
    last_error: float
    spread: float


def plan_statistics(
    run: Run, dataset: Dataset, num: int = 2000, seed: int = 0
) -> PlanStatistics:
    """Plans of all seeds of an `asp` run from recorded states, beside what followed.

    Args:
      run: trained, of one setting.
      dataset: its data; of the rows with k more steps in their episode, `num` are
        drawn.
      num: number of plans.
      seed: of the draw.

    Raises:
      UserError: no episode has k steps.
    """
    _, params = run.evaluator.acting_slots()
    model = params.models["asp"]
    k = model.config.k
    starts, lengths = dataset.episode_starts, dataset.episode_lengths
    times = np.arange(len(dataset)) - np.repeat(starts, lengths)
    able = np.flatnonzero(np.repeat(lengths, lengths) - times >= k)
    if not able.size:
        raise UserError(f"Dataset {dataset.card.id!r} has no episode of k={k} steps.")
    rows = np.random.default_rng(seed).choice(able, num)

    def plans(model: Model, observations: Any, times: Any) -> Any:
        actions = jax.vmap(lambda o, t: asp.plan(model, o, t))(observations, times)
        return model.state.action_box.to_unit(actions)

    found = jax.jit(jax.vmap(plans, in_axes=(0, None, None)))(
        model, dataset.observations[rows], times[rows]
    )
    box = model.state.action_box
    shift, scale = np.asarray(box.shift)[0], np.asarray(box.scale)[0]
    recorded = (dataset.actions[rows[:, None] + np.arange(k)] - shift) / scale
    return compare(np.asarray(found), recorded)


def compare(plans: np.ndarray, recorded: np.ndarray) -> PlanStatistics:
    """Plans [seeds, N, k, A] beside the actions [N, k, A] that were recorded."""
    errors = np.sqrt(np.mean((plans - recorded) ** 2, axis=(0, 1, 3)))
    spread = np.sqrt(np.mean(np.var(plans, axis=0, ddof=1)))
    return PlanStatistics(float(errors[0]), float(errors[-1]), float(spread))


def summary(values: np.ndarray) -> tuple[str, str]:
    """Mean ± std over seeds, and IQM with its 95 % bootstrap interval, as text."""
    iqm = statistics.cell_intervals([np.asarray(values)], seed=0)[0]
    return (
        f"{np.mean(values):.1f} ± {np.std(values):.1f}",
        f"{iqm.value:.1f} [{iqm.low:.1f}, {iqm.high:.1f}]",
    )


def write_table(
    path: str, header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Writes a CSV file and prints it as a markdown table."""
    write_csv(Path(path), header, rows)
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(x) for x in row) + " |")
