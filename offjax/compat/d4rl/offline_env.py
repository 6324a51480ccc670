"""`d4rl.offline_env`: environments that come with a dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from offjax.compat import single, sources
from offjax.compat.gym import logger
from offjax.compat.gym.adapter import GymnasiumEnv
from offjax.compat.gym.error import Error
from offjax.compat.sources import Arrays, Source
from offjax.errors import UserError


class OfflineEnv(GymnasiumEnv):
    """The environment in which policies of a dataset are evaluated, and the dataset.

    Where no environment of today equals D4RL's, the dataset can be read, and `reset`
    says why there is nothing to step.

    Attributes:
      ref_min_score: return that scores 0.
      ref_max_score: return that scores 1.
      dataset_url: where D4RL has the file; None for other datasets.
    """

    def __init__(self, name: str, source: Source) -> None:
        spec = source.env
        low, high = (
            np.array(b, np.float32) for b in (spec.action_low, spec.action_high)
        )
        super().__init__(
            self._make_environment,
            gymnasium.spaces.Box(-np.inf, np.inf, (spec.observation_dim,), np.float32),
            gymnasium.spaces.Box(low, high, dtype=np.float32),
            spec.horizon,
        )
        self.name, self.source = name, source
        self.ref_min_score, self.ref_max_score = spec.ref_min_score, spec.ref_max_score
        self.dataset_url = source.url
        reason = self._missing()
        if reason is not None:
            logger.warn(f"{name} can be read, but not be stepped: {reason}")

    @property
    def dataset_filepath(self) -> str:
        """Where the file of a D4RL id lies, downloaded if it was missing."""
        from offjax.datasets import legacy

        if self.name not in legacy.table():
            raise Error(f"{self.name} has no file of D4RL's; use get_dataset().")
        return str(legacy.obtain(self.name, progress=sources.say))

    def get_normalized_score(self, score: Any) -> Any:
        """(score − ref_min_score) / (ref_max_score − ref_min_score): 1 is expert."""
        if self.ref_min_score is None or self.ref_max_score is None:
            raise Error(
                f"{self.name} has no reference scores, so returns cannot be "
                "normalized. Report the returns."
            )
        return (score - self.ref_min_score) / (self.ref_max_score - self.ref_min_score)

    def get_dataset(self, h5path: str | os.PathLike[str] | None = None) -> Arrays:
        """The dataset's arrays by name, new at each call.

        Those of a D4RL file are all that it holds, as stored: also `infos/…` and
        `metadata/…`. Rewards and terminals of shape [N, 1] become [N].

        Args:
          h5path: an HDF5 file to read in place of the dataset's own.

        Raises:
          UserError: the dataset is not there, is damaged, or does not fit the
            environment.
        """
        arrays = self.source.read() if h5path is None else sources.read_file(h5path)
        what = f"The dataset of {self.name}" if h5path is None else f"{h5path}"
        required = ("observations", "actions", "rewards", "terminals")
        missing = [key for key in required if key not in arrays]
        if missing:
            raise UserError(
                f"{what} has no array {', '.join(missing)}; it holds "
                f"{', '.join(arrays) or 'nothing'}. It is not a D4RL file, or only a "
                "part of one: copy it again."
            )
        count = len(arrays["observations"])
        for key in ("rewards", "terminals"):
            if arrays[key].shape == (count, 1):
                arrays[key] = arrays[key][:, 0]
        shapes = {
            "observations": (count, *self.observation_space.shape),
            "actions": (count, *self.action_space.shape),
            "rewards": (count,),
            "terminals": (count,),
        }
        for key, shape in shapes.items():
            if arrays[key].shape != shape:
                raise UserError(
                    f"`{key}` of {what} has shape {arrays[key].shape}; the environment "
                    f"{self.name} asks for {shape}. Take the file that belongs to it."
                )
        return arrays

    def check_environment(self) -> None:
        """Raises `Error` with the reason where there is nothing to step."""
        reason = self._missing()
        if reason is not None:
            raise Error(f"{self.name} cannot be stepped: {reason}")

    def _make_environment(self) -> gymnasium.Env:
        self.check_environment()
        return single.make(self.source.env)

    def _missing(self) -> str | None:
        from offjax.evaluation import environments

        if environments.instructed(self.source.env):
            return "its policies are evaluated on instructions, by offjax alone"
        return environments.missing(self.source.env)


def set_dataset_path(path: str | os.PathLike[str]) -> None:
    """The folder in which D4RL's files are looked for first."""
    Path(path).mkdir(parents=True, exist_ok=True)
    os.environ["D4RL_DATASET_DIR"] = str(path)
