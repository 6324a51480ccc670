"""Scores on maze2d, locomotion and Adroit: the paper's first table, made anew.

    python -m experiments.asp.table1 --out=docs/results/asp_table1
        [--groups=maze2d] [--datasets=ID,ID] [--methods=asp,iql] [--report]
        [--tau=0.05]

Every method is given six settings on tuning seeds and other episodes of each dataset;
the best is trained on the reported seeds. What is finished in --runs_dir is not run
again: parts of the table can be made on their own, and --report writes those that are
there. The paper's own numbers are images; below the table stand CORL's scores on D4RL's
data of the same names, which are other data and far longer trainings. By default there
are mazes and two robots; `--groups=locomotion` has the other robots' data, and
`--groups=adroit` Adroit's, for those who have them and their environments
(docs/how_to/data.md).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from absl import flags

from experiments.asp import tuned
from offjax.cli import command as cli
from offjax.cli import tune
from offjax.errors import UserError
from offjax.leaderboard import reported

FLAGS = flags.FLAGS

GROUPS = {
    "maze2d": [f"offjax/maze2d/{maze}-v0" for maze in ("umaze", "medium", "large")],
    "robots": [f"offjax/{robot}/medium-v0" for robot in ("hopper", "walker2d")],
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
    "bc": {"actor_lr": LEARNING_RATES},
    "bcq": {"perturbation": (0.05, 0.2, 0.5), "critic_lr": (3e-4, 1e-3)},
    "cql": {"alpha": (1.0, 5.0, 10.0), "critic_lr": (3e-4, 1e-3)},
    "iql": {"temperature": (0.5, 3.0, 10.0), "expectile": (0.7, 0.9)},
    "td3_bc": {"alpha": (1.0, 2.5, 10.0), "critic_lr": (3e-4, 1e-3)},
    "tdmpc2": {"lr": (1e-4, 3e-4, 1e-3), "temperature": (0.5, 5.0)},
    "tdmpc2_policy": {"lr": LEARNING_RATES},
}
"""Six settings for every method, around the published ones."""
VALUE_BASED = ("bcq", "cql", "iql", "td3_bc")
COUNTERPARTS = {
    r"offjax/maze2d/(\w+)-v0": r"maze2d-\1-v1",
    r"offjax/(hopper|halfcheetah|walker2d)/([\w-]+)-v0": r"\1-\2-v2",
    r"d4rl/(.+)": r"\1",
}
"""Pattern of a dataset's id → D4RL's id of what it follows."""


def corl(datasets: Sequence[str]) -> str:
    """CORL's last scores on D4RL's data of the same names, methods × datasets.

    Returns:
      A section of markdown, empty where CORL has none of them.
    """
    (source,) = (each for each in reported.load() if each.id == "corl")
    (table,) = (each for each in source.tables if each.id == "last")
    rows = {name: _counterpart(name) for name in datasets}
    rows = {name: row for name, row in rows.items() if row in table.rows}
    if not rows:
        return ""
    lines = ["", "### CORL's scores, on D4RL's own data", "",
             "| " + " | ".join(["", *rows.values()]) + " |",
             "|" + "---|" * (len(rows) + 1)]  # fmt: skip
    for method in table.methods:
        found = [table.values.get((row, method)) for row in rows.values()]
        cells = [f"{v.text} ± {v.std_text}" if v else "–" for v in found]
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return "\n".join([*lines, "", table.protocol, ""])


def _counterpart(dataset: str) -> str:
    for pattern, name in COUNTERPARTS.items():
        if re.fullmatch(pattern, dataset):
            return re.sub(pattern, name, dataset)
    return dataset


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    tuned.define_flags("docs/results/asp_table1", num_steps=0, eval_episodes=20)
    flags.DEFINE_list("groups", ["maze2d", "robots"], f"Of {', '.join(GROUPS)}.")
    flags.DEFINE_list("datasets", [], "Dataset ids, in place of --groups.")
    flags.DEFINE_float(
        "tau",
        0.0,
        "Share of the targets of value-based methods that an update replaces; 0: the "
        "published 0.005, with which a few thousand updates do not look far ahead.",
        lower_bound=0.0,
        upper_bound=1.0,
    )


def fixed(method: str, num_steps: int, tau: float) -> tuned.Values:
    """What all runs of a method have in common."""
    values: dict[str, tuple] = {}
    if method == "iql" and num_steps:
        values["actor_decay_steps"] = (float(num_steps),)
    if method in VALUE_BASED and tau:
        values["tau"] = (tau,)
    return values


def names(groups: Sequence[str], datasets: Sequence[str] = ()) -> list[str]:
    """Ids of the datasets, or else of those of the groups, each once.

    Raises:
      UserError: an unknown group.
    """
    for group in groups:
        if group not in GROUPS:
            raise UserError(f"There is no group {group!r}; known: {', '.join(GROUPS)}.")
    grouped = [name for group in groups for name in GROUPS[group]]
    return list(dict.fromkeys(datasets or grouped))


def main(argv: list[str]) -> None:
    """Tunes, trains and writes the table."""
    del argv
    how = tune.protocol(name="asp_table1")
    methods = tuned.methods(GRIDS)
    datasets, rows = names(FLAGS.groups, FLAGS.datasets), []
    cells: dict[tuple[str, str], tuned.Cell] = {}
    for dataset in datasets:
        for method in methods:
            settings = fixed(method, how.num_steps, FLAGS.tau)
            cell = tuned.measure(
                how, method, dataset, [dataset], GRIDS[method], settings, FLAGS.report
            )
            if cell is None:
                continue
            cells[dataset, method] = cell
            rows.append((dataset, *tuned.row(method, cell)))
            print(f"{dataset} {method}: {tuned.text(cell)}", flush=True)
    page = tuned.markdown("", datasets, methods, cells) + corl(datasets)
    tuned.write(FLAGS.out, ("dataset", *tuned.HEADER), rows, page)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
