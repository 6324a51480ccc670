"""Whether a run was trained as it says: one stretch of it, trained again.

A stretch goes from a stage's beginning, or from a checkpoint of the run, to the next
recorded digest. Which one is drawn at random, of those that are no longer than a fifth
of their stage where there are such. Its digests must come out again, but of seeds that
diverged.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from offjax.agents.replay import same_machine
from offjax.agents.verdicts import DIFFERS, SHOWN, UNKNOWN, VERIFIED, Verdict
from offjax.runner import chunks, digests, programs
from offjax.runner.checkpoints import Checkpoints
from offjax.runner.run import Run
from offjax.runner.stages import StageRun, metric_sums, stage_data, template
from offjax.types import Pytree


class Stretch(NamedTuple):
    """Updates of a stage between two of its own steps."""

    stage: StageRun
    start: int
    end: int
    digests: list[str]  # of each slot at the end


Recorded = Mapping[str, Sequence[tuple[int, list[str]]]]
"""Of each stage: its own steps, and the digest of every slot there."""


def verify(run: Run, recorded: Recorded, seed: int | None = None) -> Verdict:
    """Trains one stretch of a run again.

    Args:
      run: loaded.
      recorded: digests that are to be proved.
      seed: of the draw; None: another one each time.
    """
    found = list(stretches(run, recorded))
    if not found:
        text = "No stage has a digest that was recorded in training."
        return Verdict(UNKNOWN, (text,))
    short = [s for s in found if 5 * (s.end - s.start) <= s.stage.stage.num_steps]
    drawn = random.Random(seed).choice(short or found)
    name = f"{drawn.stage.stage.name}, updates {drawn.start:,} to {drawn.end:,}"
    mine = trained(run, drawn)
    seeds = drawn.stage.slots.seeds
    frozen = {
        each["seed"]
        for each in run.folder.record["diverged"]
        if each["stage"] == drawn.stage.stage.name
    }
    wrong = [
        f"seed {seeds[slot]} comes to another state."
        for slot, (a, b) in enumerate(zip(mine, drawn.digests, strict=True))
        if a != b and seeds[slot] not in frozen
    ]
    if wrong and not same_machine(run.folder.record):
        text = "as it may with other versions or on another processor."
        return Verdict(UNKNOWN, (f"{name}: {wrong[0][:-1]}, {text}",))
    if wrong:
        return Verdict(DIFFERS, (f"{name}, trained again:", *wrong[:SHOWN]))
    return Verdict(VERIFIED, (f"{name}, trained again.",))


def stretches(run: Run, recorded: Recorded) -> Iterator[Stretch]:
    """All that can be trained again."""
    steps = _checkpoints(run.path)
    for stage in run.training.stages:
        mine = [(step, each) for step, each in recorded.get(stage.stage.name, [])]
        starts = {0, *(step - stage.first_step for step in steps)}
        for start in sorted(starts):
            later = [(step, each) for step, each in mine if step > start]
            if 0 <= start < stage.stage.num_steps and later:
                yield Stretch(stage, start, *min(later))


def _checkpoints(folder: Path) -> list[int]:
    """Total steps of the run's checkpoints."""
    return [int(p.name) for p in folder.glob("checkpoints/*") if p.name.isdecimal()]


def trained(run: Run, stretch: Stretch) -> list[str]:
    """Digests of all slots after the stretch was trained."""
    stage, layout = stretch.stage, stretch.stage.layout
    upstream = run.training.upstream(stage)
    data = stage_data(stage, run.training.dataset, upstream)
    per_seed = stage.stage.view.per_seed
    shared = {"data": layout.replicate(() if per_seed else data)}
    slots = {
        "config": layout.shard(stage.configs),
        "upstream": layout.shard(upstream),
        **({"data": layout.shard(data)} if per_seed else {}),
    }
    like = template(stage, data, upstream)
    slots |= _carried(run, stretch, slots, shared, data, like)
    program = programs.chunk_program(stage.stage, layout)
    updates = stretch.end - stretch.start
    chunk = chunks.dispatch(
        program, layout, slots, shared, stretch.start, stretch.end, updates, False
    )
    chunk.wait()
    return digests.of_slots(layout.gather(slots["state"]))


def _carried(
    run: Run,
    stretch: Stretch,
    slots: dict[str, Pytree],
    shared: dict[str, Pytree],
    data: Pytree,
    like: Pytree,
) -> dict[str, Pytree]:
    """What a chunk takes of each slot, at the beginning of the stretch."""
    stage, layout = stretch.stage, stretch.stage.layout
    sums = metric_sums(stage, data, run.training.upstream(stage), like)
    alive: Any = np.ones(stage.slots.num_slots, bool)
    if stretch.start:
        wanted = {"state": like, "alive": alive, "sums": sums}
        total = stage.first_step + stretch.start
        checkpoints = Checkpoints(run.path / "checkpoints")
        saved = checkpoints.restore(total, wanted)
        checkpoints.close()
        state, alive = layout.shard(saved["state"]), saved["alive"]
    else:
        seeds = layout.shard(np.asarray(stage.slots.seeds, np.uint32))
        init = programs.init_program(stage.stage, layout)
        state = init({**slots, "seed": seeds}, shared)
    return {
        "state": state,
        "kept": jax.tree.map(jnp.copy, state),
        "alive": layout.shard(alive),
        "sums": layout.shard(sums),
    }
