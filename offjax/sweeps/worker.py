"""One job of a sweep in a process of its own: `python -m offjax.sweeps.worker FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from offjax.errors import UserError
from offjax.sweeps.plan import Job


def main(path: str) -> int:
    """Runs, or goes on with, the job in the file `path`; the exit code.

    2: bad input, which another try will not mend; 143: stopped by SIGTERM, saved.
    """
    from offjax.datasets.load import load_dataset
    from offjax.runner import interrupts
    from offjax.runner.devices import prepare_host_devices
    from offjax.runner.options import Options
    from offjax.runner.train import Trainer, make_jobs

    interrupts.listen()
    content = json.loads(Path(path).read_text())
    job, place = Job.from_json(json.dumps(content["job"])), content["place"]
    try:
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
        trainer = Trainer(mine, job.method, job.preset, dataset, options)
        if trainer.hash != job.hash:
            raise UserError(
                f"{job.label} is another configuration here than where the sweep was "
                "planned: the code or the dataset differs."
            )
        print(f"run: {trainer.run().path}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
