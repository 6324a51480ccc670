"""The chapter's tables, each by one command on datasets that you name.

    python -m experiments.cfpi.tables --table=3.4 --datasets=offjax/hopper/medium-v0
        [--preset=paper|small] [--num_seeds=10] [--eval_episodes=100] [--dry_run]

Every entry of a table is a call of experiments.run with the chapter's protocol: ten
seeds (five in 3.2 and 3.7), 100 full episodes, the last checkpoint. Stages that entries
share are trained once. Seeds 0 to 9 are those that are reported; tune on others
(`--seed=100`). Afterwards experiments.leaderboard shows the scores beside the
reported ones of offjax/leaderboard/reported/cfpi.csv.

With --preset=paper the number of SARSA updates is the published one of the dataset
(table 3.16) where there is one; for other data choose it with
experiments.cfpi.sarsa_steps and give --sarsa_steps.
"""

from __future__ import annotations

from typing import NamedTuple

from absl import flags

from experiments import tables
from experiments.tables import Entry
from offjax.cli import command as cli
from offjax.cli.report import COMPARISON
from offjax.methods.cql import kind_of

FLAGS = flags.FLAGS

SARSA_STEPS = {
    ("halfcheetah", "medium"): 200_000,
    ("hopper", "medium"): 400_000,
    ("walker2d", "medium"): 700_000,
    ("halfcheetah", "medium-replay"): 1_500_000,
    ("hopper", "medium-replay"): 300_000,
    ("walker2d", "medium-replay"): 1_100_000,
    ("halfcheetah", "medium-expert"): 400_000,
    ("hopper", "medium-expert"): 400_000,
    ("walker2d", "medium-expert"): 400_000,
}
"""(environment, kind of data) → SARSA updates of table 3.16."""


class Table(NamedTuple):
    """What a table compares."""

    title: str
    entries: tuple[Entry, ...]
    num_seeds: int = 10


CANDIDATES = (("n", "2,5,10,20,50,100"),)
LOG_TAUS = (("log_tau", "0.0,0.5,1.0,1.5,2.0"),)
ALPHAS = (("alpha", "0.03,0.1,0.3,1.0,3.0,10.0"),)

TABLES = {
    "3.1": Table("one-step I_MG", (Entry("bc_mixture"), Entry("cfpi"))),
    "3.2": Table("iterative I_MG on AntMaze", (Entry("iterative_cfpi"),), 5),
    "3.3": Table(
        "I_SG on IQL, log tau per dataset",
        (Entry("iql"), Entry("iql_cfpi", (("log_tau", "0.1,0.2,2.0"),))),
    ),
    "3.4": Table(
        "operators on the same behavior and critic",
        (
            Entry("ebcq"),
            Entry("rev_kl"),
            Entry("cfpi_sg"),
            Entry("ebcq_mixture"),
            Entry("rev_kl_mixture"),
            Entry("cfpi"),
        ),
    ),
    "3.7": Table(
        "deterministic behavior models",
        (
            Entry("bc_deterministic"),
            Entry("bc_vae"),
            Entry("vae_ebcq"),
            Entry("idet"),
            Entry("idet_vae"),
        ),
        5,
    ),
    "3.9": Table("mixture EBCQ over N", (Entry("ebcq_mixture", CANDIDATES),)),
    "3.10": Table("Gaussian EBCQ over N", (Entry("ebcq", CANDIDATES),)),
    "3.11": Table("mixture rev-KL over alpha", (Entry("rev_kl_mixture", ALPHAS),)),
    "3.12": Table("Gaussian rev-KL over alpha", (Entry("rev_kl", ALPHAS),)),
    "3.14": Table("mode selection", (Entry("mode_selection"),)),
    "3.15": Table(
        "I_MG with 4 and 8 components",
        (Entry("cfpi"), Entry("cfpi", (("num_components", "8"),))),
    ),
    "3.18": Table("I_SG on CQL", (Entry("cql"), Entry("cql_cfpi"))),
    "figure-3.5": Table(
        "I_MG and I_SG over log tau",
        (Entry("cfpi", LOG_TAUS), Entry("cfpi_sg", LOG_TAUS)),
    ),
    "figure-3.6": Table(
        "I_MG over the size of an MLP ensemble",
        (Entry("cfpi_ensemble", (("active_size", "1.0,2.0,5.0,10.0"),)),),
        8,
    ),
    "comparison": Table(
        "behavior models, operators and value-based baselines",
        tuple(Entry(method) for method in COMPARISON),
        5,
    ),
}
"""Number → table; those of the chapter that report scores of its own runs.

All values of log tau, N and the ensemble's size come from one training, and those of
alpha from one program.
"""


def command(
    table: str, entry: Entry, dataset: str, preset: str, sarsa_steps: int = 0
) -> list[str]:
    """Arguments of experiments.run for one entry on one dataset, flags of seeds aside.

    Table 3.1 has log tau = 0 on hopper-medium-expert.
    """
    settings = dict(entry.settings)
    environment, kind = kind_of(dataset)
    if (table, entry.method, environment, kind) == (
        "3.1",
        "cfpi",
        "hopper",
        "medium-expert",
    ):
        settings["log_tau"] = "0.0"
    if not sarsa_steps and preset == "paper":
        sarsa_steps = SARSA_STEPS.get((environment, kind), 0)
    reads_sarsa = ("cfpi", "ebcq", "idet", "mode", "rev_kl", "vae_ebcq")
    if sarsa_steps and entry.method.startswith(reads_sarsa):
        settings["sarsa.num_steps"] = str(sarsa_steps)
    return tables.arguments(entry.method, dataset, preset, settings.items())


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    tables.define_flags(num_seeds=0, eval_episodes=100, preset="paper")
    flags.DEFINE_list("datasets", [], "Dataset ids.")
    cli.define_count("num_steps", 0, "Updates of every stage; 0: the preset's.")
    flags.DEFINE_integer("sarsa_steps", 0, "SARSA updates; 0: the preset's.")
    flags.DEFINE_bool("resume", False, "Skip what is finished, go on with the rest.")


def main(_: list[str]) -> None:
    """Runs every entry of the table on every dataset, one after another."""
    titles = {name: table.title for name, table in TABLES.items()}
    table = tables.chosen(TABLES, titles)
    if table is None:
        return
    for dataset in tables.datasets():
        for entry in table.entries:
            arguments = command(
                FLAGS.table, entry, dataset, FLAGS.preset, FLAGS.sarsa_steps
            )
            tables.carry_out(
                arguments,
                num_seeds=FLAGS.num_seeds or table.num_seeds,
                num_steps=FLAGS.num_steps,
                resume=FLAGS.resume,
            )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
