"""Scores on Budget Allocation over the horizon T: the paper's second table, made anew.

    python -m experiments.asp.table2 --out=docs/results/asp_table2
        [--methods=asp,iql] [--horizons=10,50] [--kinds=smooth] [--instances=0]
        [--noise=0.1] [--random_instances=1000] [--num_steps=10000] [--report]

Every method is given six settings on tuning seeds, other episodes and an instance of
its own (`--tune_instance`); the best is trained on the reported instances and seeds.
What is finished in --runs_dir is not run again: parts of the table can be made on their
own, and --report writes those that are there.

The same for all: the updates; two layers of 64 (the problem has three inputs and one
output) on batches of 128 rows, which for a planner of whole episodes are whole
episodes; for step-wise methods one affine map of actions, the bulk of the data's range
to [-1, 1] (`offjax.datasets.views.action_box`), and rewards of about 1 a step
(`step_rewards`). Value-based methods discount by 0.999, as budgets are spent over a
whole episode, their targets follow by 0.05 and the policies of actor-critics by Adam at
5e-4: with the published 0.005 a few thousand updates look only some tens of steps
ahead, which would decide the comparison at long horizons. CQL takes 64 rows and three
actions of each proposal. TD-MPC2 keeps its published discount and targets, with which
it does better (with the others' its values, that nothing makes pessimistic, grow
without bound), and takes 32 slices of three steps.
"""

from __future__ import annotations

from absl import flags

from experiments.asp import tuned
from offjax.cli import command as cli
from offjax.cli import tune

FLAGS = flags.FLAGS

DISCOUNT = 0.999
TAU = 0.05
ACTOR_RATE = 5e-4
LEARNING_RATES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
TWO_RATES = (3e-4, 1e-3)
PLANNER: tuned.Values = {"lr": (1e-3, 3e-3), "temperature": (1.0, 2.0, 4.0)}
GRIDS: dict[str, tuned.Values] = {
    "asp": PLANNER,
    "asp_k1": PLANNER,
    "asp_mle": PLANNER,
    "bc": {"actor_lr": LEARNING_RATES},
    "bcq": {"perturbation": (0.02, 0.1, 0.4), "critic_lr": TWO_RATES},
    "cql": {"alpha": (0.3, 2.0, 10.0), "critic_lr": TWO_RATES},
    "iql": {"temperature": (0.1, 0.5, 2.0), "critic_lr": TWO_RATES},
    "td3_bc": {"alpha": (0.3, 1.0, 2.5), "critic_lr": TWO_RATES},
    "tdmpc2": {"lr": (1e-4, 3e-4, 1e-3), "temperature": (0.5, 5.0)},
    "tdmpc2_policy": {"lr": LEARNING_RATES},
}
"""Six settings for every method."""


def fixed(method: str, num_steps: int) -> tuned.Values:
    """What all runs of a method have in common."""
    if method.startswith("tdmpc2"):
        return {"batch_size": (32,)}
    values: dict[str, tuple] = {"hidden_dims": ((64, 64),), "batch_size": (128,)}
    if method == "cql":
        values |= {"batch_size": (64,), "num_actions": (3,)}
    if method == "bcq":
        values["vae_hidden_dims"] = ((64, 64),)
    if method in ("bcq", "cql", "iql", "td3_bc"):
        values |= {"discount": (DISCOUNT,), "tau": (TAU,)}
    if method in ("cql", "iql", "td3_bc"):
        values["actor_lr"] = (ACTOR_RATE,)
    if method == "iql" and num_steps:
        values["actor_decay_steps"] = (float(num_steps),)
    return values


def dataset_id(
    horizon: int, kind: str, instance: int, count: int = 1, noise: float = 0.0
) -> str:
    """The data of `count` instances from the place of one on, with noise on rewards."""
    from offjax.catalog.collected import Budget

    first = instance * count  # so that no two datasets share an instance
    return Budget(horizon, kind, first, noise=noise, instances=count).name


def data_kind(kind: str, count: int = 1, noise: float = 0.0) -> str:
    """How the table calls the data: as their ids do, but for horizon and instance."""
    instances = f"-r{count}" if count > 1 else ""
    return kind + instances + (f"-n{noise}" if noise else "")


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    tuned.define_flags("docs/results/asp_table2", num_steps=10_000, eval_episodes=2)
    flags.DEFINE_list("horizons", ["10", "20", "50", "100", "200"], "T.")
    flags.DEFINE_list("kinds", ["smooth", "mixed"], "Kinds of behavior data.")
    flags.DEFINE_list("instances", ["0", "1", "2"], "Instances that are reported.")
    flags.DEFINE_integer("tune_instance", 3, "Instance that settings are chosen on.")
    flags.DEFINE_float("noise", 0.0, "Deviation of the noise on recorded rewards.")
    flags.DEFINE_integer(
        "random_instances",
        1,
        "Instances in a dataset, of which every episode draws one; above 1 the scales "
        "of a step are seen when it comes.",
        lower_bound=1,
    )


def main(argv: list[str]) -> None:
    """Tunes, trains and writes the table."""
    del argv
    how = tune.protocol(name="asp_table2")
    methods = tuned.methods(GRIDS)
    rows, page = [], ""
    more = FLAGS.random_instances, FLAGS.noise
    for kind in FLAGS.kinds:
        label = data_kind(kind, *more)
        cells: dict[tuple[str, str], tuned.Cell] = {}
        for horizon in FLAGS.horizons:
            other, *names = (
                dataset_id(int(horizon), kind, int(i), *more)
                for i in (FLAGS.tune_instance, *FLAGS.instances)
            )
            for method in methods:
                settings = fixed(method, how.num_steps)
                cell = tuned.measure(
                    how, method, other, names, GRIDS[method], settings, FLAGS.report
                )
                if cell is None:
                    continue
                cells[horizon, method] = cell
                rows.append((label, horizon, *tuned.row(method, cell)))
                print(f"{label} T={horizon} {method}: {tuned.text(cell)}", flush=True)
        table = tuned.markdown("T", FLAGS.horizons, methods, cells)
        page += f"### {label}\n\n{table}\n"
    tuned.write(FLAGS.out, ("kind", "T", *tuned.HEADER), rows, page)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
