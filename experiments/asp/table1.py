"""Scores on maze2d, locomotion and Adroit: the paper's first table, made anew.

    python -m experiments.asp.table1 --out=docs/results/asp_table1
        [--groups=maze2d,locomotion] [--datasets=ID,ID] [--methods=asp,iql] [--report]

Every method is given six settings on tuning seeds and other episodes of each dataset;
the best is trained on the reported seeds. What is finished in --runs_dir is not run
again: parts of the table can be made on their own, and --report writes those that are
there. Adroit's datasets and environments are for those who have them
(docs/data.md): `--groups=adroit`.
"""

from __future__ import annotations

from absl import flags

from experiments import cli
from experiments.asp import tuned
from offjax.errors import UserError

FLAGS = flags.FLAGS

GROUPS = {
    "maze2d": [f"offjax/maze2d/{maze}-v0" for maze in ("umaze", "medium", "large")],
    "locomotion": [
        f"offjax/{robot}/{kind}-v0"
        for robot in ("halfcheetah", "hopper", "walker2d")
        for kind in ("medium", "medium-replay", "medium-expert")
    ],
    "adroit": [
        f"d4rl/{task}-{kind}-v1"
        for task in ("pen", "door", "hammer", "relocate")
        for kind in ("human", "cloned", "expert")
    ],
}
"""Name → datasets."""

LEARNING_RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
WINDOWS: tuned.Values = {"k": (5, 10, 25), "temperature": (1.0, 2.0)}
GRIDS: dict[str, tuned.Values] = {
    "asp": WINDOWS,
    "asp_k1": {"lr": (3e-4, 1e-3, 3e-3), "temperature": (1.0, 2.0)},
    "asp_mle": WINDOWS,
    "bc": {"lr": LEARNING_RATES},
    "bcq": {"perturbation": (0.05, 0.2, 0.5), "lr": (3e-4, 1e-3)},
    "cql": {"alpha": (1.0, 5.0, 10.0), "lr": (3e-4, 1e-3)},
    "iql": {"temperature": (0.5, 3.0, 10.0), "expectile": (0.7, 0.9)},
    "td3_bc": {"alpha": (1.0, 2.5, 10.0), "lr": (3e-4, 1e-3)},
    "tdmpc2": {"lr": (1e-4, 3e-4, 1e-3), "temperature": (0.5, 5.0)},
    "tdmpc2_policy": {"lr": LEARNING_RATES},
}
"""Six settings for every method, around the published ones."""


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    tuned.define_flags("docs/results/asp_table1", num_steps=0, eval_episodes=20)
    flags.DEFINE_list("groups", ["maze2d"], f"Of {', '.join(GROUPS)}.")
    flags.DEFINE_list("datasets", [], "Dataset ids, in place of --groups.")


def names() -> list[str]:
    """Ids of the datasets that are asked for.

    Raises:
      UserError: an unknown group.
    """
    for group in FLAGS.groups:
        if group not in GROUPS:
            raise UserError(f"There is no group {group!r}; known: {', '.join(GROUPS)}.")
    return FLAGS.datasets or [name for g in FLAGS.groups for name in GROUPS[g]]


def main(argv: list[str]) -> None:
    """Tunes, trains and writes the table."""
    del argv
    setup = tuned.setup("asp_table1")
    methods = tuned.methods(GRIDS)
    datasets, rows = names(), []
    cells: dict[tuple[str, str], tuned.Cell] = {}
    for dataset in datasets:
        for method in methods:
            decay: tuned.Values = {}
            if method == "iql" and setup.num_steps:
                decay = {"actor_decay_steps": (float(setup.num_steps),)}
            grid = GRIDS[method]
            cell = tuned.measure(setup, method, dataset, [dataset], grid, decay)
            if cell is None:
                continue
            cells[dataset, method] = cell
            rows.append((dataset, *tuned.row(method, cell)))
            print(f"{dataset} {method}: {tuned.text(cell)}", flush=True)
    page = tuned.markdown("", datasets, methods, cells)
    tuned.write(FLAGS.out, ("dataset", *tuned.HEADER), rows, page)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
