"""Scores over one setting, with 95 % intervals: figures 3.5 and 3.6 from runs.

    python -m experiments.evaluate --run=runs/cfpi/… --grid=log_tau=0,0.5,1,1.5,2
    python -m experiments.cfpi.curves --setting=log_tau --runs_dir=runs
        [--methods=cfpi,cfpi_sg] [--baselines=bc_mixture] [--out=curves.png]

Nothing is trained or evaluated: the values are those whose scores the runs hold, from
experiments.evaluate --grid, experiments.run or experiments.cfpi.tables. One panel per
dataset, one curve per method (and per whatever else its variants differ in). A point
is the mean over seeds, its interval the percentile bootstrap over seeds. Beside the
figure goes a CSV file with the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.tables import write_csv
from offjax import methods
from offjax.cli import command as cli
from offjax.errors import UserError
from offjax.improvement import OPERATORS
from offjax.leaderboard import board, statistics, store
from offjax.runner import settings

FLAGS = flags.FLAGS

COLUMNS = (
    "dataset", "method", "variant", "setting", "value", "seeds", "mean", "low", "high",
)  # fmt: skip


class Point(NamedTuple):
    """One value of the setting; `value` is NaN for a baseline, which has none."""

    dataset: str
    method: str
    variant: str  # without the setting
    value: float
    scores: np.ndarray  # [seeds]

    @property
    def estimate(self) -> statistics.Estimate:
        """Mean over seeds with its 95 % interval; NaN bounds for a single seed."""
        return statistics.intervals([self.scores])["mean"]

    @property
    def label(self) -> str:
        """Name of the curve."""
        parts = [p for p in self.variant.split(",") if not p.startswith("preset=")]
        extra = f" ({', '.join(parts)})" if parts and self.variant != "default" else ""
        return self.method + extra


def unnamed_value(method: str, variant: str, setting: str) -> Any:
    """The setting's value where a variant does not name it; None if it has none."""
    given = dict(part.split("=", 1) for part in variant.split(",") if "=" in part)
    recipe = methods.build(method, None, given.get("preset", "paper"))
    if "improve" in given:
        return getattr(OPERATORS[given["improve"]][1](), setting, None)
    targets = settings.known_names(recipe).get(setting)
    return None if targets is None else settings.default_value(recipe, targets[0])


def points(
    built: board.Board, setting: str, baselines: Sequence[str] = ()
) -> list[Point]:
    """All values of `setting` that the board holds, by dataset, method and value.

    Raises:
      UserError: no method has two values of it.
    """
    found = []
    for group in built.groups:
        for (dataset, column), cell in group.cells.items():
            parts = column.variant.split(",")
            mine = [p for p in parts if p.split("=")[0] == setting]
            rest = ",".join(p for p in parts if p not in mine) or "default"
            if column.method in baselines:
                value: Any = math.nan
            elif mine:
                value = mine[0].split("=")[1]
            else:
                value = unnamed_value(column.method, column.variant, setting)
            if value is not None and cell.seeds:
                point = Point(dataset, column.method, rest, float(value), cell.finite)
                found.append(point)
    curves: dict[tuple, int] = {}
    for p in found:
        curves[p[:3]] = curves.get(p[:3], 0) + (not math.isnan(p.value))
    kept = [p for p in found if curves[p[:3]] > 1 or math.isnan(p.value)]
    if not any(count > 1 for count in curves.values()):
        raise UserError(
            f"no method has scores at two values of {setting}; make them with "
            f"experiments.evaluate --grid={setting}=… on a finished run."
        )
    return sorted(kept, key=lambda p: (*p[:3], p.value))


def draw(axis: Any, found: Sequence[Point], setting: str) -> None:
    """The curves of one dataset, and its baselines as horizontal lines."""
    names = list(dict.fromkeys(p[1:3] for p in found))
    for i, name in enumerate(names):
        mine = [p for p in found if p[1:3] == name]
        x = np.array([p.value for p in mine])
        mean, low, high = np.array([p.estimate for p in mine]).T
        style = {"color": f"C{i}", "label": mine[0].label}
        if np.isnan(x).all():
            axis.axhline(mean[0], linestyle="--", **style)
            axis.axhspan(low[0], high[0], color=f"C{i}", alpha=0.1, linewidth=0)
            continue
        axis.plot(x, mean, marker="o", markersize=3, **style)
        axis.fill_between(x, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
        if x.min() > 0 and x.max() / x.min() >= 10:
            axis.set_xscale("log")
    axis.set(title=found[0].dataset.removeprefix("offjax/"), xlabel=setting)


def write(path: Path, found: Sequence[Point], setting: str) -> None:
    """One row per point; the value of a baseline is empty."""
    rows = []
    for p in found:
        value = "" if math.isnan(p.value) else f"{p.value:g}"
        numbers = ["" if math.isnan(x) else f"{x:.4g}" for x in p.estimate]
        row = (p.dataset, p.method, p.variant, setting, value, len(p.scores))
        rows.append((*row, *numbers))
    write_csv(path, COLUMNS, rows)


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("setting", "log_tau", "What the horizontal axis shows.")
    flags.DEFINE_list("runs_dir", ["runs"], "Folders of runs.")
    flags.DEFINE_list("methods", [], "Only these methods; * and ? match.")
    flags.DEFINE_list("datasets", [], "Only these datasets; * and ? match.")
    flags.DEFINE_list("baselines", [], "Methods drawn as horizontal lines.")
    flags.DEFINE_string("out", "curves.png", "The figure; the numbers go beside it.")


def main(_: list[str]) -> None:
    """Prints the numbers, writes them and the figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = [*FLAGS.methods, *FLAGS.baselines] if FLAGS.methods else []
    built = board.build(
        store.read(FLAGS.runs_dir), methods=methods, datasets=FLAGS.datasets
    )
    found = points(built, FLAGS.setting, FLAGS.baselines)
    datasets = list(dict.fromkeys(p.dataset for p in found))
    size = (0.6 + 3.4 * len(datasets), 3.4)
    figure, axes = pyplot.subplots(
        1, len(datasets), figsize=size, layout="constrained", squeeze=False
    )
    for axis, dataset in zip(axes[0], datasets, strict=True):
        mine = [p for p in found if p.dataset == dataset]
        draw(axis, mine, FLAGS.setting)
        for p in mine:
            mean, low, high = p.estimate
            print(
                f"{p.dataset}  {p.label}  {FLAGS.setting}={p.value:g}  "
                f"{mean:.1f} [{low:.1f}, {high:.1f}]  {len(p.scores)} seeds"
            )
    axes[0, 0].set_ylabel("score")
    handles = {h.get_label(): h for a in axes[0] for h in a.get_lines()}
    figure.legend(
        handles.values(), handles, loc="outside lower center", ncols=4, frameon=False
    )
    path = Path(FLAGS.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    write(path.with_suffix(".csv"), found, FLAGS.setting)
    print(f"figure: {path}  numbers: {path.with_suffix('.csv')}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
