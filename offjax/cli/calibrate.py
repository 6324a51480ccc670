"""Compares a dataset with the installed simulator: do scores still mean the same?

    offjax calibrate hopper-medium-v2

Replays recorded actions from recorded states, one step and several in open loop, and
prints how far the simulator's observations and rewards are from the recorded ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl import flags

from offjax.cli import command as cli

if TYPE_CHECKING:
    from offjax.datasets.dataset import Dataset

FLAGS = flags.FLAGS
POSITIONAL = "dataset"


def load(name: str, data_dir: str | None) -> Dataset:
    """The dataset, with the simulator's states where it has them."""
    from offjax.catalog.load import load_dataset
    from offjax.errors import UserError

    try:
        return load_dataset(name, data_dir, progress=print, infos=("qpos", "qvel"))
    except UserError:  # perhaps it has no such arrays
        return load_dataset(name, data_dir, progress=print)


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_list("dataset", [], "Dataset id, or several.")
    flags.DEFINE_integer("num_rows", 1000, "Stretches to replay.")
    cli.define_count("num_steps", 10, "Steps in open loop.")
    flags.DEFINE_integer("seed", 0, "Of the choice of stretches.")
    cli.define_data_dir()


def main(argv: list[str]) -> None:
    """Prints a report per dataset."""
    del argv
    from offjax.errors import UserError
    from offjax.evaluation.calibrate import calibrate

    if not FLAGS.dataset:
        raise UserError("--dataset is missing: the ids of the datasets to replay.")
    for flag in ("num_rows", "num_steps"):
        count: Any = FLAGS[flag].value
        if count < 1:
            raise UserError(f"--{flag}={count}: at least 1 is needed.")
    for name in FLAGS.dataset:
        dataset = load(name, FLAGS.data_dir)
        report = calibrate(dataset, FLAGS.num_rows, FLAGS.num_steps, FLAGS.seed)
        print(report, end="\n\n")
