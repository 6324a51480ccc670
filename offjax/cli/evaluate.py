"""Evaluates a finished run again: more episodes, another operator, grids of settings.

    offjax evaluate latest --render=2
    offjax evaluate latest:cfpi --grid=log_tau=0,0.5,1.0
    offjax evaluate --run=runs/ebcq/… --grid=n=2,5,10,20,50,100
    offjax evaluate --run=runs/cfpi_ensemble/… --grid=active_size=1,2,5,10

Nothing is trained: all values × seeds × episodes run in one batch (one for each value
of a setting that shapes the program). What the run recorded stays as it is: every
evaluation is a record of its own in the run's evaluations/. The leaderboard shows those
of other operators and settings as variants. A grid may set what acting alone reads: the
operator's settings, and of a SARSA critic how many members count (active_size) and
their pessimism (lower_bound_beta).
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from offjax.cli import command as cli

FLAGS = flags.FLAGS
POSITIONAL = "run"


def define_flags() -> None:
    """The command's flags."""
    cli.define_evaluated_run()
    flags.DEFINE_integer("eval_episodes", 100, "Episodes per seed and value.")
    flags.DEFINE_integer("eval_seed", 0, "Which set of evaluation episodes.")
    flags.DEFINE_integer(
        "render", 0, "Videos of each variant's first episodes, into the run's videos/."
    )
    cli.define_data_dir()
    cli.define_host_devices()


def main(argv: list[str]) -> None:
    """Evaluates, and prints a line per variant."""
    del argv
    from offjax.devices.layout import prepare_host_devices
    from offjax.errors import UserError
    from offjax.runner.records import EVALUATIONS
    from offjax.runner.reevaluate import reevaluate

    max_devices = prepare_host_devices(FLAGS.host_devices)
    grid = cli.parse_grid(FLAGS.grid)
    run = cli.find_run("run")
    if not run:
        raise UserError("--run is missing: a finished run, such as `latest`.")
    for variant, scores, returns in reevaluate(
        run,
        improve=FLAGS.improve,
        critic_run=cli.find_run("critic_run"),
        grid=grid,
        episodes=FLAGS.eval_episodes,
        eval_seed=FLAGS.eval_seed,
        data_dir=FLAGS.data_dir,
        max_devices=max_devices,
        videos=FLAGS.render,
    ):
        print(
            f"{variant}  score {scores.mean():.2f} ± {scores.std():.2f} "
            f"[{scores.min():.2f}, {scores.max():.2f}]  return {returns.mean():.4g}  "
            f"({len(scores)} seeds)",
            flush=True,
        )
    print(f"recorded in {Path(run) / EVALUATIONS}")
