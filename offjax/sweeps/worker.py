"""One job of a sweep, here or as `python -m offjax.sweeps.worker FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offjax.errors import UserError
from offjax.sweeps.plan import Job


def run(job: Job, place: Mapping[str, Any]) -> Path:
    """Runs, or goes on with, a job in this process; its folder.

    Args:
      job: what to train.
      place: fields of `offjax.sweeps.engine.Place`.

    Raises:
      UserError: bad input, or a job that is another one here than where it was planned.
    """
    from offjax.catalog.load import load_dataset
    from offjax.devices.layout import prepare_host_devices
    from offjax.runner.options import Options
    from offjax.runner.train import train
    from offjax.runner.training import Training, make_jobs

    devices = prepare_host_devices(place.get("host_devices"))
    dataset = load_dataset(job.dataset, place.get("data_dir"))
    options = Options(
        **job.options,
        runs_dir=place["runs_dir"],
        sweep=place["sweep"],
        max_devices=devices,
        resume=True,
    )
    (mine,) = make_jobs(job.method, job.preset, dataset, job.overrides)
    training = Training.of(mine, job.method, job.preset, dataset, options)
    if training.hash != job.hash:
        raise UserError(
            f"{job.label} is another configuration here than where the sweep was "
            "planned: the code or the dataset differs."
        )
    return train(training).path


def main(path: str) -> int:
    """Runs the job in the file `path`; the exit code.

    2: bad input, which another try will not mend; 143: stopped by SIGTERM, saved.
    """
    from offjax.runner import interrupts

    interrupts.listen()
    content = json.loads(Path(path).read_text())
    job, place = Job.from_json(content["job"]), content["place"]
    try:
        print(f"run: {run(job, place)}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
