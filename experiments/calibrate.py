"""Compare a dataset with the installed simulator: do scores still mean the same?

python -m experiments.calibrate --dataset=hopper-medium-v2

Replays recorded actions from recorded states, one step and several in open loop, and
prints how far the simulator's observations and rewards are from the recorded ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from experiments import cli

if TYPE_CHECKING:
    from offjax.datasets.dataset import Dataset

_DATASET = flags.DEFINE_list("dataset", [], "Dataset id, or several.")
_NUM_ROWS = flags.DEFINE_integer("num_rows", 1000, "Stretches to replay.")
_NUM_STEPS = cli.define_count("num_steps", 10, "Steps in open loop.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the choice of stretches.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")


def load(name: str, data_dir: str | None) -> Dataset:
    """The dataset, with the simulator's states where it has them."""
    from offjax.catalog.load import load_dataset
    from offjax.errors import UserError

    dataset = load_dataset(name, data_dir, progress=print)
    try:
        return load_dataset(name, data_dir, infos=("qpos", "qvel"))
    except UserError:  # it loads without them
        return dataset


def main(argv: list[str]) -> None:
    """Prints a report per dataset."""
    del argv
    from offjax.errors import UserError
    from offjax.evaluation.calibrate import calibrate

    if not _DATASET.value:
        raise UserError("--dataset is missing: the ids of the datasets to replay.")
    for flag in (_NUM_ROWS, _NUM_STEPS):
        if flag.value < 1:
            raise UserError(f"--{flag.name}={flag.value}: at least 1 is needed.")
    for name in _DATASET.value:
        dataset = load(name, _DATA_DIR.value)
        report = calibrate(dataset, _NUM_ROWS.value, _NUM_STEPS.value, _SEED.value)
        print(report, end="\n\n")


if __name__ == "__main__":
    cli.run(main)
