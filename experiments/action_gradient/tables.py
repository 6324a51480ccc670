"""The paper's comparisons and ablations, each by one command on datasets you name.

    python -m experiments.action_gradient.tables --table=all
        --datasets=offjax/maze2d/umaze-v0 --preset=small [--num_seeds=5]
        [--return_targets=70.0,140.0,280.0] [--dry_run]

    all               BC, DT, DT+AG, Reinformer, +AG, +PG, +AWAC
    2                 Reinformer, +PG, +AWAC, +AG: one critic, used in three ways
    3                 DT, DT+AG, of the same checkpoint
    4                 the optimizers of the ascent: none, FM, SM, FM+SM, each as printed
                      and, where that differs, as its authors name it
    token_prediction  a return asked for or predicted, without and with AG
    returns           Reinformer that sees its earlier returns, and on maze2d's streams
                      cut anew every 300 steps, without and with a discount

Every entry is a call of experiments.run; stages that entries share are trained once.
The step size of Action Gradient is one for all environments; surfaces of step size and
number of steps come from the trained runs (experiments.action_gradient.surface), also
the choice of a variant on other episodes than those that are reported. Afterwards
experiments.leaderboard shows the scores beside the reported ones.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

from absl import flags

from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS


class Entry(NamedTuple):
    """One method of a table, with the settings in which it differs from its recipe."""

    method: str
    settings: tuple[tuple[str, str], ...] = ()


OPTIMIZERS = (("optimizer", "sgd,momentum,momentum_paper,rmsprop,adam,adam_paper"),)
BASE, REFINED = Entry("reinformer"), Entry("reinformer_ag")
RIVALS = (Entry("reinformer_pg"), Entry("reinformer_awac"))
CONDITIONED = (Entry("decision_transformer"), Entry("dt_ag"))

TABLES: dict[str, tuple[Entry, ...]] = {
    "all": (Entry("bc"), *CONDITIONED, BASE, REFINED, *RIVALS),
    "2": (BASE, *RIVALS, REFINED),
    "3": CONDITIONED,
    "4": (BASE, Entry("reinformer_ag", OPTIMIZERS)),
    "token_prediction": (*CONDITIONED, BASE, REFINED),
    "returns": (
        BASE,
        Entry("reinformer", (("return_history", "returns"),)),
        Entry("reinformer", (("episode_length", "300"),)),
        Entry("reinformer", (("episode_length", "300"), ("discount", "0.99"))),
    ),
}
"""Name → entries, in the order in which they run."""


def command(entry: Entry, dataset: str, preset: str, targets: str = "") -> list[str]:
    """Arguments of experiments.run for one entry on one dataset.

    `targets` are returns that Decision Transformer asks for, in place of the preset's.
    """
    settings = dict(entry.settings)
    if targets and entry in CONDITIONED:
        settings["return_target"] = targets
    arguments = [f"--method={entry.method}", f"--dataset={dataset}"]
    arguments.append(f"--preset={preset}")
    return arguments + [f"--config.{name}={value}" for name, value in settings.items()]


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("table", None, "Name of the table, or `list`.")
    flags.DEFINE_list("datasets", [], "Dataset ids.")
    flags.DEFINE_enum("preset", "small", ["paper", "small", "demo"], "Hyperparameters.")
    flags.DEFINE_integer("num_seeds", 5, "Seeds.")
    flags.DEFINE_integer("seed", 0, "First seed.")
    flags.DEFINE_integer("eval_episodes", 100, "Episodes per seed.")
    cli.define_count("num_steps", 0, "Updates of every stage; 0: the preset's.")
    flags.DEFINE_string(
        "return_targets", "", "Returns that Decision Transformer asks for, all at once."
    )
    flags.DEFINE_string("runs_dir", "runs", "Where run folders go.")
    flags.DEFINE_string("data_dir", None, "Root of the datasets.")
    flags.DEFINE_bool("dry_run", False, "Print the commands and stop.")


def main(_: list[str]) -> None:
    """Runs every entry of the table on every dataset, one after another."""
    if FLAGS.table in (None, "list"):
        for name, entries in TABLES.items():
            print(f"{name}: {', '.join(entry.method for entry in entries)}")
        return
    if FLAGS.table not in TABLES:
        raise UserError(f"There is no table {FLAGS.table!r}; known: {[*TABLES]}.")
    if not FLAGS.datasets:
        raise UserError("--datasets is missing: name one or more, joined by commas.")
    names = ("num_seeds", "seed", "eval_episodes", "num_steps", "runs_dir", "data_dir")
    shared = [f"--{name}={FLAGS[name].value}" for name in names if FLAGS[name].value]
    for dataset in FLAGS.datasets:
        for entry in TABLES[FLAGS.table]:
            targets = FLAGS.return_targets
            arguments = command(entry, dataset, FLAGS.preset, targets)
            call = ["-m", "experiments.run", *arguments, *shared]
            print("python", *call, flush=True)
            if not FLAGS.dry_run:
                subprocess.run([sys.executable, *call], check=True)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
