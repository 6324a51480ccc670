"""`d4rl`: datasets in the forms that scripts take them, and normalized scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from offjax.compat.d4rl import infos, offline_env
from offjax.compat.d4rl.offline_env import set_dataset_path
from offjax.compat.gym.error import offers_no_more
from offjax.compat.sources import Arrays

__all__ = [
    "get_normalized_score",
    "infos",
    "offline_env",
    "qlearning_dataset",
    "reverse_normalized_score",
    "sequence_dataset",
    "set_dataset_path",
]

__version__ = "1.1"


def get_normalized_score(env_name: str, score: Any) -> Any:
    """A return as a share of the way from the random to the expert return."""
    low, high = infos.REF_MIN_SCORE[env_name], infos.REF_MAX_SCORE[env_name]
    return (score - low) / (high - low)


def reverse_normalized_score(env_name: str, score: Any) -> Any:
    """The return of a normalized score."""
    low, high = infos.REF_MIN_SCORE[env_name], infos.REF_MAX_SCORE[env_name]
    return score * (high - low) + low


def qlearning_dataset(
    env: Any,
    dataset: Arrays | None = None,
    terminate_on_end: bool = False,
    **kwargs: Any,
) -> Arrays:
    """Transitions: the next observation of row i is the observation of row i + 1.

    The last row makes no transition, since no row follows it. Rows at time-outs make
    none either. With `terminate_on_end` these are kept: their next observation is the
    first of the next episode, and `terminals` stays false, as in D4RL, whose
    documentation says otherwise. A file without `timeouts` is cut by D4RL's own count
    of steps (`legacy.official_timeouts`).

    Args:
      env: has `get_dataset` and, for files without `timeouts`, `_max_episode_steps`.
      dataset: arrays to use in place of `env.get_dataset()`.
      terminate_on_end: keep rows at time-outs.
      **kwargs: of `env.get_dataset`.

    Returns:
      observations, actions, next_observations [M, …] and rewards [M], all f32, and
      terminals [M] bool.
    """
    if dataset is None:
        dataset = env.get_dataset(**kwargs)
    terminals = _flags(dataset["terminals"])
    timeouts = _timeouts(dataset, env, terminate_on_end)
    kept = np.ones(len(terminals), bool) if terminate_on_end else ~timeouts
    rows = np.flatnonzero(kept[:-1])
    observations = np.asarray(dataset["observations"])
    return {
        "observations": observations[rows].astype(np.float32),
        "actions": np.asarray(dataset["actions"])[rows].astype(np.float32),
        "next_observations": observations[rows + 1].astype(np.float32),
        "rewards": np.asarray(dataset["rewards"])[rows].astype(np.float32),
        "terminals": terminals[rows],
    }


def sequence_dataset(
    env: Any, dataset: Arrays | None = None, **kwargs: Any
) -> Iterator[Arrays]:
    """Episodes one after another, each with the rows of every array of the dataset.

    An episode ends with a terminal or a time-out. Rows after the last end are left out.
    So are arrays that do not have a row for each step, such as `metadata/…`.

    Args:
      env: as in `qlearning_dataset`.
      dataset: arrays to use in place of `env.get_dataset()`.
      **kwargs: of `env.get_dataset`.
    """
    if dataset is None:
        dataset = env.get_dataset(**kwargs)
    terminals = _flags(dataset["terminals"])
    arrays = {key: np.asarray(value) for key, value in dataset.items()}
    arrays = {
        key: value
        for key, value in arrays.items()
        if value.ndim and len(value) == len(terminals)
    }
    begin = 0
    ends = np.flatnonzero(terminals | _timeouts(dataset, env, True))
    for last in ends.tolist():
        yield {key: value[begin : last + 1].copy() for key, value in arrays.items()}
        begin = last + 1


def _timeouts(dataset: Arrays, env: Any, terminate_on_end: bool) -> np.ndarray:
    """Where a row is the last of an episode that did not terminate there, [N] bool."""
    from offjax.datasets import legacy

    if "timeouts" in dataset:
        return _flags(dataset["timeouts"])
    terminals = _flags(dataset["terminals"])
    return legacy.official_timeouts(terminals, env._max_episode_steps, terminate_on_end)


def _flags(values: Any) -> np.ndarray:
    """Numbers or booleans, [N] or [N, 1], as booleans [N]."""
    return np.asarray(values).astype(bool).reshape(len(values))


__getattr__ = offers_no_more("d4rl")
