"""Evaluate a finished run again: more episodes, another operator, grids of settings.

python -m experiments.evaluate --run=runs/cfpi/… --grid=log_tau=0,0.5,1.0
python -m experiments.evaluate --run=runs/ebcq/… --grid=n=2,5,10,20,50,100
python -m experiments.evaluate --run=runs/cfpi_ensemble/… --grid=active_size=1,2,5,10

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

from experiments import cli

_RUN = flags.DEFINE_string("run", None, "Folder of a finished run.")
_IMPROVE = flags.DEFINE_string("improve", None, "Operator in place of the run's own.")
_CRITIC_RUN = flags.DEFINE_string(
    "critic_run", None, "Take the critic from this run (same dataset and seeds)."
)
_GRID = flags.DEFINE_multi_string(
    "grid", [], "NAME=VALUE,VALUE… of what acting reads; repeat for a product."
)
_EPISODES = flags.DEFINE_integer("eval_episodes", 100, "Episodes per seed and value.")
_EVAL_SEED = flags.DEFINE_integer("eval_seed", 0, "Which set of evaluation episodes.")
_RENDER = flags.DEFINE_integer(
    "render", 0, "Videos of each variant's first episodes, into the run's videos/."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of the datasets.")
_DEVICES = flags.DEFINE_integer("host_devices", None, "CPU devices; one per core.")


def main(argv: list[str]) -> None:
    """Evaluates, and prints a line per variant."""
    del argv
    from offjax.devices.layout import prepare_host_devices
    from offjax.errors import UserError
    from offjax.runner.records import EVALUATIONS
    from offjax.runner.reevaluate import reevaluate

    max_devices = prepare_host_devices(_DEVICES.value)
    if not _RUN.value:
        raise UserError("--run is missing: the folder of a finished run.")
    for variant, scores, returns in reevaluate(
        _RUN.value,
        improve=_IMPROVE.value,
        critic_run=_CRITIC_RUN.value,
        grid=cli.parse_grid(_GRID.value),
        episodes=_EPISODES.value,
        eval_seed=_EVAL_SEED.value,
        data_dir=_DATA_DIR.value,
        max_devices=max_devices,
        videos=_RENDER.value,
    ):
        print(
            f"{variant}  score {scores.mean():.2f} ± {scores.std():.2f} "
            f"[{scores.min():.2f}, {scores.max():.2f}]  return {returns.mean():.4g}  "
            f"({len(scores)} seeds)",
            flush=True,
        )
    print(f"recorded in {Path(_RUN.value) / EVALUATIONS}")


if __name__ == "__main__":
    cli.run(main)
