"""Evaluation in language: single instructions, and chains of them.

A trial is a start and instructions to be done one after another, without a reset; it
ends with the first that is not done in time. The policy begins anew with every
instruction. Trial i of a seed depends on that seed and i alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from offjax.errors import UserError
from offjax.evaluation import chains
from offjax.evaluation.chains import Chain
from offjax.evaluation.host import Queue, episode_keys, typed
from offjax.types import Pytree


class Follower(Protocol):
    """What is read of a `BatchedAgent`."""

    num_slots: int
    places: int

    def embed(self, sentences: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Sentences [K] → what tasks are made of, arrays [K, ...] by name."""

    def init(self, mask: np.ndarray, keys: np.ndarray, tasks: Pytree = None) -> None:
        """Begins anew where `mask` [S, P] is true."""

    def act(
        self, observations: np.ndarray, rewards: np.ndarray, active: np.ndarray
    ) -> np.ndarray:
        """Actions [S, P, A] of one step."""


class InstructedEnv(Protocol):
    """Places in which instructions are carried out."""

    num_envs: int
    observation_dim: int

    def begin(self, indices: np.ndarray, starts: Sequence[Any]) -> np.ndarray:
        """Puts places [n] into starts [n]; observations [n, O], f32 or uint8."""

    def step(self, indices: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """One step of places [n]; observations [n, O]."""

    def instruct(self, indices: np.ndarray, names: Sequence[str]) -> None:
        """Gives instructions [n] in the places' present states."""

    def succeeded(self, indices: np.ndarray) -> np.ndarray:
        """Whether they have been done since, [n] bool."""

    def limit(self, name: str) -> int:
        """Steps in which an instruction is to be done."""

    def close(self) -> None:
        """Ends the places."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """What is to be done, and how it is said."""

    start: Any  # as the environment's `begin` takes it
    names: tuple[str, ...]  # instructions, in order
    sentences: tuple[str, ...]  # how each is said to the policy
    # what else the policy is given for each, such as true subgoals
    goals: tuple[Mapping[str, np.ndarray], ...] = ()


class Outcome(NamedTuple):
    """What became of N trials in each of S slots."""

    solved: np.ndarray  # [S, N] instructions done before the first failure
    steps: np.ndarray  # [S, N] in all


def evaluate(
    agent: Follower,
    env: InstructedEnv,
    trials: Sequence[Trial],
    seeds: Sequence[int],
    eval_seed: int = 0,
) -> Outcome:
    """Carries out every trial once in every slot.

    Args:
      agent: a loaded `BatchedAgent`; S slots with P places each, P at most N.
      env: S·P places, slot after slot.
      trials: [N].
      seeds: [S] seed of each slot.
      eval_seed: number of the policy's random stream.
    """
    return _Evaluation(agent, env, trials, seeds, eval_seed).run()


class _Evaluation:
    """An evaluation under way: which trial each place is in, and how far."""

    def __init__(
        self,
        agent: Follower,
        env: InstructedEnv,
        trials: Sequence[Trial],
        seeds: Sequence[int],
        eval_seed: int,
    ) -> None:
        self.agent, self.env, self.trials = agent, env, trials
        self.lengths = np.array([len(trial.names) for trial in trials])
        self.longest = int(self.lengths.max())
        said = sorted({s for trial in trials for s in trial.sentences})
        self.row = {sentence: i for i, sentence in enumerate(said)}
        self.encoding = dict(agent.embed(said))
        self.keys = episode_keys(seeds, len(trials) * self.longest, eval_seed)
        self.queue = Queue(agent.num_slots, agent.places, len(trials))
        self.solved = np.zeros((agent.num_slots, len(trials)), np.int64)
        self.steps = np.zeros_like(self.solved)
        shape = (agent.num_slots, agent.places)
        self.stage = np.zeros(shape, np.int64)  # which of its trial's instructions
        self.time = np.zeros(shape, np.int64)  # since the instruction was given
        self.limit = np.zeros(shape, np.int64)
        self.observations = np.zeros((*shape, env.observation_dim), np.float32)

    def run(self) -> Outcome:
        self._begin(np.ones_like(self.queue.active))
        while self.queue.active.any():
            done = self._step()
            late = self.queue.active & ~done & (self.time >= self.limit)
            trial = self.queue.item
            self.solved[np.nonzero(done)[0], trial[done]] += 1
            self.stage += done
            over = late | (done & (self.stage >= self.lengths[trial]))
            if over.any():
                self._begin(over)
            if (done & ~over).any():
                self._instruct(done & ~over)
        return Outcome(self.solved, self.steps)

    def _begin(self, free: np.ndarray) -> None:
        """Gives places [S, P] the next trials of their slots, while there are any."""
        fresh = self.queue.take(free)
        self.stage = np.where(fresh, 0, self.stage)
        if fresh.any():
            starts = [self.trials[i].start for i in self.queue.item[fresh].tolist()]
            begun = self.env.begin(np.flatnonzero(fresh), starts)
            self.observations = typed(self.observations, begun)
            self.observations[fresh] = begun
            self._instruct(fresh)

    def _instruct(self, which: np.ndarray) -> None:
        """Gives places [S, P] the instruction that they have come to."""
        trial = self.queue.item
        at = zip(trial[which].tolist(), self.stage[which].tolist(), strict=True)
        names = [self.trials[i].names[j] for i, j in at]
        self.env.instruct(np.flatnonzero(which), names)
        self.limit[which] = [self.env.limit(name) for name in names]
        self.time[which] = 0
        number = trial * self.longest + self.stage
        number = np.minimum(number, self.keys.shape[1] - 1)[..., None]
        keys = np.take_along_axis(self.keys, number, axis=1)
        self.agent.init(which, keys, self._tasks())

    def _tasks(self) -> dict[str, np.ndarray]:
        """What each place's policy is given, leaves [S, P, ...]."""
        said = np.zeros(self.stage.shape, np.int64)
        goals: list[Mapping[str, np.ndarray]] = []
        for at in np.ndindex(*said.shape):
            trial = self.trials[int(self.queue.item[at])]
            stage = min(int(self.stage[at]), len(trial.names) - 1)
            said[at] = self.row[trial.sentences[stage]]
            goals += trial.goals[stage : stage + 1]
        tasks = {key: np.asarray(value)[said] for key, value in self.encoding.items()}
        for key in goals[0] if goals else ():
            stacked = np.stack([goal[key] for goal in goals])
            tasks[key] = stacked.reshape(*said.shape, *stacked.shape[1:])
        return tasks

    def _step(self) -> np.ndarray:
        """One step of the active places; which have done their instruction, [S, P]."""
        active = self.queue.active
        rewards = np.zeros(active.shape)
        actions = self.agent.act(self.observations, rewards, active)
        places = np.flatnonzero(active)
        self.observations[active] = self.env.step(places, actions[active])
        self.time += active
        np.add.at(self.steps, (np.nonzero(active)[0], self.queue.item[active]), 1)
        done = np.zeros_like(active)
        done[active] = self.env.succeeded(places)
        return done


def shuffled(trials: Sequence[Trial], seed: int = 0) -> list[Trial]:
    """The trials with sentences of other instructions: a control.

    Each instruction is said in the words of one other, always the same; a policy that
    does not read does as well as before.
    """
    said: dict[str, list[str]] = {}
    for trial in trials:
        for name, sentence in zip(trial.names, trial.sentences, strict=True):
            said.setdefault(name, []).append(sentence)
    order = np.random.default_rng(seed).permutation(sorted(said)).tolist()
    other = dict(zip(order, order[1:] + order[:1], strict=True))
    rng = np.random.default_rng((seed, 1))

    def spoken(name: str) -> str:
        words = said[other[name]]
        return words[rng.integers(len(words))]

    return [
        dataclasses.replace(t, sentences=tuple(map(spoken, t.names))) for t in trials
    ]


def per_instruction(
    trials: Sequence[Trial], outcome: Outcome
) -> dict[str, tuple[int, int]]:
    """Successes and attempts of every instruction, over all slots."""
    names = [trial.names for trial in trials] * len(outcome.solved)
    return chains.per_task(names, outcome.solved.ravel().tolist())


def of_chains(given: Sequence[Chain], sentences: Mapping[str, str]) -> list[Trial]:
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
