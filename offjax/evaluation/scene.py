"""The scene benchmark: its trials, its scores, its ceiling and floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from offjax.behavior.scene import Oracle
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import require
from offjax.envs import scene_instructions as language
from offjax.envs.scene import ACTION_DIM, Simulator, Snapshot, decode
from offjax.envs.scene_batch import SceneBatch
from offjax.envs.scene_instructions import Instruction
from offjax.errors import UserError
from offjax.evaluation import chains, instructions
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.host import num_places
from offjax.evaluation.instructions import Outcome, Trial
from offjax.evaluation.results import SlotResult
from offjax.types import Camera, EnvSpec, Pytree

SINGLES, CHAINS = 110, 100
"""Trials of each kind in an evaluation."""
_SEEDS = 1_000_000
"""Starts are drawn from seeds below this; those of play are 31-bit hashes."""


class Trials(NamedTuple):
    """What one evaluation consists of."""

    singles: list[Trial]
    chains: list[Trial]


class Scores(NamedTuple):
    """What S slots made of the trials."""

    success: np.ndarray  # [S] share of single instructions
    cube_success: np.ndarray  # [S] of those that a cube is grasped for
    chain_rates: np.ndarray  # [S, 5] share of chains with 1, 2, … in a row
    chain_average: np.ndarray  # [S] instructions in a row
    per_instruction: dict[str, tuple[int, int]]  # successes, attempts; single ones
    singles: Outcome
    chains: Outcome

    def results(self) -> list[SlotResult]:
        """Of every slot: the single instructions, then the chains.

        The return is the average length of the chains, or, without chains, the share of
        single instructions that succeeded, whose percentage is the score.
        """
        singles, chained = self.singles, self.chains
        rated = chained.solved if chained.solved.size else singles.solved
        solved = np.concatenate([singles.solved, chained.solved], axis=1)
        steps = np.concatenate([singles.steps, chained.steps], axis=1)
        return [
            SlotResult(
                rated[slot].mean(),
                rated[slot].std(),
                float(100.0 * self.success[slot]),
                singles.solved.shape[1],
                list(zip(solved[slot].tolist(), steps[slot].tolist(), strict=True)),
                self.metrics(slot),
            )
            for slot in range(len(solved))
        ]

    def metrics(self, slot: int) -> dict[str, float]:
        """A slot's scores by name."""
        found = {
            "evaluation/success": self.success[slot],
            "evaluation/cube_success": self.cube_success[slot],
            "evaluation/chain_average": self.chain_average[slot],
        }
        for i, rate in enumerate(self.chain_rates[slot], start=1):
            found[f"evaluation/chain_{i}"] = rate
        return {name: float(value) for name, value in found.items()}


def trials(
    name: str,
    singles: int = SINGLES,
    num_chains: int = CHAINS,
    eval_seed: int = 0,
    held_out: bool = False,
    compound: bool = False,
) -> Trials:
    """The trials of a scene, the same for the same arguments.

    Args:
      name: scene.
      singles: number of single instructions, shared among all as evenly as possible.
      num_chains: number of chains of five.
      eval_seed: number of the set.
      held_out: say it in sentences that training does not see.
      compound: let the single ones be compound ones.

    Raises:
      UserError: OGBench is not installed, or an instruction is nowhere feasible.
    """
    rng = np.random.default_rng((eval_seed, 3))
    simulator = Simulator(name)
    scene = simulator.scene
    known = language.instructions(name, compound)

    def start() -> tuple[int, Any]:
        seed = int(rng.integers(_SEEDS))
        return seed, decode(scene, simulator.reset(0, seed))

    def say(instruction: Instruction) -> str:
        words = instruction.held_out if held_out else instruction.wordings
        return words[rng.integers(len(words))]

    def single(instruction: Instruction) -> Trial:
        for _ in range(10_000):
            seed, state = start()
            if language.feasible(scene, instruction, state):
                return Trial(seed, (instruction.name,), (say(instruction),))
        raise UserError(f"{instruction.name!r} is feasible in no start of {name!r}.")

    def chain() -> Trial:
        seed, state = start()
        names = language.sample_chain(scene, state, rng)
        simple = language.instructions(name)
        return Trial(seed, names, tuple(say(simple[n]) for n in names))

    order = list(known.values())
    return Trials(
        [single(order[i % len(order)]) for i in range(singles)],
        [chain() for _ in range(num_chains)],
    )


def replayed(dataset: Dataset, count: int, eval_seed: int = 0) -> list[Trial]:
    """`count` single instructions from where play carried them out, with true subgoals.

    Each trial starts in the recorded state and gives the policy the states that the
    recording went through: perfect subgoals. They are stratified over the instructions
    that are no compounds.

    Raises:
      UserError: the recording holds no snapshots.
    """
    spans = require(dataset)
    if not spans.snapshots:
        raise UserError(
            f"Dataset {dataset.card.id!r} holds no simulator states to start from; "
            "use one that was collected by this project."
        )
    rng = np.random.default_rng((eval_seed, 4))
    order = rng.permutation(len(spans))
    kinds = [i for i, n in enumerate(spans.names) if "+" not in n]
    groups = [order[spans.instructions[order] == kind] for kind in kinds]
    rounds = [group[i] for i in range(count) for group in groups if i < len(group)]
    chosen = rounds[:count]
    longest = max(spans.ends[i] - spans.starts[i] for i in chosen)
    found = []
    for i in chosen:
        rows = np.minimum(np.arange(longest) + spans.starts[i], spans.ends[i] - 1)
        snapshot = Snapshot(*(spans.snapshots[f][i] for f in Snapshot._fields))
        name = spans.names[spans.instructions[i]]
        goals = {"goals": dataset.observations[rows]}
        found.append(Trial(snapshot, (name,), (spans.text(i),), (goals,)))
    return found


def trials_on(
    dataset: Dataset, given_goals: bool, singles: int, num_chains: int, eval_seed: int
) -> Trials:
    """The trials of a policy on a scene's play.

    A policy that pursues given states (`Actor.given_goals`) gets recorded ones, of
    which there are no chains.

    Raises:
      UserError: chains for a policy that pursues given states, or a recording that
        cannot be replayed.
    """
    if not given_goals:
        assert dataset.spec is not None
        return trials(name_of(dataset.spec), singles, num_chains, eval_seed)
    if num_chains:
        raise UserError(
            f"eval_chains={num_chains}: this policy pursues states of the recording, "
            "which carries out one instruction at a time; leave eval_chains at 0."
        )
    return Trials(replayed(dataset, singles, eval_seed), [])


def name_of(spec: EnvSpec) -> str:
    """The scene of a dataset's environment."""
    return dict(spec.kwargs)["scene"]


def evaluate(
    agents: Callable[[int], BatchedAgent],
    name: str,
    given: Trials,
    seeds: Sequence[int],
    eval_seed: int = 0,
    processes: int | None = None,
    cameras: Sequence[Camera] = (),
) -> Scores:
    """What every slot's policy makes of instructions.

    Args:
      agents: number of places of each slot → a loaded agent.
      name: scene.
      given: what to evaluate on.
      seeds: seed of each slot.
      eval_seed: number of the policy's random stream.
      processes: that simulate and draw; by default one per available core.
      cameras: what the policy sees, if not the state.

    Raises:
      UserError: OGBench is not installed, or there is no OpenGL to draw with.
    """
    places = len(seeds) * _most_places(len(seeds), given)
    env = SceneBatch(name, places, processes, cameras)
    return scores(name, given, *_outcomes(env, given, agents, seeds, eval_seed))


def reference(name: str, given: Trials, oracle: bool, seed: int = 0) -> Scores:
    """Scores of the scripted oracles, or of uniform actions: ceiling and floor."""
    env = SceneBatch(name, _most_places(1, given), processes=0 if oracle else None)

    def agents(places: int) -> instructions.Follower:
        return OracleAgent(env, places, seed) if oracle else RandomAgent(places, seed)

    return scores(name, given, *_outcomes(env, given, agents, [seed]))


def _most_places(num_slots: int, given: Trials) -> int:
    return max(num_places(num_slots, len(some)) for some in given if some)


def _outcomes(
    env: SceneBatch,
    given: Trials,
    agents: Callable[[int], instructions.Follower],
    seeds: Sequence[int],
    eval_seed: int = 0,
) -> list[Outcome]:
    """Outcomes of singles and chains; closes the environment."""
    none = np.zeros((len(seeds), 0), int)
    found = []
    try:
        for some in given:
            if not some:
                found.append(Outcome(none, none))
                continue
            agent = agents(num_places(len(seeds), len(some)))
            found.append(instructions.evaluate(agent, env, some, seeds, eval_seed))
    finally:
        env.close()
    return found


def scores(name: str, given: Trials, singles: Outcome, chained: Outcome) -> Scores:
    """Scores of outcomes of `given` in a scene."""
    known = language.all_instructions(name)
    cube = [known[trial.names[0]].is_cube for trial in given.singles]
    done, solved = singles.solved > 0, chained.solved
    unknown = np.full(len(done), np.nan)
    return Scores(
        done.mean(axis=1) if len(cube) else unknown,
        done[:, cube].mean(axis=1) if any(cube) else unknown,
        chains.success_rates(solved) if solved.size else np.tile(unknown, (5, 1)).T,
        chains.average_length(solved) if solved.size else unknown,
        instructions.per_instruction(given.singles, singles),
        singles,
        chained,
    )


class _Single:
    """A policy of one slot that reads no sentences."""

    num_slots = 1

    def __init__(self, places: int) -> None:
        self.places = places

    def embed(self, sentences: Sequence[str]) -> dict[str, np.ndarray]:
        """No task."""
        del sentences
        return {}

    def init(self, mask: np.ndarray, keys: np.ndarray, tasks: Pytree = None) -> None:
        """Nothing is remembered."""


class RandomAgent(_Single):
    """Uniform actions in one slot: the benchmark's floor."""

    def __init__(self, places: int, seed: int = 0) -> None:
        super().__init__(places)
        self._rng = np.random.default_rng(seed)

    def act(
        self, observations: np.ndarray, rewards: np.ndarray, active: np.ndarray
    ) -> np.ndarray:
        """Actions [1, P, 5] in [-1, 1]."""
        del observations, rewards
        return self._rng.uniform(-1, 1, (*active.shape, ACTION_DIM)).astype(np.float32)


class OracleAgent(_Single):
    """OGBench's scripted oracles in one slot: the benchmark's ceiling.

    They read the simulator's state: it has to be simulated in this process
    (`SceneBatch(…, processes=0)`).
    """

    def __init__(self, env: SceneBatch, places: int, seed: int = 0) -> None:
        super().__init__(places)
        assert env.simulator is not None
        self._env = env
        self._oracles = [Oracle(env.simulator, i, seed + i) for i in range(places)]

    def init(self, mask: np.ndarray, keys: np.ndarray, tasks: Pytree = None) -> None:
        """Takes up the instructions that the places were given."""
        for place in np.flatnonzero(mask).tolist():
            self._oracles[place].begin(self._env.instruction(place))

    def act(
        self, observations: np.ndarray, rewards: np.ndarray, active: np.ndarray
    ) -> np.ndarray:
        """Actions [1, P, 5] in [-1, 1]."""
        actions = np.zeros((*active.shape, ACTION_DIM), np.float32)
        for place in np.flatnonzero(active):
            actions[0, place] = self._oracles[place].action(observations[0, place])
        return actions
