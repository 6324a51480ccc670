"""The chapter's tables and its robustness figure, each by one command.

    python -m experiments.lcd.tables --table=4.1
        [--dataset=offjax/scene/play-v0] [--preset=small|paper] [--num_seeds=3]
        [--dry_run]

Every entry is a call of experiments.run on the scene benchmark, with 110 single
instructions and 100 chains of five per seed. Stages that entries share are trained
once: the low-level policy always, and the planner wherever only its sampling differs.
`experiments.lcd.compare` puts the runs side by side.

    4.1             chains of instructions: the planner against what it is compared with
    4.2             instructions that the planner never saw
    4.4             diffusion against regression as the planner
    4.6             the same runs as 4.1, per instruction
    settings        the published code's settings, the thesis', and the default
    low-level       the planner over cloning and over HULC, and true subgoals
    figure-4.2-…    robustness to diffusion steps, frame offset and width

Table 4.3 is `python -m benchmarks.planning`.
"""

from __future__ import annotations

from absl import flags

from experiments import tables
from experiments.lcd.trials import GIVEN_GOALS
from experiments.tables import Entry, Settings
from offjax.cli import command as cli
from offjax.evaluation.scene import CHAINS, SINGLES

FLAGS = flags.FLAGS

HELD_OUT: Settings = (("planner.held_out", "open_window,unlock_drawer"),)
"""Instructions whose words all occur in others of the scene."""


def _each(name: str, *values: str) -> tuple[Entry, ...]:
    return tuple(Entry("lcd", ((name, value),)) for value in values)


FLAT = tuple(Entry(method) for method in ("gcbc", "mcil", "hulc"))
TABLES: dict[str, tuple[Entry, ...]] = {
    "4.1": (*FLAT, Entry("diffuser"), Entry("lcd")),
    "4.2": (Entry("diffuser", HELD_OUT), Entry("lcd", HELD_OUT)),
    "4.4": (Entry("lcd_mlp"), Entry("lcd")),
    "4.6": (Entry("hulc"), Entry("lcd")),
    "settings": (Entry("lcd_code"), Entry("lcd_thesis"), Entry("lcd")),
    "low-level": (Entry("gcbc_goal"), Entry("lcd"), Entry("lcd_hulc")),
    "figure-4.2-diffusion-steps": tuple(
        Entry("lcd", (("planner.diffusion_steps", n), ("sampling.sampler", "ddpm")))
        for n in ("5", "10", "20", "50")
    ),
    "figure-4.2-sampling-steps": _each("sampling.sampling_steps", "1", "2", "5", "20"),
    "figure-4.2-frame-offset": _each("planner.frame_offset", "0", "2", "4", "8"),
    "figure-4.2-width": _each("planner.width", "16", "32", "64"),
    "replanning": _each("sampling.replan", "4", "8", "16", "32"),
    "horizon": _each("planner.horizon", "1", "2", "4"),
    "stride": _each("planner.stride", "8", "16", "24"),
}
"""Name → its entries."""


def command(entry: Entry, dataset: str, preset: str) -> list[str]:
    """Arguments of experiments.run for one entry, flags of numbers aside."""
    return tables.arguments(entry.method, dataset, preset, entry.settings)


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    tables.define_flags(num_seeds=3, eval_episodes=SINGLES)
    flags.DEFINE_string("dataset", "offjax/scene/play-v0", "Described play.")
    flags.DEFINE_integer("eval_chains", CHAINS, "Chains of five per seed.")


def main(_: list[str]) -> None:
    """Runs every entry of the table, one after another."""
    titles = {
        name: ", ".join(dict.fromkeys(entry.method for entry in entries))
        for name, entries in TABLES.items()
    }
    for entry in tables.chosen(TABLES, titles) or ():
        arguments = command(entry, FLAGS.dataset, FLAGS.preset)
        chains = 0 if entry.method in GIVEN_GOALS else FLAGS.eval_chains
        tables.carry_out(arguments, eval_chains=chains)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
