"""Learning curves and short videos of the packaged behavior policies.

    python -m experiments.behavior --curves=docs/results/behavior_curves.png
    python -m experiments.behavior --videos=docs/videos

The videos are deterministic episodes of each robot's medium and expert policy, 250
frames of each, with MuJoCo's renderer (`pip install 'offjax[render]'`).
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from offjax.behavior import packaging, policies, training
from offjax.catalog import collected
from offjax.cli import command as cli
from offjax.errors import UserError
from offjax.evaluation.render import RenderedEnv

ROLES = ("medium", "expert")

_ROBOTS = flags.DEFINE_list("robots", None, "Robots; by default all that there are.")
_CURVES = flags.DEFINE_string("curves", None, "Picture of the learning curves.")
_VIDEOS = flags.DEFINE_string("videos", None, "Folder of the videos.")


def main(argv: list[str]) -> None:
    """Makes what the flags name."""
    del argv
    if _CURVES.value is None and _VIDEOS.value is None:
        raise UserError("Name what to make: --curves=FILE.png or --videos=FOLDER.")
    robots = _ROBOTS.value or policies.packaged(1)
    unknown = [robot for robot in robots if robot not in collected.ROBOTS[1]]
    if unknown:
        raise UserError(
            f"--robots={','.join(unknown)}: there are {', '.join(collected.ROBOTS[1])}."
        )
    if not robots:
        raise UserError(
            "No robot's policies of version 1 are packaged: train some with "
            "`python -m experiments.train_behavior`."
        )
    if _CURVES.value is not None:
        draw_curves(robots, Path(_CURVES.value))
    if _VIDEOS.value is not None:
        for robot in robots:
            for role in ROLES:
                film(robot, role, Path(_VIDEOS.value) / f"{robot}_{role}.mp4")


def film(robot: str, role: str, path: Path) -> None:
    """One deterministic episode of a packaged policy as a .mp4 file."""
    (actor,) = policies.for_role(robot, role, version=1)
    spec = policies.spec(robot)
    env = RenderedEnv(spec, [path])
    returns = policies.evaluate(actor, env, spec.horizon, packaging.REPORT_SEED)
    env.close()
    score = spec.score(returns)[0]
    print(f"wrote {path} ({path.stat().st_size / 1e3:.0f} kB, score {score:.1f})")


def draw_curves(robots: list[str], path: Path) -> None:
    """Scores of each training's snapshots over its steps, and the chosen ones."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(robots), 2.8), layout="constrained")
    axes = figure.subplots(1, len(robots), squeeze=False)[0]
    for axis, robot in zip(axes, robots, strict=True):
        chosen = policies.table(robot, 1)
        curve = training.read_table(policies.folder(1) / f"{robot}_curve.csv")
        steps = [int(row["env_steps"]) / 1e6 for row in curve]
        axis.plot(steps, [float(row["score"]) for row in curve], lw=1, color="0.4")
        for row in chosen:
            (point,) = axis.plot(
                int(row["env_steps"]) / 1e6, float(row["score"]), "o", ms=5
            )
            point.set_label(row["roles"])
        axis.set(title=robot, xlabel="million steps")
        axis.legend(frameon=False, fontsize=8)
    axes[0].set_ylabel("score")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
