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

    def score_columns(self) -> tuple[int, str, str, str]:
        """Columns `episodes`, `return_mean`, `return_std`, `score` of scores.csv."""
        measured = f"{self.mean:.8g}", f"{self.std:.8g}", f"{self.score:.6g}"
        return (self.trials, *measured)

    def episode_columns(self) -> list[tuple[int, str, int]]:
        """Columns `episode`, `return`, `length` of the rows of episodes.csv."""
        return [
            (i, f"{value:.8g}", int(length))
            for i, (value, length) in enumerate(self.episodes)
        ]


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
      clipped: [S] share of actions outside the box, where it is known.
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
