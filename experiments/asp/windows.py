"""ASPlanner's window k on Budget Allocation and maze2d, beside behaviour cloning.

python -m experiments.asp.windows --out=docs/results/asp_windows.csv
"""

from __future__ import annotations

from absl import flags

from experiments import cli

_DATASETS = flags.DEFINE_list(
    "datasets",
    [
        "offjax/budget/t50-smooth-v0",
        "offjax/maze2d/umaze-v0",
        "offjax/maze2d/medium-v0",
        "offjax/maze2d/large-v0",
    ],
    "Datasets.",
)
_WINDOWS = flags.DEFINE_list("windows", ["1", "5", "10", "25", "50"], "Values of k.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 5_000, "Updates of every run.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Seeds.")
_EPISODES = flags.DEFINE_integer("eval_episodes", 50, "Episodes per seed.")
_RUNS_DIR = flags.DEFINE_string("runs_dir", "runs/asp", "Where run folders go.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")
_OUT = flags.DEFINE_string("out", "docs/results/asp_windows.csv", "Table.")


def main(argv: list[str]) -> None:
    """Trains and writes the table."""
    del argv
    from experiments.asp.common import scores, summary, write_table
    from offjax.datasets.load import load_dataset
    from offjax.runner.devices import prepare_host_devices
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
            found = scores(method, dataset, steps | overrides, options)[0]
            k = overrides.get("k", ("",))[0]
            rows.append((name, method, k, *summary(found)))
    write_table(
        _OUT.value, ("dataset", "method", "k", "mean ± std", "IQM [95 %]"), rows
    )


if __name__ == "__main__":
    cli.run(main)
