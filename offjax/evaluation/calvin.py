"""CALVIN's chains as trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from offjax.errors import UserError
from offjax.evaluation.chains import Chain
from offjax.evaluation.instructions import Trial


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
