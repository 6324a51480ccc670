"""What a policy did under instructions, kept as described play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, LanguageDataset, annotate
from offjax.errors import UserError
from offjax.evaluation.host import typed
from offjax.evaluation.instructions import InstructedEnv, Trial
from offjax.types import EnvSpec


class Span(NamedTuple):
    """An instruction that was carried out."""

    slot: int
    trial: int
    stage: int  # which of the trial's instructions
    observations: np.ndarray  # [T + 1, O]
    actions: np.ndarray  # [T, A]


class Recorder:
    """An environment that remembers what `instructions.evaluate` has done in it.

    Each slot has `places` of `env`, slot after slot.
    """

    def __init__(self, env: InstructedEnv, places: int) -> None:
        self.num_envs, self.observation_dim = env.num_envs, env.observation_dim
        self._env, self._places = env, places
        self._begun = np.zeros(env.num_envs // places, int)  # trials of each slot
        self._trial = np.zeros(env.num_envs, int)
        self._stage = np.zeros(env.num_envs, int)
        self._now = np.zeros((env.num_envs, env.observation_dim), np.float32)
        self._seen: list[list[np.ndarray]] = [[] for _ in range(env.num_envs)]
        self._acted: list[list[np.ndarray]] = [[] for _ in range(env.num_envs)]
        self._spans: list[Span] = []

    @property
    def spans(self) -> list[Span]:
        """What was carried out, by slot, trial and stage."""
        return sorted(self._spans, key=lambda span: span[:3])

    def begin(self, indices: np.ndarray, starts: Sequence[Any]) -> np.ndarray:
        """Puts places [n] into starts [n]; a slot's trials begin in their order."""
        for place in indices.tolist():
            slot = place // self._places
            self._trial[place], self._stage[place] = self._begun[slot], -1
            self._begun[slot] += 1
        begun = self._env.begin(indices, starts)
        self._now = typed(self._now, begun)
        self._now[indices] = begun
        return self._now[indices].copy()

    def instruct(self, indices: np.ndarray, names: Sequence[str]) -> None:
        """Gives instructions [n] in the places' present states."""
        self._env.instruct(indices, names)
        for place in indices.tolist():
            self._stage[place] += 1
            self._seen[place], self._acted[place] = [self._now[place].copy()], []

    def step(self, indices: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One step of places [n]; observations [n, O]."""
        self._now[indices] = self._env.step(indices, actions)
        for place, action in zip(indices.tolist(), actions, strict=True):
            self._seen[place].append(self._now[place].copy())
            self._acted[place].append(np.array(action, np.float32))
        return self._now[indices].copy()

    def succeeded(self, indices: np.ndarray) -> np.ndarray:
        """Whether instructions have been done since they were given, [n] bool."""
        done = self._env.succeeded(indices)
        for place in np.asarray(indices)[done].tolist():
            of = place // self._places, int(self._trial[place]), int(self._stage[place])
            seen, acted = np.stack(self._seen[place]), np.stack(self._acted[place])
            self._spans.append(Span(*of, seen, acted))
        return done

    def limit(self, name: str) -> int:
        """Steps in which an instruction is to be done."""
        return self._env.limit(name)

    def close(self) -> None:
        """Ends the places."""
        self._env.close()


def described(
    spans: Sequence[Span], trials: Sequence[Trial], spec: EnvSpec, **card: Any
) -> LanguageDataset:
    """Spans as a recording: an episode for each trial, as far as it succeeded.

    `card` are id, source and identity, as `Dataset.from_arrays` takes them.

    Raises:
      UserError: nothing was carried out.
    """
    if not spans:
        raise UserError(
            f"None of the {len(trials)} trials was begun with success, so that there "
            "is nothing to learn from: let a better policy act, or ask for more."
        )
    said = [(trials[s.trial].names[s.stage], trials[s.trial].sentences[s.stage])
            for s in spans]  # fmt: skip
    names, instructions = np.unique([name for name, _ in said], return_inverse=True)
    sentences, texts = np.unique([text for _, text in said], return_inverse=True)
    ends = np.cumsum([len(span.actions) for span in spans])
    timeouts = np.zeros(ends[-1], bool)
    # The last span of each trial; those of one trial follow each other.
    of = [span[:2] for span in spans]
    last = [now != after for now, after in zip(of, [*of[1:], None], strict=True)]
    timeouts[ends[last] - 1] = True
    dataset = Dataset.from_arrays(
        np.concatenate([span.observations[:-1] for span in spans]),
        np.concatenate([span.actions for span in spans]),
        np.zeros(ends[-1], np.float32),
        np.zeros(ends[-1], bool),
        timeouts,
        np.concatenate([span.observations[1:] for span in spans]),
        spec=spec,
        **card,
    )
    starts = np.concatenate([[0], ends[:-1]])
    table = tuple(map(str, names)), tuple(map(str, sentences))
    return annotate(dataset, Annotations(starts, ends, instructions, texts, *table))
