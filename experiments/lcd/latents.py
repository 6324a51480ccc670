"""Planned beside real latents: figures 4.11 and 4.12, with numbers.

    python -m experiments.lcd.latents --run=runs/…/lcd/…
        [--seed=0] [--count=500] [--data_dir=FOLDER]
        [--out=docs/results/lcd_latents.png]

Takes described windows of the run's own data, plans from the first latent of each under
its sentence, and compares the planned next latent with the one that was recorded. The
figure shows both on the first two principal components of the real ones; printed are

    error        mean squared distance of the planned latent to the recorded one
    persistence  that of predicting no change, to compare with
    off          mean distance of a planned latent to the nearest recorded one
    real         mean distance of a recorded latent to the nearest other one
    cube 0, …    how far a cube's place, read off the latents of 10,000 recorded states,
                 is from where it was, m; beside it how far the mean place is (rms)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from offjax.cli import command as cli
from offjax.datasets.text import Text
from offjax.envs.scene import decode, get
from offjax.errors import UserError
from offjax.evaluation.scene import name_of
from offjax.methods.goals import LanguageActor
from offjax.methods.planning import plan_rows
from offjax.methods.plans import PlanBatch, latents_of
from offjax.types import Params

if TYPE_CHECKING:
    from offjax.runner.run import Run

FLAGS = flags.FLAGS
FEATURES = 800


class Latents(NamedTuple):
    """Latents of n windows, [n, Z] each."""

    present: np.ndarray
    recorded: np.ndarray
    planned: np.ndarray


class Windows(NamedTuple):
    """Recorded plans of one seed's planner, and what acts with it."""

    params: Params
    plans: PlanBatch  # of n windows
    latent_dim: int  # Z


def windows(run: Run, seed: int, count: int) -> Windows:
    """`count` recorded plans of a run's data, in the latents of one seed.

    Raises:
      UserError: the run has no planner, or not that seed.
    """
    training = run.training
    stage = next((s for s in training.job.recipe.stages if s.name == "planner"), None)
    seeds = training.options.seeds
    if stage is None or seed not in seeds:
        raise UserError(
            f"{run.path} has no planner of seed {seed}: its seeds are {seeds}, and "
            "runs of lcd, lcd_code, lcd_thesis, lcd_hulc, lcd_mlp and diffuser have "
            "planners."
        )
    _, params = run.evaluator.acting_slots()
    slot = seeds.index(seed)
    params = jax.tree.map(lambda x: jnp.asarray(x[slot]), params)
    actor = run.evaluator.agent().actor
    assert isinstance(actor, LanguageActor)
    upstream = {actor.stage: params.models[actor.stage]}
    data = stage.view.arrays(training.dataset, stage.config, upstream)
    data = jax.tree.map(jnp.asarray, data)
    config = dataclasses.replace(stage.config, batch_size=count)
    plans = stage.view.sample(data, jax.random.PRNGKey(seed), config)
    return Windows(params, plans, data.states.shape[-1])


def collect(run: Run, seed: int, count: int) -> Latents:
    """Plans from `count` windows of a run's data with one seed's planner.

    Raises:
      UserError: as of `windows`.
    """
    params, (plans, tokens, mask), dim = windows(run, seed, count)
    key = jax.random.PRNGKey(seed)
    moves = plans.shape[-1] - dim

    def following(rows: jax.Array) -> jax.Array:
        return rows[0, :dim] if moves == dim else rows[min(1, len(rows) - 1), moves:]

    @jax.jit
    def plan(present: jax.Array, tokens: jax.Array, mask: jax.Array, i: jax.Array):
        text = Text(tokens, mask, jnp.zeros(tokens.shape[-1]))
        step = jax.random.fold_in(key, i)
        return following(plan_rows(params, present, text, step))

    present = plans[:, 0, moves:]
    planned = jax.vmap(plan)(present, tokens, mask, jnp.arange(count))
    recorded = jax.vmap(following)(plans)
    return Latents(*(np.asarray(x) for x in (present, recorded, planned)))


def readable(latents: np.ndarray, places: np.ndarray) -> tuple[float, float]:
    """Rms errors of places [n, D] that are read off latents [n, Z], and of their mean.

    By ridge regression on random rectified features, fitted to four fifths of the rows,
    measured on the others.
    """
    rng = np.random.default_rng(0)
    scaled = (latents - latents.mean(0)) / (latents.std(0) + 1e-6)
    weights = rng.normal(size=(scaled.shape[1], FEATURES)) / scaled.shape[1] ** 0.5
    hidden = np.maximum(scaled @ weights + rng.normal(size=FEATURES), 0)
    features = np.concatenate([scaled, hidden, np.ones((len(scaled), 1))], axis=1)
    fit, test = np.split(np.arange(len(places)), [4 * len(places) // 5])
    mean = places[fit].mean(0)
    gram = features[fit].T @ features[fit] + 0.1 * np.eye(features.shape[1])
    solved = np.linalg.solve(gram, features[fit].T @ (places[fit] - mean))
    error = features[test] @ solved + mean - places[test]
    both = (error, places[test] - mean)
    return tuple(float(np.sqrt((e**2).sum(1).mean())) for e in both)  # type: ignore


def cubes(run: Run, seed: int, count: int = 10_000) -> dict[str, tuple[float, float]]:
    """`readable` for every cube of the scene, on the plane of the table."""
    dataset = run.training.dataset
    assert dataset.spec is not None
    scene = get(name_of(dataset.spec))
    _, params = run.evaluator.acting_slots()
    actor = run.evaluator.agent().actor
    assert isinstance(actor, LanguageActor)
    slot = run.training.options.seeds.index(seed)
    encoder = jax.tree.map(lambda x: x[slot], params.models[actor.stage])
    rows = np.random.default_rng(seed).permutation(len(dataset))[:count]
    observations = dataset.observations[rows]
    latents = latents_of(encoder, observations)
    places = decode(scene, observations).cubes[..., :2]
    return {
        f"cube {i}": readable(latents, places[:, i]) for i in range(places.shape[1])
    }


def nearest(points: np.ndarray, others: np.ndarray, skip_self: bool) -> float:
    """Mean distance of points [n, Z] to the nearest of others [m, Z]."""
    squares = (points**2).sum(1)[:, None] + (others**2).sum(1) - 2 * points @ others.T
    if skip_self:
        np.fill_diagonal(squares, np.inf)
    return float(np.sqrt(np.maximum(squares.min(1), 0)).mean())


def numbers(latents: Latents) -> dict[str, float]:
    """What the command prints."""
    present, recorded, planned = latents
    return {
        "error": float(((planned - recorded) ** 2).sum(1).mean()),
        "persistence": float(((present - recorded) ** 2).sum(1).mean()),
        "off": nearest(planned, recorded, skip_self=False),
        "real": nearest(recorded, recorded, skip_self=True),
    }


def components(real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [Z] and first two principal directions [Z, 2] of real latents [n, Z]."""
    mean = real.mean(0)
    return mean, np.linalg.svd(real - mean, full_matrices=False)[2][:2].T


def draw(latents: Latents, path: Path) -> None:
    """Both clouds on the principal components of the real one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    mean, directions = components(latents.recorded)
    figure, axis = pyplot.subplots(figsize=(5.5, 4.5), layout="constrained")
    for name, color in (("recorded", "0.6"), ("planned", "tab:blue")):
        x, y = ((getattr(latents, name) - mean) @ directions).T
        axis.scatter(x, y, s=8, c=color, label=name, linewidths=0)
    axis.set(xlabel="first component", ylabel="second component")
    axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("run", None, "Folder of a finished run with a planner.")
    flags.DEFINE_integer("seed", 0, "Which seed's planner.")
    flags.DEFINE_integer("count", 500, "Number of windows.")
    flags.DEFINE_string("data_dir", None, "Root of the datasets.")
    flags.DEFINE_string("out", "docs/results/lcd_latents.png", "Where the figure goes.")


def main(_: list[str]) -> None:
    """Prints the numbers and draws the figure."""
    from offjax.catalog.load import load_dataset
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.run import finished, load_run

    if not FLAGS.run:
        raise UserError("--run is missing: name the folder of a finished run.")
    prepare_host_devices(None)
    name = finished(FLAGS.run).config["dataset"]
    run = load_run(FLAGS.run, load_dataset(name, FLAGS.data_dir))
    latents = collect(run, FLAGS.seed, FLAGS.count)
    for name, value in numbers(latents).items():
        print(f"{name:12} {value:.4f}")
    for name, (error, spread) in cubes(run, FLAGS.seed).items():
        print(f"{name:12} {error:.3f} m, its mean {spread:.3f} m")
    draw(latents, Path(FLAGS.out))
    print(f"figure: {FLAGS.out}")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
