"""Collects one of offjax's own datasets and prints its card.

    offjax collect offjax/budget/t50-smooth-v0
    offjax collect offjax/hopper/medium-v1

Started again after an interruption, robots' datasets of version 1 go on from the chunks
that were finished; others, and replays, begin anew.
"""

from __future__ import annotations

from absl import flags

from offjax.catalog import collected, load
from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS
POSITIONAL = "dataset"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("dataset", None, "Id of the dataset; 'list' for all.")
    flags.DEFINE_integer(
        "num_transitions",
        None,
        "Steps to record; by default 1,000,000, for medium-expert-v1 2,000,000, for "
        "replays-v1 all there are, and for robots' -v0 200,000.",
    )
    flags.DEFINE_integer(
        "num_episodes",
        None,
        "Episodes to record (budget); by default 2,000, from horizon 100 on 10,000.",
    )
    flags.DEFINE_integer("seed", 0, "Seed of the generator.")
    cli.define_data_dir()
    flags.DEFINE_bool("force", False, "Collect anew in place of what is there.")


def main(argv: list[str]) -> None:
    """Collects what the flags name."""
    del argv
    name = FLAGS.dataset
    if name == "list":
        print("\n".join(collected.ids()))
        return
    if name is None:
        raise UserError("--dataset is missing; --dataset=list prints the ids.")
    dataset = load.collect_dataset(
        name,
        size=_size(collected.parse(name)),
        seed=FLAGS.seed,
        data_dir=FLAGS.data_dir,
        force=FLAGS.force,
        progress=print,
    )
    print(dataset.card)


def _size(entry: collected.Entry) -> int | None:
    unit, _ = entry.size
    asked = {
        "num_transitions": FLAGS.num_transitions,
        "num_episodes": FLAGS.num_episodes,
    }
    size = asked.pop(unit)
    for other, value in asked.items():
        if value is not None:
            raise UserError(
                f"--{other}={value} does not apply to {entry.name}, whose size is set "
                f"with --{unit}."
            )
    return size
