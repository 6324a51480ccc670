"""Training a run: stages in turn, chunks of updates, evaluations, checkpoints."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offjax import locks
from offjax.datasets import streams
from offjax.datasets.stored import StoredDataset
from offjax.devices import hosts
from offjax.devices.compilation import release_programs
from offjax.devices.layout import Program, first_slot
from offjax.errors import UserError
from offjax.runner import (
    chunks,
    digests,
    feed,
    interrupts,
    memory,
    programs,
    settings,
    waves,
)
from offjax.runner.chunks import Begin, Chunk, Pace, Schedule
from offjax.runner.evaluator import Evaluator
from offjax.runner.recorder import Recorder, recording
from offjax.runner.records import RunFolder, environment, open_folder
from offjax.runner.stages import StageRun, metric_sums, stage_data, template
from offjax.runner.training import Training
from offjax.types import Model, Pytree

LOCK_SECONDS = 60.0
"""How long a sweep's job waits for a killed predecessor to be gone."""


def train(training: Training) -> RunFolder:
    """Trains and evaluates all stages; the run's folder, finished.

    Raises:
      UserError: another process is at this very run, or the disk refuses.
      Interrupted: the run was asked to stop, and its state is saved.
    """
    release_programs()
    if isinstance(training.dataset, StoredDataset):
        training.dataset.verify()
    with _alone(training):
        folder, resumed = open_folder(training.config, training.hash, training.options)
        if resumed and folder.record["status"] == "finished":
            print(f"--resume: {folder.path} is finished already.")
            training.load_states(folder.record["stages"])
            return folder
        if resumed:
            hosts.agree(lambda: waves.require_same(training, folder))
        if training.options.at_once < training.options.num_seeds:
            _train_in_waves(training, folder, resumed)
        else:
            _train_together(training, folder, resumed)
    return folder


def _train_together(
    training: Training, folder: RunFolder, resumed: bool, wave: str = ""
) -> None:
    """Trains and evaluates all seeds of a run, or of a wave of one, by its name."""
    evaluator = Evaluator(training)
    with recording(training, evaluator, folder, resumed, wave) as recorder:
        step = recorder.restore_point() if resumed else 0
        for run in training.stages:
            step = _StageLoop(training, run, recorder, evaluator).run(step)


def _train_in_waves(training: Training, folder: RunFolder, resumed: bool) -> None:
    """Trains some seeds after the others, and joins what they come to."""
    options = training.options
    count = math.ceil(options.num_seeds / options.at_once)
    with recording(training, Evaluator(training), folder, resumed) as recorder:
        for number, wave in enumerate(waves.of(training), start=1):
            mine, begun = waves.open_folder(folder, number, wave)
            if begun and mine.record["status"] == "finished":
                recorder.progress.say(f"wave {number}/{count}: trained before")
                wave.load_states(mine.record["stages"])
            else:
                _train_together(wave, mine, begun, f"wave {number}/{count} ")
            waves.add_states(training, wave)
            recorder.account.add(mine.record)
        for run in training.stages:
            training.save_states(run)
        variants = training.job.variants
        recorder.join(hosts.agree(lambda: waves.tables(folder, variants)))
    waves.remove(folder)


@contextlib.contextmanager
def _alone(training: Training) -> Iterator[None]:
    """No other process writes a run of this configuration meanwhile."""
    hosts.require_same({"configuration": training.hash} | environment())
    options = training.options
    parent = Path(options.runs_dir) / training.method / training.dataset.card.id
    with contextlib.ExitStack() as stack:
        wait = LOCK_SECONDS if options.sweep else 0.0
        path = parent / f".lock-{training.hash[:16]}"
        hosts.agree(lambda: stack.enter_context(locks.held(path, wait)))
        yield


class _StageLoop:
    """Trains one stage of a run, or takes it from the store."""

    def __init__(
        self,
        training: Training,
        run: StageRun,
        recorder: Recorder,
        evaluator: Evaluator,
    ) -> None:
        self.training, self.stage_run, self.recorder = training, run, recorder
        self.evaluator, self.layout = evaluator, run.layout
        self.last = run is training.stages[-1]
        self.schedule = Schedule.of(run.stage.num_steps, training.options, self.last)
        self.pace = Pace(training.options.chunk_seconds)
        self.slots: dict[str, Pytree] = {}
        self.stream: streams.Stream | None = None
        self.feed: feed.Feed | None = None
        self.window = 0  # updates since the last end of a window

    def run(self, resume_step: int) -> int:
        """Leaves the trained states in the stage; the step that later stages resume at.

        `resume_step` is the total step of the checkpoint that the run goes on from. It
        becomes 0 where a stage that was done has to be trained again.
        """
        training, run = self.training, self.stage_run
        upstream = training.upstream(run)
        with settings.blamed(training.job, run.stage.name):
            data = self._data(upstream)
            like = template(run, data, upstream)
        under_way = run.first_step < resume_step <= run.last_step
        done = resume_step > run.last_step
        reuse = training.options.reuse_stages and not under_way
        with contextlib.ExitStack() as stack:
            hosts.agree(lambda: stack.enter_context(self._lock()))
            if (done or reuse) and self._take_from_store(like):
                if self.last:
                    self.recorder.evaluate(run.last_step)
                return resume_step
            if done:
                self.recorder.cut_back(run.first_step)
                resume_step = 0
            step = resume_step - run.first_step if under_way else 0
            need = memory.need_of(run, data, like, upstream, self._buffers())
            seeds = training.options.num_seeds
            hosts.agree(lambda: memory.require(need, self.layout, seeds))
            self._train(data, upstream, like, step)
            self._to_store()
        return resume_step

    def _data(self, upstream: dict[str, Model]) -> Pytree:
        """What the stage has of the data in memory; all of them but in a stream."""
        training, run = self.training, self.stage_run
        dataset, seeds = training.dataset, training.options.num_seeds
        if training.options.stream:
            self.stream = streams.stream(run.stage.view, dataset)
            return self.stream.data
        if isinstance(dataset, StoredDataset):
            hosts.agree(lambda: memory.require_rows(run, dataset, seeds))
        return stage_data(run, dataset, upstream)

    def _buffers(self) -> int:
        if self.stream is None:
            return 0
        return feed.buffers(self.stage_run.stage, self.stream, self.layout)

    # -- the store ----------------------------------------------------------

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """Runs that share a stage train it once: the others wait for the first."""
        run = self.stage_run

        def say(holder: str) -> None:
            self.recorder.progress.say(
                f"{run.stage.name}: waits for {holder}, which trains it"
            )

        return locks.held(self.training.store.lock(run.key), math.inf, say)

    def _take_from_store(self, like: Pytree) -> bool:
        """Fills in the stage's states, if the store has them whole."""
        run, store = self.stage_run, self.training.store
        say = self.recorder.progress.say
        if not hosts.agree(lambda: store.has(run.key)):
            return False
        try:
            run.states = store.load(run.key, like)
        except UserError as error:
            say(f"{error} It is trained again.")
            store.discard(run.key)
            return False
        run.recall(store.meta(run.key))
        traced = self.training.options.profile
        more = "; not profiled (--noreuse_stages)" if traced else ""
        say(f"{run.stage.name}: trained before, {run.key[:12]}{more}")
        return True

    def _to_store(self) -> None:
        run, recorder = self.stage_run, self.recorder
        recorder.checkpoints.wait()  # a resumed run must find its rows' checkpoint
        self.training.save_states(run)

    # -- the loop -----------------------------------------------------------

    def _train(
        self, data: Pytree, upstream: dict[str, Model], like: Pytree, step: int
    ) -> None:
        """Updates from `step` of the stage to its last one."""
        stage, layout = self.stage_run.stage, self.layout
        shared = {"data": layout.replicate(() if stage.view.per_seed else data)}
        self.slots = {
            "config": layout.shard(self.stage_run.configs),
            "upstream": layout.shard(upstream),
        }
        if stage.view.per_seed:
            self.slots["data"] = layout.shard(data)
        self.recorder.progress.begin(
            stage.name, self.stage_run.first_step, stage.num_steps,
            self.stage_run.slots.num_slots, step,
        )  # fmt: skip
        self._begin(shared, data, like, step)
        reader = None if self.stream is None else feed.reader(self.stream)
        program = programs.chunk_program(stage, layout, reader)
        dispatch = functools.partial(
            chunks.dispatch, program, layout, self.slots, shared
        )
        begin = chunks.profiled(
            dispatch, stage.num_steps, self.training.options.profile
        )
        with self._feeding(upstream, like):
            now = self._next_chunk(begin, step)
            while now is not None:
                self._account(now, program)
                now = self._boundary(begin, now)
                if now is not None and self.last:
                    self.evaluator.prepare(like)  # while the devices train
        self.stage_run.states = layout.gather(self.slots["state"])

    def _account(self, now: Chunk, program: Program) -> None:
        """Waits for a chunk, and counts its time."""
        seconds, account = now.wait(), self.recorder.account
        self.pace.note(now.updates, seconds)
        waited = 0.0 if self.feed is None else self.feed.waited
        slots = self.stage_run.slots.num_slots
        account.trained(now.updates, slots, seconds + waited)
        if now.compiled:
            account.compiled(f"{self.stage_run.stage.name}/chunk", program)

    @contextlib.contextmanager
    def _feeding(self, upstream: dict[str, Model], like: Pytree) -> Iterator[None]:
        """Inside, batches are fetched ahead, where the data are a stream."""
        if self.stream is None:
            yield
            return
        stage = self.stage_run.stage
        slot = first_slot({"config": self.stage_run.configs, "upstream": upstream})
        stride = programs.stride(stage, first_slot(like), self.stream.example(), slot)
        self.feed = feed.Feed(
            stage, self.stream, self.layout, self.slots["state"], stride
        )
        limit = self.feed.updates
        self.pace = Pace(self.training.options.chunk_seconds, limit=limit)
        try:
            yield
        finally:
            self.feed.close()

    def _begin(self, shared: Pytree, data: Pytree, like: Pytree, step: int) -> None:
        """Fresh slots, or those of the checkpoint at `step`."""
        run, layout, slots = self.stage_run, self.layout, self.slots
        count = run.slots.num_slots
        rows = data if self.stream is None else self.stream.example()
        tree = {
            "state": like,
            "alive": np.ones(count, bool),
            "sums": metric_sums(run, rows, self.training.upstream(run), like),
        }
        if step:
            saved, meta = self.recorder.restore(run.first_step + step, tree)
            run.recall(meta)
            self.window = meta["window"]
            tree = {"kept": saved["state"]} | saved
            slots |= {name: layout.shard(tree[name]) for name in programs.CARRIED}
            return
        seeds = layout.shard(np.asarray(run.slots.seeds, np.uint32))
        init = programs.init_program(run.stage, layout)
        state = init({**slots, "seed": seeds}, shared)
        slots |= {name: layout.shard(tree[name]) for name in ("alive", "sums")}
        # Copies: each slot's own memory is written over.
        slots |= {"state": state, "kept": jax.tree.map(jnp.copy, state)}
        self.recorder.account.compiled(f"{run.stage.name}/init", init)

    def _next_chunk(self, begin: Begin, step: int) -> Chunk | None:
        """Dispatches the next updates from `step`, if there are any."""
        run = self.stage_run
        if step == run.stage.num_steps:
            return None
        if self.feed is None:
            end = self._end(step)
        else:
            end, self.slots["batches"] = self.feed.serve(step, self._end)
        due = self.schedule.next_stop(step)
        window, closing = self.window + end - step, end == due
        self.window = 0 if closing else window
        with settings.blamed(self.training.job, run.stage.name):
            return begin(step, end, window, closing)

    def _end(self, step: int) -> int:
        """Where the chunk from `step` ends."""
        return self.pace.stop(step, self.schedule.next_stop(step))

    def _boundary(self, begin: Begin, now: Chunk) -> Chunk | None:
        """Does what is due at a chunk's end; the next chunk.

        The next chunk is dispatched before anything is written, unless an evaluation
        needs the devices. On disk metrics and scores come before the checkpoint.
        """
        run, layout, due = self.stage_run, self.layout, self.schedule
        end, total = now.end, run.first_step + now.end
        alive = layout.gather(now.carried["alive"])
        metrics = layout.gather(now.metrics)
        evaluating = now.closing and due.evaluates(end)
        saving = now.closing and due.saves(end)
        stopping = self._stopping(end)
        if evaluating or saving or stopping:
            saved = self._saved(now)
        if evaluating:
            run.states = saved["state"]  # before `behind`, which reads how they act
        alone = evaluating and not self.evaluator.behind
        following = None
        if not alone and not stopping:
            following = self._next_chunk(begin, end)
        self._report(now, alive, metrics)
        if evaluating:
            self.recorder.evaluate(total)
            stopping = self._stopping(end)
        if alone and not stopping:
            following = self._next_chunk(begin, end)
        if saving:
            run.digests.append((end, digests.of_slots(saved["state"])))
        if stopping or saving:
            window = 0 if now.closing else now.window
            self.recorder.save(run, total, saved, window=window)
        if stopping:
            self.recorder.stop(total)
        return following

    def _saved(self, now: Chunk) -> dict[str, Pytree]:
        """What a checkpoint holds, a copy: the devices' memory goes to later chunks."""
        names = ["state", "alive", "sums"] + ([] if now.closing else ["kept"])
        found = {name: self.layout.gather(now.carried[name]) for name in names}
        return jax.tree.map(np.array, found)

    def _stopping(self, end: int) -> bool:
        """Whether the run was asked to stop before this stage is done."""
        return interrupts.requested() and end < self.stage_run.stage.num_steps

    def _report(self, now: Chunk, alive: np.ndarray, metrics: dict[str, Any]) -> None:
        """Writes a window's metrics; tells how far the stage is."""
        run, recorder = self.stage_run, self.recorder
        total = run.first_step + now.end
        values = jax.tree.map(lambda v: np.where(alive, v, np.nan), metrics)
        if now.closing:
            recorder.diverged(run, now.was_alive & ~alive, total)
            recorder.metrics(run, values, alive, total)
        recorder.progress.chunk(total, now.updates, now.wait(), values)
