"""Puts result files of other projects onto the board, marked by their source.

python -m experiments.import_scores --source="our CORL" --files=export.csv
python -m experiments.import_scores --source=unifloral --files=final_returns
python -m experiments.import_scores --source=JAX-CORL --files=wandb_local
python -m experiments.leaderboard --reported

Read are W&B's CSV exports, unifloral's final_returns/*.npz, what `python -m
offjax.compat` logs, and JSON or CSV with the fields method, dataset, seed and score or
return. They are kept in <runs_dir>/reported/ as numbers reported elsewhere: never
pooled with measured ones, and ranked only with --rank_reported.
"""

from __future__ import annotations

import math
import sys

from absl import flags

from experiments import cli
from offjax.errors import UserError
from offjax.leaderboard import foreign, imported
from offjax.leaderboard.board import CHECKPOINTS

_FILES = flags.DEFINE_list(
    "files", [], "Result files, or folders of .npz and history.jsonl, comma-separated."
)
_SOURCE = flags.DEFINE_string(
    "source",
    "",
    "Name of the project, shown at its numbers; replaces one of that name.",
)
_URL = flags.DEFINE_string("url", "", "Where the results come from.")
_PROTOCOL = flags.DEFINE_string("protocol", "", "A sentence on how they were made.")
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs", "Folder of runs to add them to.")
_METHOD = flags.DEFINE_string("method", None, "Method; by default what the files say.")
_DATASET = flags.DEFINE_string("dataset", None, "Dataset id; likewise.")
_METRIC = flags.DEFINE_string(
    "metric", None, "Field with the result; by default the only score or return."
)
_SCALE = flags.DEFINE_float("scale", 1.0, "Factor on scores: 100 for shares of 1.")
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint", "last", list(CHECKPOINTS), "Which evaluation of a seed counts."
)


def main(argv: list[str]) -> None:
    """Imports the files, and prints what was understood."""
    del argv
    if not _FILES.value or not _SOURCE.value:
        raise UserError(
            "Name the project with --source and its result files with --files, such as "
            "--source=CORL --files=export.csv."
        )
    paths = foreign.files(_FILES.value)
    records = [record for path in paths for record in foreign.read(path)]
    series = imported.collect(
        records,
        method=_METHOD.value,
        dataset=_DATASET.value,
        metric=_METRIC.value,
        scale=_SCALE.value,
    )
    found = imported.means(series, _CHECKPOINT.value)
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
    source = imported.Source(
        _SOURCE.value, _URL.value, _PROTOCOL.value, _CHECKPOINT.value
    )
    print(imported.write(series, source, _RUNS_DIR.value))


if __name__ == "__main__":
    cli.run(main)
