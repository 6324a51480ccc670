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

from absl import flags

from experiments import tables
from experiments.tables import Entry
from offjax.cli import command as cli

FLAGS = flags.FLAGS

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
    return tables.arguments(entry.method, dataset, preset, settings.items())


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    tables.define_flags(num_seeds=5, eval_episodes=100)
    flags.DEFINE_list("datasets", [], "Dataset ids.")
    cli.define_count("num_steps", 0, "Updates of every stage; 0: the preset's.")
    flags.DEFINE_string(
        "return_targets", "", "Returns that Decision Transformer asks for, all at once."
    )


def main(_: list[str]) -> None:
    """Runs every entry of the table on every dataset, one after another."""
    titles = {
        name: ", ".join(entry.method for entry in entries)
        for name, entries in TABLES.items()
    }
    entries = tables.chosen(TABLES, titles)
    if entries is None:
        return
    for dataset in tables.datasets():
        for entry in entries:
            arguments = command(entry, dataset, FLAGS.preset, FLAGS.return_targets)
            tables.carry_out(arguments, num_steps=FLAGS.num_steps)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
