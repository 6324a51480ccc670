"""One recorded dataset: flat arrays, episode bounds and a card.

Rows are steps in the order of recording. An episode ends where the MDP ended
(`terminals`), where the recording was cut (`timeouts`), or at the last row.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from offjax.datasets import checks
from offjax.errors import UserError
from offjax.types import EnvSpec

DataDir = str | os.PathLike[str] | None
"""Folder in which datasets lie; None for the usual ones."""


@dataclasses.dataclass(frozen=True)
class Card:
    """What a dataset holds, in numbers, and where it comes from.

    Runs on datasets of equal identity belong together: it is the hash of a collected
    dataset's specification, else of the content. The checksum, of the content, only
    informs: floats differ in the last bits between processors.
    """

    id: str  # name that loads it
    source: str  # where it was read, or how it was made
    identity: str
    checksum: str
    rows: int
    episodes: int  # an incomplete last one included
    terminals: int
    timeouts: int
    return_min: float  # of an episode, undiscounted
    return_mean: float
    return_max: float
    reward_min: float  # of a row
    reward_max: float
    length_min: int  # of an episode, in steps
    length_max: int
    notes: tuple[str, ...] = ()  # what was done to the data on the way in

    def __str__(self) -> str:
        lines = [
            f"dataset   {self.id}",
            f"source    {self.source}",
            f"rows      {self.rows:,} in {self.episodes:,} episodes of "
            f"{self.length_min} to {self.length_max} steps",
            f"ends      {self.terminals:,} terminals, {self.timeouts:,} time-outs",
            f"returns   min {self.return_min:.4g}, mean {self.return_mean:.4g}, "
            f"max {self.return_max:.4g}",
            f"rewards   {self.reward_min:.4g} to {self.reward_max:.4g}",
            f"identity  {self.identity[:16]}  (checksum {self.checksum[:16]})",
        ]
        return "\n".join(lines + [f"note      {note}" for note in self.notes])


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Recorded steps as NumPy arrays, [row, ...].

    `next_observations` is None where the source holds only row i + 1, which at the
    end of an episode belongs to the next one. `infos` are further arrays [N, ...]
    that were asked for (qpos, qvel), and no part of the identity.

    Where the environment has cameras, observations are rows of bytes (`EnvSpec`),
    perhaps of a mapped file; their last ones of each episode may be
    `final_observations`, in place of all `next_observations`.
    """

    observations: np.ndarray  # [N, O] f32; uint8 where there are cameras
    actions: np.ndarray  # [N, A] f32, in the environment's units
    rewards: np.ndarray  # [N] f32
    terminals: np.ndarray  # [N] bool, the MDP ended with this step
    timeouts: np.ndarray  # [N] bool, the recording was cut after this step
    next_observations: np.ndarray | None  # [N, O], as observations
    card: Card  # its numbers and origin
    spec: EnvSpec | None = None  # where its policies are evaluated, if known
    infos: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    final_observations: np.ndarray | None = None  # [E, O] after each episode's last row

    @classmethod
    def from_arrays(
        cls,
        observations: Any,
        actions: Any,
        rewards: Any,
        terminals: Any,
        timeouts: Any = None,
        next_observations: Any = None,
        spec: EnvSpec | None = None,
        id: str = "arrays",
        source: str = "arrays",
        identity: str | None = None,
        notes: tuple[str, ...] = (),
        infos: Mapping[str, Any] | None = None,
        final_observations: Any = None,
        checksum: str | None = None,
    ) -> Dataset:
        """A dataset from the user's own arrays.

        Without `timeouts`, episodes that did not terminate are cut every
        `spec.horizon` steps. Actions that leave the bounds of `spec` by less than
        1e-4 are rounding and are clipped; larger excesses are an error. `[N, 1]`
        rewards and flags are taken as `[N]`.

        Args:
          observations: [N, O], or a Dict of observation, achieved_goal and
            desired_goal, each [N, ...]. If the spec has cameras, bytes [N, O] or a Dict
            of images [N, H, W, 3].
          actions: [N, A] floats; discrete actions (integers) are refused.
          rewards: [N].
          terminals: [N] booleans, or zeros and ones.
          timeouts: [N], likewise.
          next_observations: as observations.
          spec: evaluation environment, action bounds and reference scores.
          id: on the card, like source, identity (by default the content's) and notes.
          source: see `id`.
          identity: see `id`.
          notes: see `id`.
          infos: further arrays [N, ...], kept as they are.
          final_observations: of each episode [E, O], if there are cameras.
          checksum: of the content, where it is known.

        Raises:
          UserError: no rows, a Dict of another layout, no episode ends, NaN or
            infinity, wrong shapes or lengths, flags that are not boolean, actions
            outside their bounds, or bounds that are inverted or infinite.
        """
        cameras = () if spec is None else spec.cameras

        def observed(value: Any, name: str, rows: int | None = None) -> np.ndarray:
            if cameras:
                return checks.pixels(value, name, cameras, rows)
            width = None if rows is None else observations.shape[1]
            return checks.matrix(checks.goal_vector(value, name), name, rows, width)

        observations = observed(observations, "observations")
        rows = len(observations)
        actions = checks.matrix(checks.continuous(actions, "actions"), "actions", rows)
        rewards = checks.vector(rewards, "rewards", rows)
        terminals = checks.flags(terminals, "terminals", rows)
        if next_observations is not None:
            next_observations = observed(next_observations, "next_observations", rows)
        if spec is not None:
            checks.matches_spec(observations, actions, spec)
            actions = checks.clip_actions(actions, spec)
        if timeouts is not None:
            timeouts = checks.flags(timeouts, "timeouts", rows)
        elif spec is not None:
            timeouts = horizon_timeouts(terminals, spec.horizon)
        elif terminals.any():
            timeouts = np.zeros(rows, bool)
        else:
            raise UserError(
                f"The {rows} rows of dataset {id!r} hold no episode: no row of "
                "`terminals` is set and there are no `timeouts`. Pass `timeouts` "
                "(true at the last row of each episode), or a `spec` whose horizon "
                "says where episodes are cut."
            )
        arrays = (observations, actions, rewards, terminals, timeouts)
        checksum = checksum or content_hash(*arrays, next_observations)
        ends = _episode_ends(terminals, timeouts)
        if final_observations is not None:
            final_observations = observed(
                final_observations, "final_observations", len(ends)
            )
        lengths = np.diff(ends, prepend=0)
        returns = _episode_returns(rewards, ends - lengths)
        card = Card(
            id=id,
            source=source,
            identity=identity or checksum,
            checksum=checksum,
            rows=rows,
            episodes=len(ends),
            terminals=int(terminals.sum()),
            timeouts=int(timeouts.sum()),
            return_min=float(returns.min()),
            return_mean=float(returns.mean()),
            return_max=float(returns.max()),
            reward_min=float(rewards.min()),
            reward_max=float(rewards.max()),
            length_min=int(lengths.min()),
            length_max=int(lengths.max()),
            notes=notes,
        )
        kept = {key: np.asarray(value) for key, value in (infos or {}).items()}
        for key, value in kept.items():
            checks.same_length(value, f"infos/{key}", rows)
        return cls(*arrays, next_observations, card, spec, kept, final_observations)

    def __len__(self) -> int:
        return len(self.rewards)

    @functools.cached_property
    def episode_ends(self) -> np.ndarray:
        """Index one past the last row of each episode, [E] int64."""
        return _episode_ends(self.terminals, self.timeouts)

    @functools.cached_property
    def episode_starts(self) -> np.ndarray:
        """Index of the first row of each episode, [E] int64."""
        return np.concatenate([[0], self.episode_ends[:-1]])

    @property
    def episode_lengths(self) -> np.ndarray:
        """Steps of each episode, [E] int64."""
        return self.episode_ends - self.episode_starts

    @functools.cached_property
    def episode_returns(self) -> np.ndarray:
        """Undiscounted return of each episode, [E] f64."""
        return _episode_returns(self.rewards, self.episode_starts)

    @functools.cached_property
    def return_spread(self) -> np.float64:
        """Largest less smallest return of an episode."""
        return np.ptp(self.episode_returns)


def horizon_timeouts(terminals: np.ndarray, horizon: int) -> np.ndarray:
    """Every `horizon`-th step since the last terminal or such step, [N] bool."""
    rows = np.arange(len(terminals))
    starts = np.where(np.concatenate([[True], terminals[:-1]]), rows, 0)
    steps = rows - np.maximum.accumulate(starts)
    return steps % horizon == horizon - 1


def content_hash(*arrays: np.ndarray | None) -> str:
    """SHA-256 of the arrays' shapes, types and bytes; None is skipped."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is not None:
            digest.update(f"{array.shape}{array.dtype.str}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _episode_ends(terminals: np.ndarray, timeouts: np.ndarray) -> np.ndarray:
    last = terminals | timeouts
    last[-1] = True
    return np.flatnonzero(last) + 1


def _episode_returns(rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.add.reduceat(rewards.astype(np.float64), starts)
