"""A job of a sweep, or a team of them, in this process.

Also as `python -m offjax.sweeps.worker FILE`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offjax.errors import UserError
from offjax.sweeps.plan import Job, Team

if TYPE_CHECKING:
    from offjax.runner.options import Options
    from offjax.runner.training import Training


def run(team: Team, place: Mapping[str, Any]) -> list[Path]:
    """Runs, or goes on with, jobs in this process, together; their folders.

    Args:
      team: what to train; jobs that differ in nothing but the dataset.
      place: fields of `offjax.sweeps.engine.Place`.

    Raises:
      UserError: bad input, or a job that is another one here than where it was planned.
    """
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.options import Options
    from offjax.runner.train import train_together

    devices = prepare_host_devices(place.get("host_devices"))
    options = Options(
        **team[0].options,
        runs_dir=place["runs_dir"],
        sweep=place["sweep"],
        max_devices=devices,
        resume=True,
    )
    planned = [_planned(job, options, place.get("data_dir")) for job in team]
    return [folder.path for folder in train_together(planned)]


def _planned(job: Job, options: Options, data_dir: str | None) -> Training:
    from offjax.catalog.load import load_dataset
    from offjax.runner.training import Training, make_jobs

    dataset = load_dataset(job.dataset, data_dir)
    (mine,) = make_jobs(job.method, job.preset, dataset, job.overrides)
    training = Training.of(mine, job.method, job.preset, dataset, options)
    if training.hash != job.hash:
        raise UserError(
            f"{job.label} is another configuration here than where the sweep was "
            "planned: the code or the dataset differs."
        )
    return training


def main(file: str) -> int:
    """Runs the jobs in `file`; the exit code.

    2: bad input, which another try will not mend; 143: stopped by SIGTERM, saved.
    """
    from offjax.runner import interrupts

    interrupts.listen()
    content = json.loads(Path(file).read_text())
    team = tuple(Job.from_json(job) for job in content["jobs"])
    try:
        for path in run(team, content["place"]):
            print(f"run: {path}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
