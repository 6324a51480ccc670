"""How smooth the gradients of cross-entropy and of likelihood are.

python -m experiments.asp.gradients --out=docs/results/asp_gradients

The paper shows that the gradient of its cross-entropy is smoother than that of the
likelihood. Here the two differ in one thing at a time: the weights (signed, as its
listing standardizes them, or positive), and the deviation σ of the likelihood (learned,
floored, fixed). Norms of the whole gradient are recorded at every update.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from absl import flags

from offjax.cli import command as cli

_DATASET = flags.DEFINE_string("dataset", "offjax/budget/t50-smooth-v0", "Dataset.")
_NUM_STEPS = cli.define_count("num_steps", 1000, "Updates.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 5, "Seeds.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")
_OUT = flags.DEFINE_string("out", "docs/results/asp_gradients", "Table and figure.")

LOSSES: dict[str, dict[str, Any]] = {
    "CE, anchored": {},
    "CE, listing": {"mode": "listing", "batch_size": 64},
    "MLE, σ learned": {"mode": "mle"},
    "MLE, σ ≥ 0.1": {"mode": "mle", "std_min": 0.1},
    "MLE, σ = 0.3": {"mode": "mle", "std_min": 0.3, "learn_std": False},
}
WEIGHTS = {"signed": "std", "positive": "exp"}


def gradient_norms(
    dataset: Any, changes: dict[str, Any], num_seeds: int, num_steps: int
) -> Any:
    """Gradient norms [seeds, steps] and cosines between successive gradients."""
    import dataclasses

    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from offjax.methods import asp

    stage = asp.stage(dataset.spec, "demo")
    config, view = dataclasses.replace(stage.config, **changes), stage.view
    data = jax.tree.map(jnp.asarray, view.arrays(dataset, config, {}))

    def train(seed: Any, data: Any) -> Any:
        state = asp.init(jax.random.PRNGKey(seed), data, config, {})
        zeros = jax.tree.map(jnp.zeros_like, state.planner.params)

        def step(carry: Any, i: Any) -> Any:
            state, last = carry
            batch = view.sample(data, jax.random.fold_in(state.key, i), config)
            grads, _ = jax.grad(asp.loss, has_aux=True)(
                state.planner.params, state, batch, state.key, config
            )
            norm = optax.global_norm(grads)
            dots = jax.tree.map(lambda a, b: jnp.sum(a * b), grads, last)
            cosine = sum(jax.tree.leaves(dots)) / (
                norm * optax.global_norm(last) + 1e-30
            )
            state, _ = asp.update(state, batch, config, {})
            return (state, grads), (norm, cosine)

        return jax.lax.scan(step, (state, zeros), jnp.arange(num_steps))[1]

    program = jax.jit(train)
    results = [program(seed, data) for seed in range(num_seeds)]
    return tuple(np.stack([np.asarray(r[i]) for r in results]) for i in range(2))


def main(argv: list[str]) -> None:
    """Trains, writes the table and draws the figure."""
    del argv
    import numpy as np

    from experiments.asp.common import write_table
    from offjax.catalog.load import load_dataset

    dataset = load_dataset(_DATASET.value, _DATA_DIR.value, progress=print)
    traces, rows = {}, []
    for weights, name in WEIGHTS.items():
        for loss, changes in LOSSES.items():
            norms, cosines = gradient_norms(
                dataset,
                {**changes, "weights": name},
                _NUM_SEEDS.value,
                _NUM_STEPS.value,
            )
            traces[weights, loss] = norms
            median = np.median(norms, axis=1)
            rows.append((
                weights,
                loss,
                f"{np.mean(norms.std(1) / norms.mean(1)):.2f}",
                f"{np.mean(norms.max(1) / median):.3g}",
                f"{np.mean(np.quantile(norms, 0.99, axis=1) / median):.3g}",
                f"{np.mean(np.log(norms + 1e-30).std(1)):.2f}",
                f"{np.mean(cosines[:, 1:]):.2f}",
            ))  # fmt: skip
    header = (
        "weights",
        "loss",
        "CV",
        "max/median",
        "99 %/median",
        "std of log",
        "cosine",
    )
    write_table(_OUT.value + ".csv", header, rows)
    draw(traces, Path(_OUT.value + ".png"))


def draw(traces: dict[tuple[str, str], Any], path: Path) -> None:
    """Norms over updates, each divided by its median, one seed."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True)
    for axis, weights in zip(axes, WEIGHTS, strict=True):
        for loss in LOSSES:
            norms = traces[weights, loss][0]
            axis.semilogy(norms / np.median(norms), label=loss, linewidth=0.8)
        axis.set_title(f"{weights} weights")
        axis.set_xlabel("update")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("gradient norm / its median")
    axes[1].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    cli.run(main)
