"""Stages of several runs that are trained as one: the same recipe on other datasets.

The slots of all runs lie one after another, and so do the rows of their data
(`offjax.datasets.joined`). Each slot computes what it would compute in its own run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from offjax.datasets import joined, streams
from offjax.devices import hosts
from offjax.devices.layout import Layout
from offjax.runner import feed, memory, programs
from offjax.runner.chunks import Schedule
from offjax.runner.evaluator import Evaluator
from offjax.runner.recorder import Recorder
from offjax.runner.stages import Slots, StageRun, layout_of, metric_sums
from offjax.runner.training import Training
from offjax.types import Model, Pytree, traced_fields


@dataclasses.dataclass
class Member:
    """A run under way.

    Attributes:
      training: what it is.
      recorder: of its open folder.
      evaluator: of its states.
      resume: total step of the checkpoint that it goes on from; 0: from the beginning.
    """

    training: Training
    recorder: Recorder
    evaluator: Evaluator
    resume: int


@dataclasses.dataclass
class Part:
    """A stage of one run that has to be trained.

    Attributes:
      member: the run.
      run: the stage.
      upstream: the models that it reads, leaves NumPy [slots, …].
      data: its view's arrays; () once they are in a store with others.
      like: zeros like its states, NumPy [slots, …].
      step: its updates that are done.
      stream: of its rows, where they stay on the host; it is then trained alone.
    """

    member: Member
    run: StageRun
    upstream: dict[str, Model]
    data: Pytree
    like: Pytree
    step: int
    stream: streams.Stream | None = None

    @property
    def schedule(self) -> Schedule:
        """When something is due."""
        training = self.member.training
        last = self.run is training.stages[-1]
        return Schedule.of(self.run.stage.num_steps, training.options, last)


@dataclasses.dataclass(frozen=True)
class Together:
    """Parts as one stage.

    Attributes:
      run: of the slots of all parts.
      ranges: the slots of each part.
      upstream: leaves NumPy [slots, …].
      like: zeros like the states, NumPy [slots, …].
      sums: zeros like the sums of the metrics, NumPy [slots, …].
      shared: the data that all slots share.
      own: what a slot reads of them, leaves NumPy [slots, …]; None: all.
      reads: the data of one slot.
    """

    run: StageRun
    ranges: tuple[slice, ...]
    upstream: dict[str, Model]
    like: Pytree
    sums: Pytree
    shared: Pytree
    own: Pytree
    reads: programs.Reads

    @classmethod
    def of(cls, parts: Sequence[Part]) -> Together:
        """Joins parts; what several hold of data moves there."""
        run, (first, *others) = _run(parts), parts
        sizes = [part.run.slots.num_slots for part in parts]
        ends = np.cumsum(sizes)
        ranges = tuple(slice(e - n, e) for e, n in zip(ends, sizes, strict=True))
        upstream, like = concatenated([(part.upstream, part.like) for part in parts])
        stage = run.stage
        data = first.data if first.stream is None else first.stream.example()
        sums = metric_sums(run, data, upstream, like)
        if not others:
            reads, own = programs.reads_of(stage), None
            shared = first.data
            if stage.view.per_seed:
                shared, own = (), first.data
            return cls(run, ranges, upstream, like, sums, shared, own, reads)
        blank = jax.tree.map(lambda x: np.zeros((1,) * np.ndim(x), x.dtype), first.data)
        store = joined.join([part.data for part in parts])
        for part in parts:
            part.data = ()
        which = np.repeat(np.arange(len(parts)), sizes)
        own = jax.tree.map(lambda x: x[which], store.parts)

        def mine(slot: Pytree, shared: Pytree) -> Pytree:
            return joined.part(blank, shared["data"], slot["data"])

        return cls(run, ranges, upstream, like, sums, store.rows, own, mine)


def concatenated(trees: Sequence[Pytree]) -> Pytree:
    """Trees of NumPy arrays along their leading axis; a single one as it is."""
    if len(trees) == 1:
        return trees[0]
    return jax.tree.map(lambda *xs: np.concatenate(xs), *trees)


def groups(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts by what can be one program: of one shape, and equally far."""
    found: list[tuple[Any, list[Part]]] = []
    for part in parts:
        kind = _kind(part)
        for known, group in found:
            if known is not None and known == kind:
                group.append(part)
                break
        else:
            found.append((kind, [part]))
    return [group for _, group in found]


def _kind(part: Part) -> Any:
    """Equal for parts that can be trained together; None for one that cannot be."""
    stage = part.run.stage
    if part.stream is not None or stage.view.per_seed or not stage.view.by_rows:
        return None
    config, upstream = stage.config, part.upstream
    return (
        part.step,
        part.schedule,
        dataclasses.replace(stage, config=None),
        jax.tree.structure((config, upstream)),
        [np.shape(x)[1:] for x in jax.tree.leaves(upstream)],
        joined.shapes(part.data),
    )


def layout_of_all(parts: Sequence[Part]) -> Layout:
    """Where the slots of all parts run."""
    if len(parts) == 1:
        return parts[0].run.layout
    count = sum(part.run.slots.num_slots for part in parts)
    return layout_of(count, parts[0].member.training.options)


def require_memory(parts: Sequence[Part]) -> None:
    """Refuses parts whose states and data do not fit, before these are joined.

    Raises:
      UserError: they do not fit.
    """
    first, layout = parts[0], layout_of_all(parts)
    buffers = 0
    if first.stream is not None:
        buffers = feed.buffers(first.run.stage, first.stream, layout)
    each = [
        memory.need_of(part.run, part.data, part.like, part.upstream, buffers)
        for part in parts
    ]
    slot, data = max(need.slot for need in each), sum(need.data for need in each)
    need = dataclasses.replace(each[0], slot=slot, data=data)
    seeds = first.member.training.options.num_seeds * len(parts)
    hosts.agree(lambda: memory.require(need, layout, seeds))


def _run(parts: Sequence[Part]) -> StageRun:
    """The stage with the slots of all parts."""
    first = parts[0].run
    if len(parts) == 1:
        return first
    seeds: list[int] = []
    values: list[dict[str, Any]] = []
    of_setting: list[int] = []
    for part in parts:
        slots = part.run.slots
        own = _own_values(part.run.stage.config, first.stage.config)
        of_setting += [len(seeds) + i for i in slots.of_setting]
        seeds += slots.seeds
        values += [own | each for each in slots.values]
    slots = Slots(tuple(seeds), tuple(values), tuple(of_setting))
    layout = layout_of_all(parts)
    return dataclasses.replace(first, slots=slots, layout=layout, states=None)


def _own_values(config: Any, other: Any) -> dict[str, Any]:
    """The traced fields of a config in which it differs from another."""
    return {
        name: getattr(config, name)
        for name in traced_fields(type(config))
        if getattr(config, name) != getattr(other, name)
    }
