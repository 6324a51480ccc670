"""The loop of a stage: chunks of updates, evaluations, checkpoints.

A stage of one run is the usual case. Where several runs are trained together, what is
recorded is split among them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offjax.devices.layout import Program, first_slot
from offjax.runner import chunks, digests, feed, interrupts, programs, settings
from offjax.runner.chunks import Begin, Chunk, Pace
from offjax.runner.evaluator import Evaluator, prepare, rows_together
from offjax.runner.together import (
    Part,
    Together,
    concatenated,
)
from offjax.types import Pytree


class StageLoop:
    """Trains a stage of a run, or of several together."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Of parts that `together.groups` put into one group."""
        first = parts[0]
        self.parts, self.stream = parts, first.stream
        self.schedule, self.step = first.schedule, first.step
        self.training, self.evaluator = first.member.training, first.member.evaluator
        self.recorder = first.member.recorder  # whose progress line is that of all
        self.last = first.run is self.training.stages[-1]
        self.pace = Pace(self.training.options.chunk_seconds)
        self.slots: dict[str, Pytree] = {}
        self.feed: feed.Feed | None = None
        self.prepared = (
            not self.last
        )  # whether the evaluation is compiled, if it can be
        self.window = 0  # updates since the last end of a window

    def run(self) -> None:
        """Trains the parts to the end of the stage, and leaves their states there.

        Raises:
          UserError: settings with which the stage cannot be made.
          Interrupted: the run was asked to stop, and the states are saved.
        """
        with settings.blamed(self.training.job, self.parts[0].run.stage.name):
            self.together = Together.of(self.parts)
        self.stage_run = self.together.run
        self.layout = self.stage_run.layout
        self._train()

    def _train(self) -> None:
        """Updates from the parts' step to the last one of the stage."""
        stage, layout, together = self.stage_run.stage, self.layout, self.together
        shared = {"data": layout.replicate(together.shared)}
        self.slots = {
            "config": layout.shard(self.stage_run.configs),
            "upstream": layout.shard(together.upstream),
        }
        if together.own is not None:
            self.slots["data"] = layout.shard(together.own)
        self.recorder.progress.begin(
            stage.name, self.stage_run.first_step, stage.num_steps,
            self.stage_run.slots.num_slots, self.step, len(self.parts),
        )  # fmt: skip
        self._begin(shared)
        reader = None if self.stream is None else feed.reader(self.stream)
        program = programs.chunk_program(stage, layout, reader, together.reads)
        dispatch = functools.partial(
            chunks.dispatch, program, layout, self.slots, shared
        )
        begin = chunks.profiled(
            dispatch, stage.num_steps, self.training.options.profile
        )
        with self._feeding():
            now = self._next_chunk(begin, self.step)
            while now is not None:
                self._account(now, program)
                now = self._boundary(begin, now)
                if now is not None and not self.prepared:
                    prepare(self._evaluators(), self._of_parts(together.like))
                    self.prepared = True
        self._keep(layout.gather(self.slots["state"]))

    def _of_parts(self, tree: Pytree) -> list[Pytree]:
        """What each part has of leaves NumPy [slots, …]."""
        return [
            jax.tree.map(lambda x, mine=mine: x[mine], tree)
            for mine in self.together.ranges
        ]

    def _keep(self, states: Pytree) -> None:
        """Leaves the states of all slots with the runs of the parts."""
        for part, mine in zip(self.parts, self._of_parts(states), strict=True):
            part.run.states = mine

    def _evaluators(self) -> list[Evaluator]:
        return [part.member.evaluator for part in self.parts]

    def _account(self, now: Chunk, program: Program) -> None:
        """Waits for a chunk, and counts its time, which the parts share."""
        seconds = now.wait()
        self.pace.note(now.updates, seconds)
        if self.feed is not None:
            seconds += self.feed.waited
        for part in self.parts:
            slots = part.run.slots.num_slots
            share = slots / self.stage_run.slots.num_slots
            part.member.recorder.account.trained(now.updates, slots, seconds * share)
        if now.compiled:
            name = f"{self.stage_run.stage.name}/chunk"
            self.recorder.account.compiled(name, program)

    @contextlib.contextmanager
    def _feeding(self) -> Iterator[None]:
        """Inside, batches are fetched ahead, where the data are a stream."""
        if self.stream is None:
            yield
            return
        stage, together = self.stage_run.stage, self.together
        models = {"config": self.stage_run.configs, "upstream": together.upstream}
        state, example = first_slot(together.like), self.stream.example()
        stride = programs.stride(stage, state, example, first_slot(models))
        self.feed = feed.Feed(
            stage, self.stream, self.layout, self.slots["state"], stride
        )
        limit = self.feed.updates
        self.pace = Pace(self.training.options.chunk_seconds, limit=limit)
        try:
            yield
        finally:
            self.feed.close()

    def _begin(self, shared: Pytree) -> None:
        """Fresh slots, or those of the checkpoint at the parts' step."""
        run, layout, slots = self.stage_run, self.layout, self.slots
        together, count = self.together, self.stage_run.slots.num_slots
        tree = {
            "state": together.like,
            "alive": np.ones(count, bool),
            "sums": together.sums,
        }
        if self.step:
            saved = self._restored(tree)
            tree = {"kept": saved["state"]} | saved
            slots |= {name: layout.shard(tree[name]) for name in programs.CARRIED}
            return
        seeds = layout.shard(np.asarray(run.slots.seeds, np.uint32))
        init = programs.init_program(run.stage, layout, together.reads)
        state = init({**slots, "seed": seeds}, shared)
        slots |= {name: layout.shard(tree[name]) for name in ("alive", "sums")}
        # Copies: each slot's own memory is written over.
        slots |= {"state": state, "kept": jax.tree.map(jnp.copy, state)}
        self.recorder.account.compiled(f"{run.stage.name}/init", init)

    def _restored(self, tree: Pytree) -> Pytree:
        """What the checkpoints of the parts hold of leaves NumPy [slots, …]."""
        found = []
        for part, like in zip(self.parts, self._of_parts(tree), strict=True):
            total = part.run.first_step + self.step
            saved, meta = part.member.recorder.restore(total, like)
            part.run.recall(meta)
            self.window = meta["window"]
            found.append(saved)
        return concatenated(found)

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
        layout, due, end = self.layout, self.schedule, now.end
        total = self.stage_run.first_step + end
        alive = layout.gather(now.carried["alive"])
        metrics = layout.gather(now.metrics)
        evaluating = now.closing and due.evaluates(end)
        saving = now.closing and due.saves(end)
        stopping = self._stopping(end)
        if evaluating or saving or stopping:
            saved = self._saved(now)
        if evaluating:
            self._keep(saved["state"])  # before `behind`, which reads how they act
        alone = evaluating and not all(e.behind for e in self._evaluators())
        following = None
        if not alone and not stopping:
            following = self._next_chunk(begin, end)
        self._report(now, alive, metrics)
        if evaluating:
            self._evaluate(total)
            stopping = self._stopping(end)
        if alone and not stopping:
            following = self._next_chunk(begin, end)
        if stopping or saving:
            self._save(now, saved, saving)
        if stopping:
            for part in self.parts:
                part.member.recorder.stop(total)
            raise interrupts.Interrupted
        return following

    def _saved(self, now: Chunk) -> dict[str, Pytree]:
        """What a checkpoint holds, a copy: the devices' memory goes to later chunks."""
        names = ["state", "alive", "sums"] + ([] if now.closing else ["kept"])
        found = {name: self.layout.gather(now.carried[name]) for name in names}
        return jax.tree.map(np.array, found)

    def _save(self, now: Chunk, saved: Pytree, due: bool) -> None:
        """Writes checkpoints; their digests where a checkpoint was due."""
        window = 0 if now.closing else now.window
        for part, mine in zip(self.parts, self._of_parts(saved), strict=True):
            run = part.run
            if due:
                run.digests.append((now.end, digests.of_slots(mine["state"])))
            total = run.first_step + now.end
            part.member.recorder.save(run, total, mine, window=window)

    def _evaluate(self, step: int) -> None:
        """Evaluates the parts at a total step, and records their scores."""
        parts = [part for part in self.parts if part.member.evaluator.possible]
        self.recorder.progress.working("evaluating")
        evaluators = [part.member.evaluator for part in parts]
        found = iter(rows_together(evaluators, self.training.method, step))
        for part in self.parts:
            recorder = part.member.recorder
            recorder.scores(next(found) if part in parts else None, step)

    def _stopping(self, end: int) -> bool:
        """Whether the run was asked to stop before this stage is done."""
        return interrupts.requested() and end < self.stage_run.stage.num_steps

    def _report(self, now: Chunk, alive: np.ndarray, metrics: dict[str, Any]) -> None:
        """Writes a window's metrics; tells how far the stage is."""
        total = self.stage_run.first_step + now.end
        values = jax.tree.map(lambda v: np.where(alive, v, np.nan), metrics)
        if now.closing:
            gone = now.was_alive & ~alive
            for part, mine in zip(self.parts, self.together.ranges, strict=True):
                recorder = part.member.recorder
                recorder.diverged(part.run, gone[mine], total)
                each = {name: value[mine] for name, value in values.items()}
                recorder.metrics(part.run, each, alive[mine], total)
        self.recorder.progress.chunk(total, now.updates, now.wait(), values)
