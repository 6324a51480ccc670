"""CALVIN's long-horizon benchmark, on its own simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from offjax.errors import UserError
from offjax.evaluation import chains, instructions
from offjax.evaluation.chains import Chain
from offjax.evaluation.instructions import Follower, InstructedEnv, Outcome, Trial


class Scores(NamedTuple):
    """What S slots made of N chains."""

    rates: np.ndarray  # [S, 5] share of chains with 1, 2, … tasks in a row
    average: np.ndarray  # [S] tasks in a row
    per_task: dict[str, tuple[int, int]]  # successes and attempts, of all slots
    outcome: Outcome


def trials(given: Sequence[Chain], sentences: Mapping[str, str]) -> list[Trial]:
    """Chains as trials.

    Args:
      given: such as `chains.generate(1000)`.
      sentences: what is said for each task (`offjax.datasets.calvin.sentences`).

    Raises:
      UserError: there is no sentence for a task.
    """
    missing = sorted({task for _, chain in given for task in chain} - set(sentences))
    if missing:
        raise UserError(
            f"There are no sentences for {', '.join(missing)}: CALVIN has one for "
            "each of its 34 tasks in validation/<language>/embeddings.npy."
        )
    return [
        Trial(state, chain, tuple(sentences[task] for task in chain))
        for state, chain in given
    ]


def evaluate(
    agent: Follower,
    env: InstructedEnv,
    given: Sequence[Trial],
    seeds: Sequence[int],
    eval_seed: int = 0,
) -> Scores:
    """Carries out chains; arguments as of `instructions.evaluate`.

    Each place is a simulator of its own, so that there should be as many as cores.
    """
    outcome = instructions.evaluate(agent, env, given, seeds, eval_seed)
    return Scores(
        chains.success_rates(outcome.solved),
        chains.average_length(outcome.solved),
        instructions.per_instruction(given, outcome),
        outcome,
    )
