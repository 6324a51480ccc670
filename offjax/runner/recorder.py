"""What a run writes and says while it goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from offjax.devices import hosts
from offjax.devices.layout import Program
from offjax.errors import UserError
from offjax.runner import interrupts
from offjax.runner.checkpoints import Checkpoints
from offjax.runner.evaluator import Evaluator, Rows
from offjax.runner.progress import Progress
from offjax.runner.records import (
    HEADERS,
    SCHEMA,
    RunFolder,
    environment,
    processor,
    write_json,
)
from offjax.runner.sinks import Sink
from offjax.runner.sinks import make as make_sinks
from offjax.runner.stages import StageRun
from offjax.runner.training import Training
from offjax.types import Pytree


@dataclasses.dataclass
class Account:
    """Seconds and steps of a run."""

    start: str  # when the run first began
    earlier_seconds: float = 0.0  # spent before the newest interruption
    begun: float = dataclasses.field(default_factory=time.perf_counter)
    training_seconds: float = 0.0  # of chunks, without compiling
    compile_seconds: float = 0.0  # of training's programs
    evaluation_seconds: float = 0.0  # of waves; an evaluator counts its own
    seed_steps: int = 0  # updates of all slots
    compilations: dict[str, int] = dataclasses.field(default_factory=dict)  # by program

    @classmethod
    def begin(cls, record: Mapping[str, Any]) -> Account:
        """Of a new run, or of an interrupted one with its `record`."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(record.get("start", now), record.get("duration_seconds", 0.0))

    def compiled(self, name: str, program: Program) -> None:
        """Adds a program that was compiled now."""
        count = self.compilations.get(name, 0) + program.compilations
        self.compilations[name] = count
        self.compile_seconds += program.compile_seconds

    def trained(self, updates: int, num_slots: int, seconds: float) -> None:
        """Adds a chunk."""
        self.training_seconds += seconds
        self.seed_steps += updates * num_slots

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds what the record of a wave has."""
        seconds = record["training_seconds"]
        self.training_seconds += seconds
        self.seed_steps += round(record["seed_steps_per_second"] * seconds)
        self.compile_seconds += record["compile_seconds"]
        self.evaluation_seconds += record["evaluation_seconds"]
        for name, count in record["compilations"].items():
            self.compilations[name] = self.compilations.get(name, 0) + count

    def costs(self) -> dict[str, Any]:
        """Start, durations and rate."""
        duration = self.earlier_seconds + time.perf_counter() - self.begun
        rate = self.seed_steps / max(self.training_seconds, 1e-9)
        return {
            "start": self.start,
            "duration_seconds": round(duration, 3),
            "training_seconds": round(self.training_seconds, 3),
            "seed_steps_per_second": round(rate, 1),
        }


CARD = ("id", "identity", "rows", "episodes")
"""What run.json has of a dataset's card."""


@contextlib.contextmanager
def recording(
    training: Training,
    evaluator: Evaluator,
    folder: RunFolder,
    resumed: bool,
    progress: Progress,
    others: Sequence[str] = (),
) -> Iterator[Recorder]:
    """The recorder of a run: "running" inside, and what came of it after.

    The run is then "finished", "interrupted" or "failed". Runs that are trained
    together share a `progress`; `others` are the datasets of the others.
    """
    with folder.working():
        recorder = Recorder(training, evaluator, folder, resumed, progress, others)
        try:
            recorder.sinks = make_sinks(
                training.options.log, folder.path, training.config
            )
            yield recorder
            recorder.checkpoints.close()
            recorder.write("finished")
        except (interrupts.Interrupted, KeyboardInterrupt):
            recorder.write("interrupted")
            raise
        except Exception as error:
            text = str(error) if isinstance(error, UserError) else repr(error)
            with contextlib.suppress(UserError):  # a full disk refuses this, too
                recorder.write("failed", error=text[:500])
            raise
        finally:
            recorder.progress.close()
            for sink in recorder.sinks:
                sink.close()


class Recorder:
    """The open folder of a run: its records, checkpoints and progress line."""

    def __init__(
        self,
        training: Training,
        evaluator: Evaluator,
        folder: RunFolder,
        resumed: bool,
        progress: Progress,
        others: Sequence[str],
    ) -> None:
        self.folder, self.progress = folder, progress
        self._others = list(others)
        self._training, self._evaluator = training, evaluator
        progress.say(f"{progress.wave}{training.described()}, in {folder.path}")
        self.account = Account.begin(folder.record if resumed else {})
        self._environment = environment()
        self.sinks: list[Sink] = []
        self.write("running")
        self.checkpoints = Checkpoints(folder.path / "checkpoints")

    def write(self, status: str, **more: Any) -> None:
        """Writes run.json."""
        training, evaluator, account = self._training, self._evaluator, self.account
        dataset, stages = training.dataset, training.stages
        layout = stages[-1].layout
        compiling = account.compile_seconds + evaluator.compile_seconds
        evaluating = account.evaluation_seconds + evaluator.seconds
        evaluations = account.compilations.get("evaluation", 0) + evaluator.compilations
        record = {
            "schema": SCHEMA,
            "status": status,
            "variants": training.job.variants,
            "sweep": training.options.sweep,
            "seeds_at_once": training.options.at_once,
            "trained_with": self._others,
            "hosts": hosts.count(),
            "devices": {
                "platform": layout.devices[0].platform,
                "kind": layout.devices[0].device_kind,
                "count": layout.active,
            },
            "processor": processor(),
            "seed_layout": layout.kind,
            "dataset": {name: getattr(dataset.card, name) for name in CARD},
            "stages": {run.stage.name: run.key for run in stages},
            **account.costs(),
            "compile_seconds": round(compiling, 3),
            "compilations": account.compilations | {"evaluation": evaluations},
            "evaluation_seconds": round(evaluating, 3),
            "diverged": self._diverged(),
            "config_hash": training.hash,
            "total_steps": training.total_steps,
            "score_source": dataset.spec.score_source if dataset.spec else "",
            "evaluation_environment": evaluator.environment,
        }
        write_json(self.folder.path / "run.json", record | self._environment | more)

    def _diverged(self) -> list[dict[str, Any]]:
        """Seeds that were frozen, with their variant, stage and step."""
        training = self._training
        return [
            {
                "seed": run.slots.seeds[slot],
                "variant": variant,
                "stage": run.stage.name,
                "step": step,
            }
            for run in training.stages
            for slot, step in run.diverged
            for variant, first in zip(
                training.job.variants, run.slots.of_setting, strict=True
            )
            if first <= slot < first + training.options.num_seeds
        ]

    def restore_point(self) -> int:
        """Total step of the checkpoint to go on from; drops rows beyond it.

        Raises:
          UserError: the checkpoint is of another configuration.
        """
        step = hosts.agree(lambda: self.checkpoints.latest_step() or 0)
        if step:
            step = self.checkpoints.newest_whole(self.progress.say) or 0
        if step and self.checkpoints.meta(step).get("config_hash") != (
            self._training.hash
        ):
            raise UserError(
                f"the checkpoint {self.folder.path / 'checkpoints' / str(step)} was "
                "made by another configuration; remove it, or begin a new run."
            )
        self.folder.cut_back(step)
        total = self._training.total_steps
        self.progress.say(f"resumed {self.folder.path} at step {step:,} of {total:,}")
        return step

    def cut_back(self, step: int) -> None:
        """Drops rows and checkpoints beyond a total step."""
        self.folder.cut_back(step)
        self.checkpoints.drop_after(step)

    def diverged(self, run: StageRun, slots: np.ndarray, step: int) -> None:
        """Notes the slots [slots] bool that diverged before a total step."""
        for slot in np.flatnonzero(slots):
            run.diverged.append((int(slot), step))
            self.progress.say(
                f"seed {run.slots.seeds[slot]} diverged before step {step:,} in stage "
                f"{run.stage.name}: frozen at its last finite state"
            )

    def metrics(
        self, run: StageRun, values: dict[str, Any], alive: np.ndarray, step: int
    ) -> None:
        """Writes training metrics, [slots, …] each, of the slots that are alive."""
        training = self._training
        rows = []
        firsts = zip(training.job.variants, run.slots.of_setting, strict=True)
        for variant, first in firsts:
            for slot, seed in enumerate(training.options.seeds, start=first):
                if alive[slot]:
                    for name, value in values.items():
                        number = f"{float(np.mean(value[slot])):.8g}"
                        rows.append((step, seed, variant, name, number))
        self._append_metrics(rows)

    def _append_metrics(self, rows: list[tuple[Any, ...]]) -> None:
        self.folder.append("metrics.csv", rows)
        for sink in self.sinks:
            sink.write(rows)

    def join(self, tables: Mapping[str, list[tuple[str, ...]]]) -> None:
        """Writes the rows of all waves, by file, and hands them to the sinks."""
        for file, rows in tables.items():
            self.folder.rewrite(file, rows)
        metrics = [*tables["metrics.csv"], *_of_scores(tables["scores.csv"])]
        in_order = sorted(
            ((int(step), int(seed), *more) for step, seed, *more in metrics),
            key=lambda row: row[0],
        )
        for sink in self.sinks:
            sink.write(in_order)

    def evaluate(self, step: int) -> None:
        """Evaluates the states that the stages hold, and writes the scores."""
        found = None
        if self._evaluator.possible:
            self.progress.working("evaluating")
            found = self._evaluator.rows(self._training.method, step)
        self.scores(found, step)

    def scores(self, found: Rows | None, step: int) -> None:
        """Writes what an evaluation found; None: says why there was none."""
        if found is None:
            self.progress.say(f"no scores are recorded: {self._evaluator.missing}")
            return
        self._append_metrics(found.metrics)
        self.folder.append("episodes.csv", found.episodes)
        self.folder.append("scores.csv", found.scores)
        for sink in self.sinks:
            sink.write(_of_scores(found.scores))
        name, values = "score", found.values
        if np.isnan(values).all():  # no reference scores are known
            returns = [row["return_mean"] for row in map(_named, found.scores)]
            name, values = "return", np.reshape(np.array(returns, float), values.shape)
        self.progress.scores(values, step, name, self._training.dataset.card.id)

    def save(self, run: StageRun, step: int, tree: Pytree, window: int) -> None:
        """Begins to write a checkpoint at a total step.

        `tree` are NumPy arrays that nothing else changes; `window` counts the updates
        since the last end of a window.
        """
        meta = {
            "config_hash": self._training.hash,
            "diverged": run.diverged,
            "digests": run.digests,
            "window": window,
        }
        self.checkpoints.save(step, tree, meta)

    def restore(
        self, step: int, like: dict[str, Pytree]
    ) -> tuple[dict[str, Pytree], dict[str, Any]]:
        """What `save` wrote at a total step, as in `like`, and its meta."""
        meta = self.checkpoints.meta(step)
        if meta["window"]:
            like = like | {"kept": like["state"]}
        return self.checkpoints.restore(step, like), meta

    def stop(self, step: int) -> None:
        """Returns when the checkpoint of a run that was asked to stop is on disk."""
        self.progress.say(
            f"interrupted at step {step:,}: saved in {self.folder.path}; the same "
            "command with --resume goes on from there"
        )
        self.checkpoints.close()


def _named(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row of scores.csv by column."""
    return dict(zip(HEADERS["scores.csv"], row, strict=True))


def _of_scores(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows of scores.csv as metrics, for sinks; unknown scores are left out."""
    return [
        (row["step"], row["seed"], row["variant"], f"evaluation/{name}", row[column])
        for row in map(_named, rows)
        for name, column in (("return", "return_mean"), ("score", "score"))
        if np.isfinite(float(row[column]))
    ]
