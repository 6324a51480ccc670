"""What an evaluation of a slot comes to, of full episodes or of instructions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from offjax.types import EnvSpec


class SlotResult(NamedTuple):
    """What one slot's policy came to.

    Of instructions `mean` is the chains' average length, and `score` the percentage of
    single instructions that succeed; each trial is an episode.
    """

    mean: float
    std: float
    score: float
    trials: int  # full episodes, or single instructions
    episodes: list[tuple[float, int]]  # (return, length)
    metrics: dict[str, float]


def of_episodes(
    spec: EnvSpec,
    returns: np.ndarray,
    lengths: np.ndarray,
    clipped: np.ndarray | None = None,
) -> list[SlotResult]:
    """Results of full episodes.

    Args:
      spec: gives the scores.
      returns: [S, E].
      lengths: [S, E].
      clipped: [S] share of actions outside the environment's box, where it is known.
    """
    metrics: list[dict[str, float]] = [{} for _ in returns]
    if clipped is not None:
        metrics = [{"evaluation/clipped_actions": float(c)} for c in clipped]
    return [
        SlotResult(
            mine.mean(),
            mine.std(),
            float(spec.score(mine.mean())),
            len(mine),
            list(zip(mine.tolist(), each.tolist(), strict=True)),
            more,
        )
        for mine, each, more in zip(returns, lengths, metrics, strict=True)
    ]
