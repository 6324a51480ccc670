"""Ranks the settings of a finished run without its environment.

    offjax fqe latest:cfpi --grid=log_tau=0,0.5,1,2

Fitted Q evaluation learns the value of every setting and seed from the data alone, all
at once, and prints them best first; where the run holds scores of the same settings
they stand beside, with the rank correlation over all policies. The run is not changed.

Limits: the value is the discounted return from recorded first states, so read the order
and not the level; far from the data's actions it is too high, so that a large trust
region is flattered; settings whose ranges over seeds overlap are not told apart.
Policies that remember or plan have no such value.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from offjax.cli import command as cli

if TYPE_CHECKING:
    from offjax.runner.choose import Choice

FLAGS = flags.FLAGS
POSITIONAL = "run"


def rank_correlation(choices: Sequence[Choice]) -> float:
    """Spearman's ρ of estimates and scores over all settings and seeds; NaN if few."""
    from scipy.stats import spearmanr

    values = np.concatenate([c.values for c in choices])
    scores = np.concatenate([c.scores for c in choices])
    known = np.isfinite(scores)
    if known.sum() < 3 or np.ptp(scores[known]) == 0 or np.ptp(values[known]) == 0:
        return float("nan")
    return float(spearmanr(values[known], scores[known]).statistic)


def lines(choices: Sequence[Choice]) -> list[str]:
    """One line per setting, and the choice."""
    found = []
    for c in choices:
        text = (
            f"{c.variant}  value {c.values.mean():.4g} "
            f"[{c.values.min():.4g}, {c.values.max():.4g}]"
        )
        if np.isfinite(c.scores).all():
            text += (
                f"  score {c.scores.mean():.2f} "
                f"[{c.scores.min():.2f}, {c.scores.max():.2f}]"
            )
        found.append(text)
    correlation = rank_correlation(choices)
    if np.isfinite(correlation):
        found.append(f"rank_correlation={correlation:.2f}")
    return [*found, f"choice={choices[0].variant}"]


def write_csv(path: Path, choices: Sequence[Choice], seeds: Sequence[int]) -> None:
    """One row per setting and seed; the score is empty where it is not known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["variant", "seed", "value", "score"])
        for c in choices:
            for seed, value, score in zip(seeds, c.values, c.scores, strict=True):
                shown = f"{score:.6g}" if np.isfinite(score) else ""
                writer.writerow([c.variant, seed, f"{value:.6g}", shown])


def define_flags() -> None:
    """The command's flags."""
    cli.define_evaluated_run()
    cli.define_data_dir()
    flags.DEFINE_integer("seed", 0, "Seed of the rows and of the fit.")
    cli.define_count("num_steps", 10_000, "Updates of the fit.")
    flags.DEFINE_integer("max_rows", 20_000, "Rows of the data to use.")
    flags.DEFINE_float("discount", 0.99, "Discount of the value.")
    flags.DEFINE_float("lr", 3e-4, "Step size of the fit.")
    flags.DEFINE_string("out", None, "CSV file for every setting and seed.")


def main(_: list[str]) -> None:
    """Fits, and prints a line per setting, best first."""
    from offjax.devices.layout import prepare_host_devices
    from offjax.errors import UserError
    from offjax.evaluation import fqe
    from offjax.runner.choose import estimate
    from offjax.runner.run import finished

    prepare_host_devices()  # the fit takes one of them
    grid = cli.parse_grid(FLAGS.grid)
    run = cli.find_run("run")
    if not run:
        raise UserError("--run is missing: a finished run, such as `latest`.")
    choices = estimate(
        run,
        improve=FLAGS.improve,
        critic_run=cli.find_run("critic_run"),
        grid=grid,
        config=fqe.Config(
            lr=FLAGS.lr,
            discount=FLAGS.discount,
            hidden_dims=(128, 128),
            batch_size=128,
        ),
        num_steps=FLAGS.num_steps,
        max_rows=FLAGS.max_rows,
        seed=FLAGS.seed,
        data_dir=FLAGS.data_dir,
    )
    print("\n".join(lines(choices)))
    if FLAGS.out:
        write_csv(Path(FLAGS.out), choices, finished(run).config["seeds"])
        print(f"values: {FLAGS.out}")
