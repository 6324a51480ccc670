"""Puts result files of other projects onto the board, marked by their source.

    offjax import-scores --source="our CORL" --files=export.csv
    offjax import-scores --source=unifloral --files=final_returns
    offjax import-scores --source=JAX-CORL --files=wandb_local
    offjax leaderboard --reported

Read are W&B's CSV exports, unifloral's final_returns/*.npz, what `python -m
offjax.compat` logs, and JSON or CSV with the fields method, dataset, seed and score or
return. They are kept in <runs_dir>/reported/ as numbers reported elsewhere: never
pooled with measured ones, and ranked only with --rank_reported.
"""

from __future__ import annotations

import math
import sys

from absl import flags

from offjax.errors import UserError

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_list(
        "files", [],
        "Result files, or folders of .npz and history.jsonl, comma-separated.",
    )  # fmt: skip
    flags.DEFINE_string(
        "source", "",
        "Name of the project, shown at its numbers; replaces one of that name.",
    )  # fmt: skip
    flags.DEFINE_string("url", "", "Where the results come from.")
    flags.DEFINE_string("protocol", "", "A sentence on how they were made.")
    flags.DEFINE_string("runs_dir", "runs", "Folder of runs to add them to.")
    flags.DEFINE_string("method", None, "Method; by default what the files say.")
    flags.DEFINE_string("dataset", None, "Dataset id; likewise.")
    flags.DEFINE_string(
        "metric", None, "Field with the result; by default the only score or return."
    )
    flags.DEFINE_float("scale", 1.0, "Factor on scores: 100 for shares of 1.")
    flags.DEFINE_enum(
        "checkpoint", "last", ["last", "best", "ten"],
        "Which evaluation of a seed counts.",
    )  # fmt: skip


def main(argv: list[str]) -> None:
    """Imports the files, and prints what was understood."""
    del argv
    from offjax.leaderboard import foreign, imported

    if not FLAGS.files or not FLAGS.source:
        raise UserError(
            "Name the project with --source and its result files with --files, such as "
            "--source=CORL --files=export.csv."
        )
    paths = foreign.files(FLAGS.files)
    records = [record for path in paths for record in foreign.read(path)]
    series = imported.collect(
        records,
        method=FLAGS.method,
        dataset=FLAGS.dataset,
        metric=FLAGS.metric,
        scale=FLAGS.scale,
    )
    found = imported.means(series, FLAGS.checkpoint)
    for (dataset, method), (mean, std, seeds) in found.items():
        spread = "" if math.isnan(std) else f" ± {std:.2f}"
        print(f"{dataset}  {method}  {mean:.2f}{spread}  {seeds} seeds")
    empty = {str(path) for path in paths} - {each.file for each in series}
    if empty:
        print(f"without results: {', '.join(sorted(empty))}", file=sys.stderr)
    if all(abs(mean) <= 2 for mean, *_ in found.values()):
        print(
            "All scores are small: if they are shares of 1, pass --scale=100.",
            file=sys.stderr,
        )
    source = imported.Source(FLAGS.source, FLAGS.url, FLAGS.protocol, FLAGS.checkpoint)
    print(imported.write(series, source, FLAGS.runs_dir))
