"""Stores a dataset as files that `offjax run --stream` reads from disk.

    offjax store --dataset=offjax/hopper/medium-v0 --name=mine/hopper-v0
    offjax store --dataset=offjax/hopper/medium-v0 --name=mine/noise-v0
        --synthetic_rows=100000000

The first copies a dataset. The second makes noise in the shapes of its environment, to
measure with: 100 million rows of Hopper take 13 GB.
"""

from __future__ import annotations

from collections.abc import Iterable

from absl import flags

from offjax.cli import command as cli
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError

FLAGS = flags.FLAGS
POSITIONAL = "dataset"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("dataset", None, "Id of the dataset.")
    flags.DEFINE_string("name", None, "Id of the stored one, such as mine/robot-v0.")
    cli.define_count(
        "synthetic_rows", 0,
        "Rows of noise in the environment of --dataset, in place of its data.",
    )  # fmt: skip
    flags.DEFINE_integer("seed", 0, "Of the noise.")
    cli.define_data_dir()


def main(argv: list[str]) -> None:
    """Stores what the flags name, and prints its card."""
    del argv
    from offjax.datasets import stored

    for flag in ("dataset", "name"):
        if not FLAGS[flag].value:
            raise UserError(
                f"--{flag} is missing: the command is `offjax store --dataset=ID "
                "--name=mine/robot-v0`; `offjax list datasets` prints the ids."
            )
    dataset = stored.write(FLAGS.name, _pieces(), FLAGS.data_dir)
    print(dataset.card, f"bytes     {dataset.rows.nbytes:,} of rows", sep="\n")


def _pieces() -> Iterable[Dataset]:
    from offjax.catalog.load import known_spec, load_dataset
    from offjax.datasets import stored

    if not FLAGS.synthetic_rows:
        return [load_dataset(FLAGS.dataset, FLAGS.data_dir, progress=print)]
    spec = known_spec(FLAGS.dataset, FLAGS.data_dir)
    if spec is None or not spec.observation_dim:  # which the data alone tell
        spec = load_dataset(FLAGS.dataset, FLAGS.data_dir, progress=print).spec
    if spec is None:
        raise UserError(
            f"--synthetic_rows: dataset {FLAGS.dataset!r} has no environment, whose "
            "shapes the rows would have; name another."
        )
    return stored.synthetic(spec, FLAGS.synthetic_rows, FLAGS.seed)
