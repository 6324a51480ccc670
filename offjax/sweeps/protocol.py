"""The runs of a tuning: trials on tuning seeds, final runs on others.

Every run is a job in a process of its own. What is finished is kept, so that the same
command goes on where it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from offjax.catalog.load import load_dataset
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.evaluation import environments
from offjax.runner import interrupts
from offjax.sweeps import local, plan, tuning
from offjax.sweeps.engine import Place, cores_each


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How methods are tuned and measured.

    Trials lie in <runs_dir>/tuning/<name>/, out of the leaderboard's sight; final runs
    in <runs_dir>.

    Attributes:
      name: for the records.
      runs_dir: the run store.
      data_dir: root of the datasets, None for the default.
      preset: of all recipes.
      num_steps: updates of every stage; 0: the preset's.
      num_seeds: final seeds, from 0 on.
      tune_seeds: tuning seeds, from `tune_seed` on.
      tune_seed: first tuning seed.
      eval_episodes: per seed.
      max_parallel: jobs side by side.
    """

    name: str
    runs_dir: str = "runs"
    data_dir: str | None = None
    preset: str = "small"
    num_steps: int = 0
    num_seeds: int = 5
    tune_seeds: int = 2
    tune_seed: int = 1000
    eval_episodes: int = 20
    max_parallel: int = 1

    def store(self, final: bool) -> Path:
        """The run store of trials, or of final runs."""
        root = Path(self.runs_dir).resolve()
        return root if final else root / "tuning" / self.name

    def jobs(
        self, method: str, dataset: str, values: Mapping[str, tuple], final: bool
    ) -> list[plan.Job]:
        """A method on a dataset with all combinations of values, as jobs.

        Raises:
          UserError: unknown names, or a dataset without an environment.
        """
        seeds = (self.num_seeds, 0) if final else (self.tune_seeds, self.tune_seed)
        options = {
            "num_seeds": seeds[0],
            "seed": seeds[1],
            "eval_episodes": self.eval_episodes,
            "eval_seed": 0 if final else 1,
        }
        if self.num_steps:
            values = {"num_steps": (self.num_steps,), **values}
        entry = plan.Entry((method,), (dataset,), self.preset, values, options)
        return plan.expand([entry], self._load, self.name)

    def _load(self, name: str) -> Dataset:
        dataset = load_dataset(name, self.data_dir)
        problem = environments.missing(dataset.spec)
        if problem is not None:
            raise UserError(
                f"Tuning needs scores, and policies cannot be evaluated on {name!r}: "
                f"{problem}. Leave it out, or make that work first."
            )
        return dataset

    def waiting(self, jobs: Sequence[plan.Job], final: bool) -> list[plan.Job]:
        """Those that are not finished."""
        store = self.store(final)
        return [j for j in jobs if plan.progress(j, store).status != "finished"]

    def run(self, jobs: Sequence[plan.Job], final: bool) -> list[Path]:
        """The folders of the jobs' runs; those that are not finished are trained.

        Raises:
          UserError: a job failed.
          Interrupted: the process was asked to stop.
        """
        store = self.store(final)
        devices = cores_each(self.max_parallel)
        place = Place(str(store), self.name, self.data_dir, devices)
        todo = self.waiting(jobs, final)
        outcomes = local.run(todo, place, lambda outcomes: None, self.max_parallel)
        if interrupts.requested():
            print("stopped; the same command goes on where it was")
            raise interrupts.Interrupted
        paths = []
        for job in jobs:
            now = plan.progress(job, store)
            if now.status != "finished" or now.path is None:
                reason = outcomes[job.hash].reason
                raise UserError(
                    f"{job.label} did not finish ({reason}; {place.log(job)}). Mend "
                    "it, and give the command again: what is finished is kept."
                )
            paths.append(now.path)
        return paths

    def record(
        self,
        dataset: str,
        method: str,
        trials: Sequence[tuning.Trial],
        final_score: float,
        search: str,
    ) -> None:
        """Adds what was spent on a method, and what came of it, to tuning.json."""
        fields: dict[str, Any] = {
            "search": search,
            "tuning_seeds": [self.tune_seed, self.tune_seeds],
            "final_seeds": [0, self.num_seeds],
        }
        path = self.store(final=False) / "tuning.json"
        tuning.record(path, dataset, method, trials, final_score, **fields)
