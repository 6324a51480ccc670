"""ASPlanner's window k on Budget Allocation, maze2d and a robot, beside cloning.

Budget Allocation as it is, with noise on the recorded rewards, and with an instance of
its own for every episode, which is seen as it goes by only.

python -m experiments.asp.windows --out=docs/results/asp_windows.csv
    [--datasets=offjax/maze2d/umaze-v0] [--windows=1,5]

Beside the scores: how far the first and the last action of a window are from what was
recorded, and how much plans from the same state differ between seeds, all in units of
half the action box. The data are those of training: the errors are no less elsewhere.
"""

from __future__ import annotations

from absl import flags

from offjax.cli import command as cli

_DATASETS = flags.DEFINE_list(
    "datasets",
    [
        "offjax/budget/t50-smooth-v0",
        "offjax/budget/t50-smooth-n0.1-v0",
        "offjax/budget/t50-mixed-r1000-v0",
        "offjax/maze2d/umaze-v0",
        "offjax/maze2d/medium-v0",
        "offjax/maze2d/large-v0",
        "offjax/hopper/medium-v0",
    ],
    "Datasets.",
)
_WINDOWS = flags.DEFINE_list("windows", ["1", "5", "10", "25", "50"], "Values of k.")
_NUM_STEPS = cli.define_count("num_steps", 5_000, "Updates of every run.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Seeds.")
_EPISODES = flags.DEFINE_integer("eval_episodes", 50, "Episodes per seed.")
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs/asp", "Where run folders go.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")
_OUT = flags.DEFINE_string("out", "docs/results/asp_windows.csv", "Table.")


def main(argv: list[str]) -> None:
    """Trains and writes the table."""
    del argv
    from experiments.asp.common import (
        plan_statistics,
        scores_of,
        summary,
        train,
        write_table,
    )
    from offjax.catalog.load import load_dataset
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.options import Options

    options = Options(
        num_seeds=_NUM_SEEDS.value,
        eval_episodes=_EPISODES.value,
        runs_dir=_RUNS_DIR.value,
        max_devices=prepare_host_devices(),
    )
    steps = {"num_steps": (_NUM_STEPS.value,)}
    rows = []
    for name in _DATASETS.value:
        dataset = load_dataset(name, _DATA_DIR.value, progress=print)
        plan: list[tuple[str, dict]] = [("bc", {}), ("percent_bc", {})]
        plan += [("asp", {"k": (int(k),)}) for k in _WINDOWS.value]
        for method, overrides in plan:
            run = train(method, dataset, steps | overrides, options)
            k = overrides.get("k", ("",))[0]
            plans: tuple = ("", "", "")
            if method == "asp":
                plans = tuple(f"{x:.3f}" for x in plan_statistics(run, dataset))
            rows.append((name, method, k, *summary(scores_of(run)[0]), *plans))
    header = ("dataset", "method", "k", "mean ± std", "IQM [95 %]")
    measures = ("first error", "open-loop error", "std of plans")
    write_table(_OUT.value, header + measures, rows)


if __name__ == "__main__":
    cli.run(main)
