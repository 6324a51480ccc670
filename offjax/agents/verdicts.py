"""What follows from an evaluation that was played again.

Bit for bit on the same versions and processor: the recorded digits of every return, and
every length, must come out again. Elsewhere XLA may round differently, and there

- an episode agrees whose return differs by at most `TOLERANCE` of its size;
- a row is refuted where the mean of a seed is off by more than `ERRORS` standard errors
  of both means: no rounding does that, but a changed number may;
- anything between is undecided, for a chaotic environment turns one rounding into
  another episode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-3
ERRORS = 5.0
SHOWN = 3  # differences that are named
VERIFIED, CLOSE, DIFFERS, UNKNOWN = (
    "verified", "verified within tolerance", "differs", "cannot be verified",
)  # fmt: skip

Key = tuple[str, int]
"""Variant and seed."""


class Verdict(NamedTuple):
    """What became of a row: one of the four words, and why."""

    word: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.word}: {' '.join(self.reasons)}" if self.reasons else self.word


class Episode(NamedTuple):
    """An episode as it is recorded."""

    value: str  # its return
    length: int


Episodes = Mapping[Key, Mapping[int, Episode]]
"""Of each seed, episodes by number."""
Scores = Mapping[Key, Sequence[str]]
"""Of each seed, episodes, return_mean, return_std and score, as recorded."""


def compare(
    recorded: tuple[Episodes, Scores], played: tuple[Episodes, Scores], same: bool
) -> Verdict:
    """What follows from an evaluation that was played again.

    Args:
      recorded: episodes and scores as the run has them.
      played: as they came out now; of some seeds perhaps.
      same: whether versions and processor are those of the run.
    """
    hard = list(_other_numbers(recorded[0], played[0]))
    wrong = list(_differences(recorded[0], played[0]))
    far = [text for text, size in wrong if size > TOLERANCE]
    off = list(_other_scores(recorded[1], played[1], 0.0 if same else TOLERANCE))
    if not hard and not wrong and not off:
        return Verdict(VERIFIED, ())
    if hard or same or (off and not far):
        return Verdict(DIFFERS, _shown(hard + [text for text, _ in wrong] + off))
    if not far:
        return Verdict(CLOSE, (f"{len(wrong)} episodes differ by less than 0.1 %.",))
    refuted = list(_refuted(recorded[0], played[0]))
    if refuted:
        return Verdict(DIFFERS, _shown(refuted))
    number = sum(map(len, played[0].values()))
    return Verdict(
        UNKNOWN,
        (
            f"{len(far)} of {number} episodes differ, as they may with other versions "
            "or on another processor than those in run.json; the means agree.",
        ),
    )


def _shown(texts: Sequence[str]) -> tuple[str, ...]:
    """The first few, and how many more there are."""
    more = len(texts) - SHOWN
    return (*texts[:SHOWN], *([f"{more} further differences."] if more > 0 else []))


def _other_numbers(recorded: Episodes, played: Episodes) -> Iterator[str]:
    """Seeds that have other episodes than the evaluation has."""
    for (variant, seed), mine in played.items():
        theirs = recorded[variant, seed]
        if {*theirs} != {*mine}:
            yield (
                f"seed {seed} of {variant} has {len(theirs)} episodes, not "
                f"{len(mine)} numbered from 0."
            )


def _other_scores(recorded: Scores, played: Scores, tolerance: float) -> Iterator[str]:
    for (variant, seed), values in played.items():
        theirs = recorded[variant, seed]
        if not _agree(theirs, values, tolerance):
            yield (
                f"scores.csv has {', '.join(theirs)} for seed {seed} of {variant} "
                "(episodes, return_mean, return_std, score), replayed "
                f"{', '.join(values)}."
            )


def _differences(recorded: Episodes, played: Episodes) -> Iterator[tuple[str, float]]:
    """What differs between episodes, and by how much of the return's size."""
    for (variant, seed), mine in played.items():
        theirs = recorded[variant, seed]
        where = f"seed {seed} of {variant}"
        for number in sorted({*theirs} & {*mine}):
            old, new = theirs[number], mine[number]
            if old != new:
                change = float(new.value) - float(old.value)
                size = max(abs(float(old.value)), abs(float(new.value)), 1e-9)
                off = math.inf if old.length != new.length else abs(change) / size
                yield (
                    f"{where}, episode {number}: return {old.value} in {old.length} "
                    f"steps is recorded, {new.value} in {new.length} replayed "
                    f"({change:+.6g}).",
                    off,
                )


def _agree(old: Sequence[str], new: Sequence[str], tolerance: float) -> bool:
    """Whether rows of scores are equal, or nearly so; unknown ones are equal."""
    if list(old) == list(new):
        return True
    try:
        pairs = [(float(a or "nan"), float(b)) for a, b in zip(old, new, strict=True)]
    except ValueError:
        return False
    return all(same_number(a, b, tolerance) for a, b in pairs)


def same_number(a: float, b: float, tolerance: float) -> bool:
    """Whether two numbers differ by at most a tolerance of their size, or of 1.

    NaN, an unknown score, is the same as NaN alone.
    """
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def _refuted(recorded: Episodes, played: Episodes) -> Iterator[str]:
    """Seeds whose means no rounding explains."""
    for (variant, seed), mine in played.items():
        both = [recorded[variant, seed].values(), mine.values()]
        old, new = (np.array([float(e.value) for e in each]) for each in both)
        spread = math.sqrt(old.var() / len(old) + new.var() / len(new))
        scale = TOLERANCE * max(abs(old.mean()), abs(new.mean()))
        if abs(old.mean() - new.mean()) > ERRORS * spread + scale:
            yield (
                f"seed {seed} of {variant}: the mean return {old.mean():.6g} is "
                f"recorded, {new.mean():.6g} replayed."
            )
