"""Scores on Budget Allocation over the horizon T, every method tuned alike.

python -m experiments.asp.horizons --out=docs/results/asp_horizons.csv

Each method is given the same number of evaluated settings (six, two tuning seeds, other
episodes); the best is trained anew with the reported seeds.
"""

from __future__ import annotations

from absl import flags

from experiments import cli

_HORIZONS = flags.DEFINE_list("horizons", ["10", "20", "50", "100", "200"], "T.")
_METHODS = flags.DEFINE_list("methods", ["bc", "asp_mle", "asp_k1", "asp"], "Methods.")
_KIND = flags.DEFINE_string("kind", "smooth", "Kind of behaviour data.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 3000, "Updates of every run.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Reported seeds.")
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs/asp", "Where run folders go.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")
_OUT = flags.DEFINE_string("out", "docs/results/asp_horizons.csv", "Table.")

LEARNING_RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
GRIDS = {
    "bc": {"lr": LEARNING_RATES},
    "percent_bc": {"lr": LEARNING_RATES},
}
PLANNER_GRID = {"lr": (3e-4, 1e-3, 3e-3), "temperature": (1.0, 2.0)}
"""Six settings for every method."""


def main(argv: list[str]) -> None:
    """Tunes, trains and writes the table."""
    del argv
    from experiments.asp.common import scores, summary, tune, write_table
    from offjax.datasets.load import load_dataset
    from offjax.runner.devices import prepare_host_devices
    from offjax.runner.options import Options

    options = Options(
        num_seeds=_NUM_SEEDS.value,
        runs_dir=_RUNS_DIR.value,
        max_devices=prepare_host_devices(),
    )
    overrides = {"num_steps": (_NUM_STEPS.value,)}
    rows = []
    for horizon in _HORIZONS.value:
        name = f"offjax/budget/t{horizon}-{_KIND.value}-v0"
        dataset = load_dataset(name, _DATA_DIR.value, progress=print)
        for method in _METHODS.value:
            grid = GRIDS.get(method, PLANNER_GRID)
            chosen = tune(method, dataset, grid, overrides, options)
            found = scores(method, dataset, overrides | chosen, options)[0]
            settings = " ".join(f"{n}={v[0]:g}" for n, v in chosen.items())
            rows.append((horizon, method, *summary(found), settings))
    header = ("T", "method", "mean ± std", "IQM [95 %]", "tuned")
    write_table(_OUT.value, header, rows)


if __name__ == "__main__":
    cli.run(main)
