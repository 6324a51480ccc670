"""Prints a comparison as markdown: every method's scores, and what each operator adds.

    python -m experiments.cfpi.tables --table=comparison --datasets=… --preset=small
    offjax report --runs_dir=runs [--out=docs/results/table.md]

The first table has a row per method (and variant) and a column per dataset, or the
other way round where there are more datasets: mean ± std over seeds, and the mean's
95 % percentile bootstrap interval. Scores are normalized (0–100); where a dataset has
no reference scores the numbers are undiscounted returns, and each says so. The second
compares an operator with the policy that it improves, seed by seed: the two share the
seed's trained behavior and its evaluation episodes, so that their difference varies
less than either. `offjax leaderboard` shows the same runs as a page.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from absl import flags

from offjax.leaderboard import board, statistics, store, tables

FLAGS = flags.FLAGS

COMPARISON = (
    "bc_gaussian",
    "bc_mixture",
    "mode_selection",
    "ebcq",
    "rev_kl",
    "cfpi_sg",
    "cfpi",
    "iql",
    "iql_cfpi",
    "cql",
    "cql_cfpi",
    "td3_bc",
    "bcq",
    "awac",
)
"""Methods in the order of the first table."""

IMPROVES = {
    "cfpi": "bc_mixture",
    "mode_selection": "bc_mixture",
    "ebcq_mixture": "bc_mixture",
    "rev_kl_mixture": "bc_mixture",
    "cfpi_sg": "bc_gaussian",
    "ebcq": "bc_gaussian",
    "rev_kl": "bc_gaussian",
    "idet": "bc_deterministic",
    "idet_vae": "bc_vae",
    "vae_ebcq": "bc_vae",
    "iql_cfpi": "iql",
    "cql_cfpi": "cql",
    "dt_ag": "decision_transformer",
    "reinformer_ag": "reinformer",
}
"""Method → the method that it is without its operator."""

Cells = dict[tuple[str, board.Column], board.Cell]


def cells_of(built: board.Board) -> Cells:
    """All cells of a board by dataset and column."""
    return {key: cell for group in built.groups for key, cell in group.cells.items()}


def columns_of(cells: Cells) -> list[board.Column]:
    """Methods and variants in the order of the comparison, the others after them."""
    order = {name: i for i, name in enumerate(COMPARISON)}
    unique = {column for _, column in cells}
    return sorted(
        unique, key=lambda c: (order.get(c.method, len(order)), c.method, c.variant)
    )


def difference(cells: Cells, dataset: str, column: board.Column) -> np.ndarray | None:
    """Score minus that of the policy without the operator, seed by seed, [seeds].

    The other side is the variant that differs from its preset in the same settings but
    for those that it does not have.
    """
    plain = without_operator(cells, dataset, column)
    sides, units = [], set()
    for key in ((dataset, column), (dataset, plain)):
        if plain is None or key not in cells:
            return None
        curves = zip(cells[key].curves, cells[key].values, strict=True)
        units.add(cells[key].unit)
        sides.append({c.seed: v for c, v in curves if np.isfinite(v)})
    if len(units) > 1:  # a score and a return have no difference
        return None
    both = sorted(sides[0].keys() & sides[1].keys())
    return np.array([sides[0][s] - sides[1][s] for s in both]) if both else None


def without_operator(
    cells: Cells, dataset: str, column: board.Column
) -> board.Column | None:
    """The column of the policy that an operator improves, if the dataset has it."""
    mine = settings_of(column)
    known = [
        c
        for d, c in cells
        if d == dataset
        and c.method == IMPROVES.get(column.method)
        and settings_of(c) <= mine
        and preset_of(c) == preset_of(column)
    ]
    return max(known, key=lambda c: len(settings_of(c)), default=None)


def settings_of(column: board.Column) -> set[str]:
    """What a variant differs in; nothing for `default`."""
    return set(column.variant.split(",")) - {"default"}


def preset_of(column: board.Column) -> set[str]:
    """The preset among them; none for the published one."""
    return {s for s in settings_of(column) if s.startswith("preset=")}


def with_interval(values: np.ndarray, spread: bool = True) -> str:
    """`54.2 ± 3.1 [51.0, 57.1]`."""
    std = (
        f" ± {tables.number(float(values.std()))}" if spread and len(values) > 1 else ""
    )
    estimate = statistics.intervals([values])["mean"]
    text = tables.interval(estimate)
    return text.replace(" [", f"{std} [", 1) if std else text


def markdown(built: board.Board) -> Iterator[str]:
    """Lines of the two tables."""
    cells = cells_of(built)
    datasets = sorted({dataset for dataset, _ in cells})
    columns = columns_of(cells)
    texts = [[score(cells.get((d, c))) for d in datasets] for c in columns]
    names, labels = short(datasets), [c.label for c in columns]
    if len(datasets) > len(columns):
        yield from table("dataset", labels, names, list(zip(*texts, strict=True)))
    else:
        yield from table("method", names, labels, texts)
    yield ""
    gains = {c: [difference(cells, d, c) for d in datasets] for c in columns}
    gains = {c: each for c, each in gains.items() if any(g is not None for g in each)}
    labels = [f"{c.label} − {IMPROVES[c.method]}" for c in gains]
    texts = [
        [
            "–" if g is None else marked(cells[d, c], with_interval(g, False))
            for d, g in zip(datasets, each, strict=True)
        ]
        for c, each in gains.items()
    ]
    if gains:
        yield from table("operator − policy without it", names, labels, texts)


def score(cell: board.Cell | None) -> str:
    """What a cell shows."""
    return marked(cell, with_interval(cell.finite)) if cell and cell.seeds else "–"


def marked(cell: board.Cell, text: str) -> str:
    """Numbers of a cell, marked where they are returns: scores stand without a unit."""
    return text if cell.unit == "score" else f"{cell.unit} {text}"


def short(datasets: Sequence[str]) -> list[str]:
    """Names of datasets without the collection."""
    return [d.removeprefix("offjax/") for d in datasets]


def table(
    corner: str,
    head: Sequence[str],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
) -> Iterator[str]:
    """Lines of a markdown table: a row per name."""
    yield row([corner, *head])
    yield "|---" * (1 + len(head)) + "|"
    for name, line in zip(names, texts, strict=True):
        yield row([name, *line])


def row(texts: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join(texts) + " |"


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_list("runs_dir", ["runs"], "Folders of runs.")
    flags.DEFINE_list("methods", [], "Only these methods; * and ? match.")
    flags.DEFINE_list("datasets", [], "Only these datasets; * and ? match.")
    flags.DEFINE_string("out", None, "File to write to; by default the screen.")


def main(_: list[str]) -> None:
    """Prints or writes the tables, then the notes on the runs."""
    built = board.build(
        store.read(FLAGS.runs_dir), methods=FLAGS.methods, datasets=FLAGS.datasets
    )
    text = "\n".join(markdown(built)) + "\n"
    if FLAGS.out:
        path = Path(FLAGS.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path)
    else:
        print(text, end="")
    for note in built.notes:
        print(f"note: {note}")
