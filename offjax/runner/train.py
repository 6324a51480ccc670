"""The loop of a run: stages, chunks, evaluations, checkpoints, records."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offjax import recipes
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.evaluation import environments
from offjax.runner import chunks, hosts, interrupts, locks, programs, settings, sinks
from offjax.runner.account import CARD, Account, diverged, place
from offjax.runner.checkpoints import Checkpoints, StageStore
from offjax.runner.chunks import Chunk
from offjax.runner.compilation import release_programs
from offjax.runner.evaluator import Evaluator
from offjax.runner.options import Options
from offjax.runner.profiles import profiled
from offjax.runner.progress import Progress
from offjax.runner.records import SCHEMA, RunFolder, digest, environment, write_json
from offjax.runner.resume import open_folder
from offjax.runner.schedule import Schedule
from offjax.runner.settings import Job
from offjax.runner.stages import (
    StageRun,
    context_of,
    plan_stages,
    prepare_data,
    resolve_config,
    template,
)
from offjax.types import Pytree

LOCK_SECONDS = 60.0
"""How long a sweep's job waits for a killed predecessor to be gone."""


def make_jobs(
    method: str, preset: str, dataset: Dataset, overrides: settings.Overrides
) -> list[Job]:
    """The recipe for a dataset, with overrides, as jobs."""
    recipe = recipes.build(method, dataset.spec, preset, dataset.card.id)
    prefix = "" if preset == "paper" else f"preset={preset}"
    return settings.expand(recipe, overrides, prefix)


class Trainer:
    """One job on its way: everything that its stages share."""

    def __init__(
        self, job: Job, method: str, preset: str, dataset: Dataset, options: Options
    ) -> None:
        options.validate()
        sinks.check(options.log)
        environments.require_known(dataset.spec)
        for stage in job.recipe.stages:
            for setting in job.settings:
                values = setting.of(stage.name)
                if hasattr(stage.algorithm, "validate"):
                    stage.algorithm.validate(
                        dataclasses.replace(stage.config, **values)
                    )
        if job.recipe.validate is not None:
            job.recipe.validate(job.recipe, dataset)
        self.job, self.dataset, self.options = job, dataset, options
        self.method = method
        self.config = resolve_config(job, method, preset, dataset, options)
        self.hash = digest(self.config)
        self.stages = plan_stages(job, dataset, options)
        self.store = StageStore(Path(options.runs_dir))
        self.evaluator = Evaluator(job, dataset, options, self.stages)

    def run(self) -> RunFolder:
        """Trains and evaluates all stages; the run's folder, finished.

        Raises:
          UserError: another process is at this very run, or the disk refuses.
          Interrupted: SIGTERM or SIGINT came, and the state is saved.
        """
        release_programs()
        with self._alone():
            return self._run()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process writes a run of this configuration meanwhile."""
        hosts.require_same({"configuration": self.hash} | environment())
        parent = Path(self.options.runs_dir) / self.method / self.dataset.card.id
        with contextlib.ExitStack() as stack:
            wait = LOCK_SECONDS if self.options.sweep else 0.0
            path = parent / f".lock-{self.hash[:16]}"
            hosts.agree(lambda: stack.enter_context(locks.held(path, wait)))
            yield

    def _run(self) -> RunFolder:
        self.folder, resumed = open_folder(self.config, self.hash, self.options)
        if resumed and self.folder.record["status"] == "finished":
            print(f"--resume: {self.folder.path} is finished already.")
            self.load_states()
            return self.folder
        label = f"{self.method} · {self.dataset.card.id}"
        total = self.stages[-1].last_step
        self.progress = Progress(
            label, total, self.options.quiet or not hosts.is_writer()
        )
        self.account = Account.begin(self.folder.record if resumed else {})
        self.environment = environment()
        self._write_record("running")
        self.sinks: list[sinks.Sink] = []
        self.checkpoints = Checkpoints(self.folder.path / "checkpoints")
        try:
            self.sinks = sinks.make(self.options.log, self.folder.path, self.config)
            start = self._restore_point() if resumed else 0
            for run in self.stages:
                start = self._run_stage(run, start)
            self.checkpoints.close()
            self._write_record("finished")
        except (interrupts.Interrupted, KeyboardInterrupt):
            self._write_record("interrupted")
            raise
        except Exception as error:
            text = str(error) if isinstance(error, UserError) else repr(error)
            with contextlib.suppress(UserError):  # a full disk refuses this, too
                self._write_record("failed", error=text[:500])
            raise
        finally:
            self.progress.close()
            for sink in self.sinks:
                sink.close()
        return self.folder

    def load_states(self) -> None:
        """Fills in the states of a finished run from the store."""
        for run in self.stages:
            context = self._context(run)
            data = prepare_data(run, self.dataset, context)
            run.states = self.store.load(run.key, template(run, data, context))

    # -- records ------------------------------------------------------------

    def _write_record(self, status: str, **more: Any) -> None:
        evaluator, account = self.evaluator, self.account
        compiling = account.compile_seconds + evaluator.compile_seconds
        compilations = account.compilations | {"evaluation": evaluator.compilations}
        record = {
            "schema": SCHEMA,
            "status": status,
            "variants": self.job.variants,
            "sweep": self.options.sweep,
            **place(self.stages[-1].layout),
            "dataset": {name: getattr(self.dataset.card, name) for name in CARD},
            "stages": {run.stage.name: run.key for run in self.stages},
            **account.costs(),
            "compile_seconds": round(compiling, 3),
            "compilations": compilations,
            "evaluation_seconds": round(evaluator.seconds, 3),
            "diverged": diverged(self.job, self.stages, self.options.num_seeds),
            "config_hash": self.hash,
            "total_steps": self.stages[-1].last_step,
            "score_source": self.dataset.spec.score_source if self.dataset.spec else "",
            "evaluation_environment": evaluator.environment,
        }
        write_json(self.folder.path / "run.json", record | self.environment | more)

    def _restore_point(self) -> int:
        """Total step of the checkpoint to go on from; drops rows beyond it."""
        step = hosts.agree(lambda: self.checkpoints.latest_step() or 0)
        if step:
            step = self.checkpoints.newest_whole(self.progress.say) or 0
        if step and self.checkpoints.meta(step).get("config_hash") != self.hash:
            raise UserError(
                f"the checkpoint {self.folder.path / 'checkpoints' / str(step)} was "
                "made by another configuration; remove it, or begin a new run."
            )
        self.folder.cut_back(step)
        total = self.stages[-1].last_step
        self.progress.say(f"resumed {self.folder.path} at step {step:,} of {total:,}")
        return step

    # -- training -----------------------------------------------------------

    def _context(self, run: StageRun) -> dict[str, Pytree]:
        return context_of(
            self.job, self.stages, run.slots, run.stage.reads, self.options.num_seeds
        )

    def _run_stage(self, run: StageRun, resume_step: int) -> int:
        """Trains a stage, or takes it from the store; leaves its states in `run`.

        Returns the step that later stages resume at: 0 where this one, though done
        before the interruption, had to be trained anew.
        """
        context = self._context(run)
        with settings.blamed(self.job, run.stage.name):
            data = prepare_data(run, self.dataset, context)
            like = template(run, data, context)
        under_way = run.first_step < resume_step <= run.last_step
        done = resume_step > run.last_step
        reuse = self.options.reuse_stages and not under_way
        with contextlib.ExitStack() as stack:
            hosts.agree(lambda: stack.enter_context(self._stage_lock(run)))
            if (done or reuse) and self._take_from_store(run, like):
                if run is self.stages[-1]:
                    self._evaluate(run.last_step)
                return resume_step
            if done:
                self.folder.cut_back(run.first_step)
                self.checkpoints.drop_after(run.first_step)
                resume_step = 0
            self._train(run, data, context, like, resume_step if under_way else 0)
            self._to_store(run)
        return resume_step

    def _stage_lock(self, run: StageRun) -> contextlib.AbstractContextManager[None]:
        """Runs that share a stage train it once: the others wait for the first."""
        name = run.stage.name

        def say(holder: str) -> None:
            self.progress.say(f"{name}: waits for {holder}, which trains it")

        return locks.held(self.store.lock(run.key), math.inf, say)

    def _take_from_store(self, run: StageRun, like: Pytree) -> bool:
        """Fills in the stage's states, if the store has them whole."""
        if not hosts.agree(lambda: self.store.has(run.key)):
            return False
        try:
            run.states = self.store.load(run.key, like)
        except UserError as error:
            self.progress.say(f"{error} It is trained anew.")
            self.store.discard(run.key)
            return False
        run.diverged = [tuple(d) for d in self.store.meta(run.key)["diverged"]]
        more = "; not profiled (--noreuse_stages)" if self.options.profile else ""
        self.progress.say(f"{run.stage.name}: trained before, {run.key[:12]}{more}")
        return True

    def _to_store(self, run: StageRun) -> None:
        meta = {
            "name": run.stage.name,
            "seeds": run.slots.seeds,
            "dataset": self.dataset.card.id,
            "num_steps": run.stage.num_steps,
            "config": dataclasses.asdict(run.stage.config),
            "diverged": run.diverged,
        }
        self.checkpoints.wait()  # a resumed run must find its rows' checkpoint first
        self.store.save(run.key, run.states, meta)

    def _train(
        self, run: StageRun, data: Pytree, context: dict, like: Pytree, resume_step: int
    ) -> None:
        layout, stage = run.layout, run.stage
        slots = {"config": layout.shard(run.configs), "context": layout.shard(context)}
        shared = {"data": layout.replicate(() if stage.data_per_seed else data)}
        if stage.data_per_seed:
            slots["data"] = layout.shard(data)
        alive = np.ones(run.slots.num_slots, bool)
        if resume_step:
            saved = self.checkpoints.restore(
                resume_step, {"states": like, "alive": alive}
            )
            meta = self.checkpoints.meta(resume_step)
            run.diverged = [tuple(d) for d in meta["diverged"]]
            slots["state"] = layout.shard(saved["states"])
            slots["alive"] = layout.shard(saved["alive"])
        else:
            seeds = layout.shard(np.asarray(run.slots.seeds, np.uint32))
            init = programs.init_program(stage, layout)
            slots["state"] = init({**slots, "seed": seeds}, shared)
            slots["alive"] = layout.shard(alive)
            self.account.compiled(f"{stage.name}/init", init)
        chunk = programs.chunk_program(stage, layout)
        step = resume_step - run.first_step if resume_step else 0
        dispatch = functools.partial(chunks.dispatch, chunk, layout, slots, shared)
        begin = profiled(dispatch, stage.num_steps, self.options.profile)
        now = self._next_chunk(run, begin, step)
        while now is not None:
            self._count_chunk(run, chunk, now)
            now = self._boundary(run, begin, now)
            if now is not None and run is self.stages[-1]:
                self.evaluator.prepare(like)  # while the devices train
        run.states = layout.gather(slots["state"])

    def _next_chunk(
        self, run: StageRun, begin: Callable[[int, int], Chunk], step: int
    ) -> Chunk | None:
        """Dispatches the updates from `step` to the next thing to do, if any."""
        if step == run.stage.num_steps:
            return None
        with settings.blamed(self.job, run.stage.name):
            return begin(step, self._schedule(run).next_stop(step))

    def _boundary(
        self, run: StageRun, begin: Callable[[int, int], Chunk], now: Chunk
    ) -> Chunk | None:
        """Does what is due at a chunk's end; the next chunk.

        The next chunk is on its way before anything is written, unless an evaluation
        needs the devices for itself. The order on disk is metrics and scores, then
        the checkpoint, either way.
        """
        layout, end, total = run.layout, now.end, run.first_step + now.end
        alive = layout.gather(now.alive)
        metrics = layout.gather(now.metrics)
        due = self._schedule(run)
        evaluating, saving = due.evaluates(end), due.saves(end)
        stopping = self._stopping(run, end)
        if evaluating or saving or stopping:
            # A copy: the devices' memory goes to later chunks.
            states = jax.tree.map(np.array, layout.gather(now.states))
        if evaluating:
            run.states = states  # before `behind`, which reads how they act
        alone = evaluating and not self.evaluator.behind
        following = None
        if not alone and not stopping:
            following = self._next_chunk(run, begin, end)
        self._report(run, now, alive, metrics)
        if evaluating:
            self._evaluate(total)
            stopping = self._stopping(run, end)
        if alone and not stopping:
            following = self._next_chunk(run, begin, end)
        if stopping or saving:
            meta = {"config_hash": self.hash, "diverged": run.diverged}
            self.checkpoints.save(total, {"states": states, "alive": alive}, meta)
        if stopping:
            self.progress.say(
                f"interrupted at step {total:,}: saved in {self.folder.path}; the same "
                "command with --resume goes on from there"
            )
            self.checkpoints.close()
            raise interrupts.Interrupted
        return following

    @staticmethod
    def _stopping(run: StageRun, end: int) -> bool:
        """Whether the run was asked to stop before this stage is done."""
        return interrupts.requested() and end < run.stage.num_steps

    def _report(
        self, run: StageRun, now: Chunk, alive: np.ndarray, metrics: dict[str, Any]
    ) -> None:
        """Writes a chunk's metrics; tells which seeds diverged in it."""
        total = run.first_step + now.end
        self._freeze(run, now.was_alive & ~alive, total)
        values = jax.tree.map(lambda v: np.where(alive, v, np.nan), metrics)
        self._log(run, values, alive, total)
        count, seconds = run.slots.num_slots, now.wait()
        self.progress.chunk(run.stage.name, total, now.updates, count, seconds, values)

    def _count_chunk(
        self, run: StageRun, program: programs.Program, now: Chunk
    ) -> None:
        """Waits for a chunk, and adds it to what the record tells."""
        self.account.trained(now.updates, run.slots.num_slots, now.wait())
        if now.compiled:
            self.account.compiled(f"{run.stage.name}/chunk", program)

    def _freeze(self, run: StageRun, diverged: np.ndarray, step: int) -> None:
        for slot in np.flatnonzero(diverged):
            run.diverged.append((int(slot), step))
            self.progress.say(
                f"seed {run.slots.seeds[slot]} diverged before step {step:,} in stage "
                f"{run.stage.name}: frozen at its last finite state"
            )

    def _schedule(self, run: StageRun) -> Schedule:
        last = run is self.stages[-1]
        return Schedule.of(run.stage.num_steps, self.options, evaluated=last)

    def _log(
        self, run: StageRun, values: dict[str, Any], alive: np.ndarray, step: int
    ) -> None:
        rows = []
        firsts = zip(self.job.variants, run.slots.of_setting, strict=True)
        for variant, first in firsts:
            for slot, seed in enumerate(self.options.seeds, start=first):
                if alive[slot]:
                    for name, value in values.items():
                        number = f"{float(np.mean(value[slot])):.8g}"
                        rows.append((step, seed, variant, name, number))
        self._write_metrics(rows)

    def _write_metrics(self, rows: list[tuple[Any, ...]]) -> None:
        self.folder.append("metrics.csv", rows)
        for sink in self.sinks:
            sink.write(rows)

    def _evaluate(self, step: int) -> None:
        if self.evaluator.missing is not None:
            self.progress.say(f"no scores are recorded: {self.evaluator.missing}")
            return
        rows, episodes, scores = self.evaluator.rows(self.method, step)
        self._write_metrics(self.evaluator.metric_rows(step))
        self.folder.append("episodes.csv", episodes)
        self.folder.append("scores.csv", rows)
        self.progress.scores(scores, step)
