"""Choosing the number of SARSA updates by validation (section 3.11.5).

    python -m experiments.cfpi.sarsa_steps --dataset=offjax/hopper/medium-v0
        [--num_steps=100000] [--reference_steps=200000] [--out=sarsa_steps.csv]

1. A 3-layer MLP learns Q_all by SARSA on all rows: the reference.
2. Rows are split at random, 95 % to 5 %; a new critic learns on the 95 %.
3. Its distance from the reference on the 5 %, mean (Q_all − Q)², is followed.
4. The number of updates is where that distance is lowest on the mean of two folds.

The chapter names no rule for step 4 (it reads plots) and no network for step 2: here
the lowest point, and the critic that acts (`--network=iqn`) or the reference's
(`--network=mlp`). Folds are independent splits.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments.tables import write_csv
from offjax.catalog.load import load_dataset
from offjax.cli import command as cli
from offjax.datasets.views import TransitionData
from offjax.methods import sarsa
from offjax.types import Transitions

FLAGS = flags.FLAGS

VALIDATION_SHARE = 0.05


def split(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the 95 % and of the 5 %."""
    order = np.random.default_rng(seed).permutation(rows)
    count = max(int(VALIDATION_SHARE * rows), 1)
    return np.sort(order[count:]), np.sort(order[:count])


def take(data: TransitionData, index: np.ndarray) -> TransitionData:
    """The rows at `index`, with the statistics of all."""
    rows = Transitions(*(np.asarray(x)[index] for x in data.rows))
    return data._replace(rows=rows)


class Critic:
    """One critic that is trained in pieces."""

    def __init__(self, data: TransitionData, config: sarsa.Config, seed: int) -> None:
        self._config, self._data = config, jax.tree.map(jnp.asarray, data.rows)
        self.state = sarsa.init(jax.random.PRNGKey(seed), data, config, {})
        self._train = jax.jit(self._updates)
        self._values = jax.jit(
            lambda state, pairs: jax.lax.map(
                lambda x: sarsa.member_values(state, config, x[0], x[1]).mean(),
                pairs,
                batch_size=512,
            )
        )

    def _updates(
        self, state: sarsa.State, rows: Transitions, num_updates: jax.Array
    ) -> sarsa.State:
        def body(_: jax.Array, state: sarsa.State) -> sarsa.State:
            # A stream of its own, apart from the noise of the update.
            key = jax.random.fold_in(jax.random.fold_in(state.key, 1), state.step)
            shape, last = (self._config.batch_size,), rows.rewards.shape[0]
            index = jax.random.randint(key, shape, 0, last)
            batch = jax.tree.map(lambda x: x[index], rows)
            return sarsa.update(state, batch, self._config, {})[0]

        return jax.lax.fori_loop(0, num_updates, body, state)

    def train(self, num_updates: int) -> None:
        """Goes on for `num_updates`."""
        self.state = self._train(self.state, self._data, jnp.int32(num_updates))

    def values(self, rows: Transitions) -> np.ndarray:
        """Mean of the members' values at every row, [N]."""
        pairs = (jnp.asarray(rows.observations), jnp.asarray(rows.actions))
        return np.asarray(self._values(self.state, pairs))


def validation_curve(
    data: TransitionData,
    reference: np.ndarray,
    config: sarsa.Config,
    points: np.ndarray,
    fold: int,
) -> np.ndarray:
    """Mean (Q_all − Q)² on the fold's 5 % after each of `points` updates."""
    train_rows, held_out = split(len(reference), fold)
    critic = Critic(take(data, train_rows), config, fold)
    rows = take(data, held_out).rows
    curve, done = [], 0
    for point in points:
        critic.train(int(point) - done)
        done = int(point)
        curve.append(np.mean((critic.values(rows) - reference[held_out]) ** 2))
    return np.array(curve)


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("dataset", None, "Dataset id.", required=True)
    cli.define_preset("paper")
    cli.define_count("num_steps", 1_500_000, "Most updates to consider.")
    flags.DEFINE_integer("reference_steps", 2_000_000, "Updates of Q_all.")
    flags.DEFINE_integer("folds", 2, "Random splits.")
    flags.DEFINE_integer("points", 30, "Points on the curve.")
    flags.DEFINE_integer("seed", 100, "Seed; reported runs use others.")
    flags.DEFINE_enum("network", "iqn", ["iqn", "mlp"], "Critic of step 2.")
    flags.DEFINE_string("out", "sarsa_steps.csv", "Where the curve goes.")
    cli.define_data_dir()


def main(_: list[str]) -> None:
    """Prints the curve and the number, and writes the curve."""
    dataset = load_dataset(FLAGS.dataset, FLAGS.data_dir, progress=print)
    stage = sarsa.stage(dataset.spec, FLAGS.preset)
    data = stage.view.arrays(dataset, stage.config, {})
    widths = stage.config.hidden_dims
    mlp = dataclasses.replace(
        stage.config, network="mlp", hidden_dims=(*widths, widths[-1])
    )
    whole = Critic(data, mlp, FLAGS.seed)
    whole.train(FLAGS.reference_steps)
    reference = whole.values(data.rows)
    print(f"reference: {FLAGS.reference_steps:,} updates on {len(reference):,} rows")

    config = stage.config if FLAGS.network == "iqn" else mlp
    points = np.linspace(0, FLAGS.num_steps, FLAGS.points + 1).astype(int)[1:]
    folds = range(FLAGS.seed, FLAGS.seed + FLAGS.folds)
    curves = [validation_curve(data, reference, config, points, f) for f in folds]
    mean = np.mean(curves, axis=0)
    columns = [points, *curves, mean]
    header = ["step", *[f"fold_{i}" for i in folds], "mean"]
    write_csv(Path(FLAGS.out), header, zip(*columns, strict=True))
    for point, value in zip(points, mean, strict=True):
        print(f"step={point} distance={value:.6g}")
    print(f"sarsa_steps={points[int(np.argmin(mean))]}  curve: {FLAGS.out}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
