"""The two bounds of I_MG in two dimensions, in the three cases that can arise.

    python -m experiments.cfpi.demo [--out=docs/results/cfpi_demo.png] [--log_tau=0.5]

A mixture of two Gaussians and a known critic. Each panel shows the density of the
behavior policy (lines), the critic (shades), the LSE candidates, the Jensen candidate
where it is feasible, and what I_MG picks. The same numbers are printed.

* distant modes: their precision-weighted mean has little density, the Jensen bound has
  no feasible point, and I_MG is the better LSE candidate;
* close modes, the critic's ridge between them: LSE steps spend themselves on reaching
  it and overshoot, Jensen's starts on it, climbs along it and wins;
* close modes, the critic rising to one side: both bounds are feasible, and the LSE
  candidate of the outer mode wins.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from absl import flags

from offjax.cli import command as cli
from offjax.distributions import mixture as mixture_of
from offjax.improvement import closed_form

FLAGS = flags.FLAGS

STD = 0.25
LOGITS = np.zeros(2, np.float32)


class Case(NamedTuple):
    """A behavior policy and a critic."""

    title: str
    means: np.ndarray  # [2, 2]
    q: Callable[[jax.Array], jax.Array]


def cases() -> list[Case]:
    """The three of them."""
    far = np.array([[-0.6, -0.2], [0.6, 0.2]], np.float32)
    near = np.array([[-0.14, 0.0], [0.14, 0.0]], np.float32)

    def ridge(a: jax.Array) -> jax.Array:
        return 2 * a[1] - 8 * a[0] ** 2

    def ramp(a: jax.Array) -> jax.Array:
        return a @ jnp.array([1.0, 0.6])

    def hills(a: jax.Array) -> jax.Array:
        tall = jnp.exp(-4 * jnp.sum((a - jnp.array([0.7, 0.7])) ** 2))
        low = 0.6 * jnp.exp(-4 * jnp.sum((a - jnp.array([-0.7, -0.6])) ** 2))
        return tall + low

    return [
        Case("distant modes", far, hills),
        Case("close modes, ridge between", near, ridge),
        Case("close modes, slope", near, ramp),
    ]


def solve(case: Case, log_tau: float) -> dict[str, np.ndarray]:
    """Candidates of both bounds, whether they are feasible, values and the choice."""
    variances = np.full((2, 2), STD**2, np.float32)
    problem = (LOGITS, case.means, variances)
    grads = jax.vmap(jax.grad(case.q))(jnp.asarray(case.means))
    lse, lse_feasible = closed_form.mixture_lse(*problem, grads, log_tau)
    jensen, feasible = closed_form.mixture_jensen(*problem, jax.grad(case.q), log_tau)
    choice = closed_form.mixture(*problem, case.q, log_tau)
    values = jax.vmap(case.q)(jnp.concatenate([lse, jensen[None], choice[None]]))
    arrays = {
        "lse": lse,
        "lse_feasible": lse_feasible,
        "jensen": jensen,
        "jensen_feasible": feasible,
        "choice": choice,
        "values": values,
    }
    return {name: np.asarray(array) for name, array in arrays.items()}


def report(case: Case, result: dict[str, np.ndarray]) -> list[str]:
    """One line per candidate: its bound, place and value."""

    def line(label: str, action: np.ndarray, value: float, note: str = "") -> str:
        place = f"({action[0]:+.3f}, {action[1]:+.3f})"
        return f"{case.title}: {label} at {place} value {value:+.4f}{note}"

    values = result["values"]
    lines = [line(f"LSE {i + 1}", result["lse"][i], values[i]) for i in range(2)]
    note = "" if result["jensen_feasible"] else ", infeasible"
    lines.append(line("Jensen", result["jensen"], values[2], note))
    return [*lines, line("I_MG", result["choice"], values[3])]


def draw(axis: Any, case: Case, result: dict[str, np.ndarray]) -> None:
    """One panel."""
    ticks = np.linspace(-1.1, 1.1, 121, dtype=np.float32)
    grid = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    zero, one = jnp.zeros(2), jnp.ones(2)
    stds = jnp.full((2, 2), STD)
    policy = mixture_of(jnp.asarray(LOGITS), jnp.asarray(case.means), stds, zero, one)
    density = np.exp(jax.vmap(policy.log_prob)(jnp.asarray(grid))).reshape(121, 121)
    values = np.asarray(jax.vmap(case.q)(jnp.asarray(grid))).reshape(121, 121)
    axis.contourf(ticks, ticks, values, 20, cmap="Blues", alpha=0.7)
    axis.contour(ticks, ticks, density, 6, colors="0.35", linewidths=0.7)
    axis.plot(*case.means.T, "k+", ms=9, label="means of the behavior")
    axis.plot(*result["lse"].T, "o", c="tab:orange", ms=7, label="LSE candidates")
    if result["jensen_feasible"]:
        axis.plot(*result["jensen"], "s", c="tab:green", ms=7, label="Jensen candidate")
    style = {"mfc": "none", "mec": "tab:red", "ms": 15, "mew": 1.8}
    axis.plot(*result["choice"], "o", **style, label="I_MG")
    axis.set(title=case.title, xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), aspect="equal")
    axis.set_xlabel("action 1")


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("out", "docs/results/cfpi_demo.png", "Where the figure goes.")
    flags.DEFINE_float("log_tau", 0.5, "Size of the trust region.")


def main(_: list[str]) -> None:
    """Prints the numbers and draws the figure."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    for axis, case in zip(axes, cases(), strict=True):
        result = solve(case, FLAGS.log_tau)
        print("\n".join(report(case, result)))
        draw(axis, case, result)
    axes[0].set_ylabel("action 2")
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    path = Path(FLAGS.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"figure: {path}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
