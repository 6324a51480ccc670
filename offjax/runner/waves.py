"""Waves: a run trains some of its seeds at a time, where all of them do not fit.

A wave is a run of its own seeds, with a record and checkpoints, in `waves/<number>/` of
the run's folder. Its states and rows become the run's, in the order in which they would
be if all seeds were trained at once. A trained wave's stages stay in the store, where
other runs with the same waves find them.
"""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from offjax.devices import hosts
from offjax.errors import UserError
from offjax.runner.records import HEADERS, WAVES, RunFolder, write_json
from offjax.runner.stages import StageRun
from offjax.runner.training import Training


def of(training: Training) -> Iterator[Training]:
    """The run's seeds, `seeds_at_once` in each training."""
    options = training.options
    for first in range(0, options.num_seeds, options.at_once):
        mine = dataclasses.replace(
            options,
            seed=options.seed + first,
            num_seeds=min(options.at_once, options.num_seeds - first),
            seeds_at_once=0,
            log=(),  # the run's own sinks get all rows at its end
            profile=options.profile if first == 0 else "",
        )
        yield Training.of(
            training.job, training.method, training.preset, training.dataset, mine
        )


def require_same(training: Training, folder: RunFolder) -> None:
    """Raises `UserError` where a run is resumed with waves of another size."""
    options = training.options
    begun = folder.record.get("seeds_at_once", options.num_seeds)
    if begun != options.at_once:
        raise UserError(
            f"--resume: {folder.path} was begun with {begun} seeds at once, and now "
            f"there are {options.at_once}. Give --seeds_at_once={begun} to continue "
            "it, or omit --resume to begin a new run."
        )


def open_folder(run: RunFolder, number: int, wave: Training) -> tuple[RunFolder, bool]:
    """The folder of the wave with that number, and whether it was begun before."""
    folder = RunFolder(run.path / WAVES / str(number))

    def begun() -> bool:
        found = (folder.path / "run.json").exists()
        if not found:
            folder.begin()
            write_json(folder.path / "config.json", wave.config)
        return found

    return folder, hosts.agree(begun)


def add_states(training: Training, wave: Training) -> None:
    """Copies the states of a trained wave to those of the run."""
    for run, mine in zip(training.stages, wave.stages, strict=True):
        slots = _slots_in(run, mine, wave.options.seed - training.options.seed)
        if run.states is None:
            count = run.slots.num_slots
            run.states = jax.tree.map(
                lambda x, n=count: np.zeros((n, *x.shape[1:]), x.dtype), mine.states
            )
        jax.tree.map(
            lambda all_, x, i=slots: all_.__setitem__(i, x), run.states, mine.states
        )
        run.diverged += [(int(slots[slot]), step) for slot, step in mine.diverged]
        run.diverged.sort(key=lambda found: found[::-1])
        _add_digests(run, mine, slots)


def _add_digests(run: StageRun, wave: StageRun, slots: np.ndarray) -> None:
    """Enters a wave's digests at the places of its slots."""
    known = {step: list(found) for step, found in run.digests}
    for step, found in wave.digests:
        whole = known.setdefault(step, [""] * run.slots.num_slots)
        for slot, digest in zip(slots, found, strict=True):
            whole[slot] = digest
    run.digests = sorted(known.items())


def _slots_in(run: StageRun, wave: StageRun, offset: int) -> np.ndarray:
    """For each slot of a wave, which begins `offset` seeds later, that of the run."""
    found = np.zeros(wave.slots.num_slots, int)
    each = np.arange(len(set(wave.slots.seeds)))
    for whole, mine in zip(run.slots.of_setting, wave.slots.of_setting, strict=True):
        found[mine + each] = whole + offset + each
    return found


def tables(run: RunFolder, variants: Sequence[str]) -> dict[str, list[tuple]]:
    """The rows of all waves, by file, as the run of all seeds would have them.

    Args:
      run: its folder.
      variants: of the run, in their order.
    """
    order = {variant: i for i, variant in enumerate(variants)}

    def place(row: dict[str, str]) -> tuple[int, bool, int]:
        return int(row["step"]), _evaluated(row), order[row["variant"]]

    found = {}
    for file in HEADERS:
        rows: list[dict[str, str]] = []
        for wave in _folders(run):
            with (wave / file).open() as lines:
                rows += csv.DictReader(lines)
        # Sorting is stable: seeds and the names of metrics keep their order.
        found[file] = [tuple(row.values()) for row in sorted(rows, key=place)]
    return found


def _evaluated(row: dict[str, str]) -> bool:
    """Whether a row of metrics is of an evaluation, which follows those of training."""
    return row.get("name", "").startswith("evaluation/")


def _folders(run: RunFolder) -> list[Path]:
    return sorted((run.path / WAVES).iterdir(), key=lambda path: int(path.name))


def remove(run: RunFolder) -> None:
    """Removes the waves' folders of a finished run."""
    if hosts.is_writer():
        shutil.rmtree(run.path / WAVES, ignore_errors=True)
