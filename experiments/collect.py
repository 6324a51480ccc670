"""Collects one of offjax's own datasets and prints its card.

    python -m experiments.collect --dataset=offjax/budget/t50-smooth-v0
    python -m experiments.collect --dataset=offjax/hopper/medium-v1

Started again after an interruption, robots' datasets of version 1 go on from the chunks
that were finished; others, and replays, begin anew.
"""

from __future__ import annotations

from absl import flags

from experiments import cli
from offjax.catalog import collected, load
from offjax.errors import UserError

_DATASET = flags.DEFINE_string("dataset", None, "Id of the dataset; 'list' for all.")
_TRANSITIONS = flags.DEFINE_integer(
    "num_transitions",
    None,
    "Steps to record; by default 1,000,000, for medium-expert-v1 2,000,000, for "
    "replays-v1 all there are, and for robots' -v0 200,000.",
)
_EPISODES = flags.DEFINE_integer(
    "num_episodes",
    None,
    "Episodes to record (budget); by default 2,000, from horizon 100 on 10,000.",
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the generator.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Root of the datasets; else $MINARI_DATASETS_PATH, ~/.minari."
)
_FORCE = flags.DEFINE_bool("force", False, "Collect anew in place of what is there.")


def main(argv: list[str]) -> None:
    """Collects what the flags name."""
    del argv
    name = _DATASET.value
    if name == "list":
        print("\n".join(collected.ids()))
        return
    if name is None:
        raise UserError("--dataset is missing; --dataset=list prints the ids.")
    dataset = load.collect_dataset(
        name,
        size=_size(collected.parse(name)),
        seed=_SEED.value,
        data_dir=_DATA_DIR.value,
        force=_FORCE.value,
        progress=print,
    )
    print(dataset.card)


def _size(entry: collected.Entry) -> int | None:
    unit, _ = entry.size
    asked = {"num_transitions": _TRANSITIONS.value, "num_episodes": _EPISODES.value}
    size = asked.pop(unit)
    for other, value in asked.items():
        if value is not None:
            raise UserError(
                f"--{other}={value} does not apply to {entry.name}, whose size is set "
                f"with --{unit}."
            )
    return size


if __name__ == "__main__":
    cli.run(main)
