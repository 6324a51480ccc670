"""Prints or writes the leaderboard of one or more folders of runs.

python -m experiments.leaderboard --runs_dir=runs
python -m experiments.leaderboard --runs_dir=runs --format=html --out=board.html
"""

from __future__ import annotations

from pathlib import Path

from absl import flags
from rich.console import Console

from experiments import cli
from offjax.errors import UserError
from offjax.leaderboard import board, store, tables

FORMATS = ("terminal", "markdown", "csv", "latex", "html")

RUNS_DIR = flags.DEFINE_list("runs_dir", ["runs"], "Folders of runs, comma-separated.")
FORMAT = flags.DEFINE_enum("format", "terminal", FORMATS, "What to write.")
OUT = flags.DEFINE_string("out", None, "File to write to, instead of the screen.")
METHODS = flags.DEFINE_list("methods", [], "Only these methods; * and ? match.")
DATASETS = flags.DEFINE_list("datasets", [], "Only these datasets; * and ? match.")
CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "last",
    list(board.CHECKPOINTS),
    "Headline: last evaluation, best of each seed, or mean of the last ten.",
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the bootstrap.")
REPLICATES = flags.DEFINE_integer(
    "replicates", 2000, "Bootstrap replicates.", lower_bound=100
)


def main(argv: list[str]) -> None:
    """Builds the board that the flags describe and writes it."""
    del argv
    found = board.build(
        store.read(RUNS_DIR.value),
        checkpoint=CHECKPOINT.value,
        seed=SEED.value,
        replicates=REPLICATES.value,
        methods=METHODS.value,
        datasets=DATASETS.value,
    )
    write(found)


def write(found: board.Board) -> None:
    """Writes the board in the chosen format to --out or the screen."""
    if FORMAT.value == "terminal" and OUT.value is None:
        tables.write_terminal(found, Console())
        return
    text = {
        "terminal": lambda b: "\n".join(tables.plain_lines(b)) + "\n",
        "markdown": tables.markdown,
        "csv": tables.csv_text,
        "latex": tables.latex,
    }[FORMAT.value](found)
    if OUT.value is None:
        print(text, end="")
        return
    path = Path(OUT.value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Cannot write {str(path)!r} ({error.strerror}). Give --out a file in a "
            "folder that you may write to."
        ) from error
    print(path)


if __name__ == "__main__":
    cli.run(main)
