"""One state, r(a) = 1 - a²: why imitation cannot leave the data, and critics can.

python -m experiments.action_gradient.toy [--num_seeds=5] [--out=FOLDER]

Section 3.1 of the Action Gradient paper (https://arxiv.org/abs/2510.05285): the data
hold |a| > 0.5 only, so that their best reward is 0.75 while the optimum, a = 0, pays 1.
Four policies learn from them:

    DT   imitates a given the reward, and is asked for the data's best
    TP   the same, asked for the reward that expectile regression predicts
    PG   TP, trained with the gradient of a critic beside the imitation (eq. 9)
    AG   TP, its action refined on that critic while acting (eq. 1-2)

"one_sided" data are a ∈ [0.5, 1]: DT and TP end near 0.75 or below, PG and AG above.
"two_sided" data are |a| ∈ [0.5, 1], as the paper has them, and a trap: the mean of the
two sides is a = 0, so that a policy with one mode, trained by squared error, lands on
the optimum by accident, and AG cannot but move away from it.

AG climbs locally. A critic of one-sided data may well be greatest at a = -1, where it
knows nothing: the global maximum of the critic would be no better a policy than chance.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from experiments.tables import write_csv
from offjax.cli import command as cli
from offjax.errors import UserError
from offjax.improvement.action_gradient import refine
from offjax.networks.mlp import MLP

METHODS = ("DT", "TP", "PG", "AG")
NUM_POINTS = 256
UPDATES = 2000
EXPECTILE = 0.99
PG_WEIGHT = 2.0
STEP_SIZE, NUM_STEPS = 0.05, 20
NETWORK = MLP((64, 64), 1)


class Outcome(NamedTuple):
    """Of one seed."""

    data: chex.Array  # [N] actions of the data
    grid: chex.Array  # [G] actions at which the critic is shown
    critic: chex.Array  # [G]
    actions: chex.Array  # [4] of METHODS


def reward(action: chex.Array) -> chex.Array:
    """r(a) = 1 - a²."""
    return 1.0 - action**2


def value(params: Any, x: chex.Array) -> chex.Array:
    """A network of one number, at one number."""
    output: Any = NETWORK.apply(params, x[..., None])
    return output[..., 0]


def policy(params: Any, asked: chex.Array) -> chex.Array:
    """Action in [-1, 1] for the reward that is asked for."""
    return jnp.tanh(value(params, asked))


def fit(loss_fn: Callable[[Any], chex.Array], params: Any) -> Any:
    """`UPDATES` steps of Adam on the whole data."""
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, UPDATES))

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss_fn)(params), state)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    return jax.lax.scan(step, carry, length=UPDATES)[0][0]


def train(key: chex.PRNGKey, two_sided: bool) -> Outcome:
    """All four policies for one seed."""
    data_key, side_key, *keys = jax.random.split(key, 5)
    actions = jax.random.uniform(data_key, (NUM_POINTS,), minval=0.5, maxval=1.0)
    if two_sided:
        actions *= jax.random.rademacher(side_key, (NUM_POINTS,))
    rewards = reward(actions)
    fresh = [NETWORK.init(k, jnp.zeros(1)) for k in keys]

    def imitation(params):
        return jnp.mean((policy(params, rewards) - actions) ** 2)

    def expectile(prediction):
        error = rewards - prediction
        return jnp.mean(jnp.abs(EXPECTILE - (error < 0)) * error**2)

    critic = fit(lambda p: jnp.mean((value(p, actions) - rewards) ** 2), fresh[0])
    cloned = fit(imitation, fresh[1])
    predicted = fit(expectile, jnp.mean(rewards))

    def with_gradient(params):
        values = value(critic, policy(params, rewards))
        size = jax.lax.stop_gradient(jnp.mean(jnp.abs(values)))
        return imitation(params) - PG_WEIGHT * jnp.mean(values) / size

    improved = fit(with_gradient, fresh[2])
    dt, tp = policy(cloned, jnp.max(rewards)), policy(cloned, predicted)
    pg = policy(improved, predicted)
    ag = refine(
        tp[None],
        lambda a: value(critic, a[0]),
        step_size=STEP_SIZE,
        num_steps=NUM_STEPS,
    )[0]
    grid = jnp.linspace(-1.0, 1.0, 201)
    return Outcome(actions, grid, value(critic, grid), jnp.stack([dt, tp, pg, ag]))


def run(seeds: int, two_sided: bool) -> Outcome:
    """Outcomes with a leading axis [seeds], in one program."""
    keys = jax.vmap(jax.random.PRNGKey)(np.arange(seeds))
    return jax.jit(jax.vmap(lambda key: train(key, two_sided)))(keys)


def plot(outcomes: dict[str, Outcome], path: Path) -> None:
    """Data, critics and actions (top), and rewards of every seed (bottom)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, height_ratios=(2, 1))
    for column, (name, outcome) in enumerate(outcomes.items()):
        upper, lower = axes[0, column], axes[1, column]
        x, best = outcome.grid[0], np.sqrt(0.25)
        upper.hist(
            np.asarray(outcome.data[0]), bins=np.linspace(-1, 1, 41), density=True,
            color="0.85", label="data (density)",
        )  # fmt: skip
        upper.plot(x, reward(x), "k--", label="r(a) = 1 - a²")
        for i, curve in enumerate(outcome.critic):
            label = "critics" if i == 0 else None
            upper.plot(x, curve, color="tab:green", alpha=0.4, label=label)
        for i, method in enumerate(METHODS):
            a = np.asarray(outcome.actions[:, i])
            upper.plot(a, reward(a), "o", color=f"C{i}", label=method)
            lower.plot(np.full(len(a), i), reward(a), "o", color=f"C{i}", alpha=0.6)
        lower.axhline(reward(best), color="k", lw=0.8, ls=":")
        lower.text(-0.4, 0.76, "best of the data", va="bottom", fontsize=8)
        lower.set_xticks(range(len(METHODS)), METHODS)
        upper.set(title=name.replace("_", " "), xlabel="action", ylim=(-0.5, 2.5))
        upper.set_xticks(np.linspace(-1, 1, 5))
        lower.set(ylabel="reward", xlim=(-0.5, 3.5), ylim=(0, 1.05))
    axes[0, 0].legend(fontsize=8, loc="upper left")
    figure.savefig(path, dpi=150)


def main(argv: list[str]) -> None:
    """Runs both kinds of data, prints rewards, writes rewards.csv and toy.png."""
    del argv
    seeds, out = flags.FLAGS.num_seeds, Path(flags.FLAGS.out)
    if seeds < 1:
        raise UserError(f"num_seeds={seeds}: at least one seed is needed.")
    outcomes = {
        name: jax.tree.map(np.asarray, run(seeds, name == "two_sided"))
        for name in ("one_sided", "two_sided")
    }
    rows = []
    for name, outcome in outcomes.items():
        for i, method in enumerate(METHODS):
            actions = outcome.actions[:, i]
            for seed, action in enumerate(actions):
                row = f"{action:.6f}", f"{reward(action):.6f}"
                rows.append((name, method, seed, *row))
            rewards = reward(actions)
            print(
                f"{name:10} {method}  reward {rewards.mean():.3f} "
                f"[{rewards.min():.3f}, {rewards.max():.3f}]"
            )
    header = ("data", "method", "seed", "action", "reward")
    write_csv(out / "rewards.csv", header, rows)
    plot(outcomes, out / "toy.png")
    print(f"wrote {out / 'rewards.csv'} and {out / 'toy.png'}")


if __name__ == "__main__":
    flags.DEFINE_integer("num_seeds", 5, "Number of seeds.")
    flags.DEFINE_string("out", "runs/action_gradient/toy", "Folder to write to.")
    cli.run(main)
