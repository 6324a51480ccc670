"""Action Gradient's step size η × number of steps n, from one trained run.

    python -m experiments.action_gradient.surface --run=runs/reinformer_ag/…
        [--step_sizes=0.003,0.01,0.03,0.1] [--ascent_steps=1,3,5,10,20]
        [--optimizers=sgd,momentum,…] [--choose] [--out=FOLDER]

Nothing is trained. All η × n × seeds × episodes of an optimizer are one program, which
runs the longest ascent and hides the steps beyond each n; the policy alone (n = 0)
stands beside. The scores are those of tuning episodes (`--tune_seed`); `--choose` takes
the best setting of them, the policy alone among them, and reports it and n = 0 on other
episodes (`--eval_seed`), recorded in the run's evaluations/. The published tables show
the best of several variants on the episodes on which it was found.

Writes surface.csv, and surface.png with one map per optimizer, to `--out` (by default
the run's folder).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.tables import write_csv
from offjax.cli import command as cli
from offjax.errors import UserError

FLAGS = flags.FLAGS
HEADER = ("variant", "optimizer", "step_size", "ascent_steps", "seed", "score")


@dataclasses.dataclass(frozen=True)
class Point:
    """One setting of the operator, and its score of every seed."""

    variant: str  # what else differs between a run's variants
    optimizer: str
    step_size: float
    ascent_steps: int
    seeds: Sequence[int]
    scores: np.ndarray  # [seeds]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(self.scores.mean())

    @property
    def grid(self) -> dict[str, tuple[Any, ...]]:
        """The setting as `offjax.runner.reevaluate` takes it."""
        if self.ascent_steps == 0:
            return {"ascent_steps": (0,)}
        return {
            "optimizer": (self.optimizer,),
            "step_size": (self.step_size,),
            "ascent_steps": (self.ascent_steps,),
        }


def evaluate(
    path: str | Path,
    grid: Mapping[str, Sequence[Any]],
    episodes: int,
    eval_seed: int,
    data_dir: str | None = None,
    max_devices: int = 0,
) -> list[Point]:
    """Scores of a grid of a finished run's operator; its records stay as they are.

    Raises:
      UserError: an unfinished run, or one that acts without Action Gradient.
    """
    from offjax.catalog.load import load_dataset
    from offjax.runner.evaluator import Evaluator
    from offjax.runner.reevaluate import plan
    from offjax.runner.run import finished, options_of
    from offjax.runner.training import Training

    folder = finished(path)
    config = folder.config
    if (config["improve"] or {}).get("operator") != "action_gradient":
        raise UserError(
            f"{path} does not act with Action Gradient: take a run of dt_ag, "
            "reinformer_ag, or of --method=compose --improve=action_gradient."
        )
    dataset = load_dataset(config["dataset"], data_dir)
    options = options_of(folder, max_devices)
    points = []
    for job in plan(folder, dataset, options, grid=grid):
        method, preset = config["method"], config["preset"]
        training = Training.of(job, method, preset, dataset, options)
        training.load_states(folder.record["stages"])
        evaluator = Evaluator(training)
        if not evaluator.possible:
            raise UserError(f"{path} cannot be evaluated: {evaluator.missing}")
        assert dataset.spec is not None and job.recipe.improve is not None
        returns, _ = evaluator.rollout(episodes, eval_seed)
        scores = dataset.spec.score(returns).mean(-1)
        for setting, mine in zip(job.settings, scores, strict=True):
            values = setting.of("improve")
            operator = dataclasses.replace(job.recipe.improve.config, **values)
            steps = int(min(operator.ascent_steps, operator.active_steps))
            others = [
                part
                for part in setting.variant.split(",")
                if part.partition("=")[0] not in HEADER
            ]
            points.append(
                Point(
                    ",".join(others),
                    operator.optimizer,
                    float(operator.step_size),
                    steps,
                    options.seeds,
                    mine,
                )
            )
    return points


def surface(
    path: str | Path,
    step_sizes: Sequence[float],
    ascent_steps: Sequence[int],
    optimizers: Sequence[str],
    episodes: int,
    eval_seed: int,
    **options: Any,
) -> list[Point]:
    """The policy alone first, then every optimizer × step size × number of steps."""
    alone = evaluate(path, {"ascent_steps": (0,)}, episodes, eval_seed, **options)
    grid = {
        "optimizer": tuple(optimizers),
        "step_size": tuple(step_sizes),
        "ascent_steps": tuple(n for n in ascent_steps if n > 0),
    }
    return alone + evaluate(path, grid, episodes, eval_seed, **options)


def choose(points: Sequence[Point]) -> Point:
    """The setting with the greatest mean score; of equal ones the first."""
    return max(points, key=lambda point: point.mean)


def write(points: Sequence[Point], path: Path) -> None:
    """A row per setting and seed."""
    rows = []
    for p in points:
        setting = (p.variant, p.optimizer, f"{p.step_size:g}", p.ascent_steps)
        each = zip(p.seeds, p.scores, strict=True)
        rows += [(*setting, seed, f"{score:.6g}") for seed, score in each]
    write_csv(path, HEADER, rows)


def plot(points: Sequence[Point], path: Path) -> None:
    """Mean score over η and n, one map per optimizer, as differences from n = 0."""
    from matplotlib.figure import Figure

    alone = points[0].mean
    moved = [p for p in points if p.ascent_steps > 0 and p.variant == points[0].variant]
    optimizers = list(dict.fromkeys(p.optimizer for p in moved))
    sizes = sorted({p.step_size for p in moved})
    steps = sorted({p.ascent_steps for p in moved})
    limit = max(abs(p.mean - alone) for p in moved) or 1.0
    width = 1.2 + 0.6 * len(steps)
    figure = Figure(figsize=(width * len(optimizers) + 1, 3.2), layout="constrained")
    axes = figure.subplots(1, len(optimizers), squeeze=False, sharey=True)[0]
    for ax, optimizer in zip(axes, optimizers, strict=True):
        table = np.full((len(sizes), len(steps)), np.nan)
        for p in moved:
            if p.optimizer == optimizer:
                place = sizes.index(p.step_size), steps.index(p.ascent_steps)
                table[place] = p.mean
                ink = "white" if abs(p.mean - alone) > 0.6 * limit else "black"
                where = {"ha": "center", "va": "center", "color": ink}
                ax.text(place[1], place[0], f"{p.mean:.0f}", **where)
        image = ax.imshow(
            table - alone, cmap="RdBu", vmin=-limit, vmax=limit, origin="lower"
        )
        ax.set(title=optimizer, xlabel="n", xticks=range(len(steps)))
        ax.set_xticklabels([str(n) for n in steps])
    axes[0].set(ylabel="η", yticks=range(len(sizes)))
    axes[0].set_yticklabels([f"{size:g}" for size in sizes])
    figure.colorbar(image, ax=list(axes), label="score minus that of n = 0")
    figure.suptitle(f"mean score of {len(points[0].scores)} seeds; n = 0: {alone:.1f}")
    figure.savefig(path, dpi=150)


def report(best: Point, data_dir: str | None, max_devices: int) -> None:
    """Prints the chosen setting and the policy alone on the reported episodes."""
    from offjax.runner.reevaluate import reevaluate

    found: dict[str, np.ndarray] = {}
    for name, grid in (("n = 0", {"ascent_steps": (0,)}), ("chosen", best.grid)):
        for variant, scores, _ in reevaluate(
            FLAGS.run,
            grid=grid,
            episodes=FLAGS.eval_episodes,
            eval_seed=FLAGS.eval_seed,
            data_dir=data_dir,
            max_devices=max_devices,
        ):
            print(f"{name:7} {variant}  score {scores.mean():.2f} ± {scores.std():.2f}")
            found.setdefault(name, scores)
    gain = found["chosen"] - found["n = 0"]
    print(
        f"chosen minus n = 0, seed by seed: {gain.mean():+.2f} "
        f"[{gain.min():+.2f}, {gain.max():+.2f}]"
    )


def define_flags() -> None:
    """The command's flags; not at import, where commands' names would collide."""
    flags.DEFINE_string("run", None, "Folder of a finished run.")
    flags.DEFINE_list("step_sizes", ["0.003", "0.01", "0.03", "0.1"], "Values of η.")
    flags.DEFINE_list("ascent_steps", ["1", "3", "5", "10", "20"], "Values of n.")
    flags.DEFINE_list("optimizers", ["sgd"], "Optimizers, or `all`.")
    flags.DEFINE_integer("eval_episodes", 20, "Episodes per seed and setting.")
    flags.DEFINE_integer("tune_seed", 1000, "Set of the tuning episodes.")
    flags.DEFINE_integer("eval_seed", 0, "Set of the reported episodes.")
    flags.DEFINE_bool("choose", False, "Report the best setting on other episodes.")
    flags.DEFINE_string("out", None, "Folder to write to; by default the run's.")
    flags.DEFINE_string("data_dir", None, "Root of the datasets.")
    flags.DEFINE_integer("host_devices", None, "CPU devices; one per core.")


def _numbers(name: str, kind: type, least: float) -> list[Any]:
    try:
        values = [kind(text) for text in FLAGS[name].value or ()]
    except ValueError as error:
        raise UserError(f"--{name}: {error}.") from None
    if not values or min(values) < least:
        raise UserError(
            f"--{name}={FLAGS[name].value}: values must be at least {least}."
        )
    return values


def main(argv: list[str]) -> None:
    """Evaluates the grid, draws it, and chooses."""
    del argv
    from offjax.devices.layout import prepare_host_devices
    from offjax.improvement.action_gradient import OPTIMIZERS

    max_devices = prepare_host_devices(FLAGS.host_devices)
    if not FLAGS.run:
        raise UserError("--run is missing: the folder of a finished run.")
    if FLAGS.tune_seed == FLAGS.eval_seed:
        raise UserError(
            f"--tune_seed and --eval_seed are both {FLAGS.eval_seed}: a setting must "
            "be chosen on other episodes than those it is reported on."
        )
    optimizers = OPTIMIZERS if FLAGS.optimizers == ["all"] else FLAGS.optimizers
    points = surface(
        FLAGS.run,
        _numbers("step_sizes", float, 1e-12),
        _numbers("ascent_steps", int, 1),
        optimizers,
        FLAGS.eval_episodes,
        FLAGS.tune_seed,
        data_dir=FLAGS.data_dir,
        max_devices=max_devices,
    )
    for p in points:
        setting = f"{p.optimizer} η={p.step_size:g} n={p.ascent_steps}"
        label = "n=0" if p.ascent_steps == 0 else setting
        print(f"{label:28} score {p.mean:7.2f} ± {p.scores.std():.2f}  {p.variant}")
    out = Path(FLAGS.out or FLAGS.run)
    out.mkdir(parents=True, exist_ok=True)
    write(points, out / "surface.csv")
    plot(points, out / "surface.png")
    print(f"wrote {out / 'surface.csv'} and {out / 'surface.png'}")
    if FLAGS.choose:
        report(choose(points), FLAGS.data_dir, max_devices)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
