"""Evaluation of all slots of a job: parameters, rollouts, and their records."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from offjax.devices.layout import Program, choose_layout
from offjax.evaluation import environments, host, results, scene
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.results import SlotResult
from offjax.evaluation.rollout import Agent
from offjax.runner import programs
from offjax.runner.options import Options
from offjax.runner.rollouts import Players, Rollouts
from offjax.runner.settings import Job
from offjax.runner.stages import Slots, StageRun, layout_of, models_of, stage_slots
from offjax.types import EnvSpec, Params, Pytree


class Rows(NamedTuple):
    """What is recorded of an evaluation."""

    scores: list[tuple[Any, ...]]  # of scores.csv
    episodes: list[tuple[Any, ...]]  # of episodes.csv
    metrics: list[tuple[Any, ...]]  # of metrics.csv
    values: np.ndarray  # scores, [settings, seeds]


class Acting(Protocol):
    """What acting reads of a run: a `Training`, or what an archive holds of one."""

    @property
    def job(self) -> Job:
        """Its recipe and settings."""

    @property
    def dataset(self) -> Any:
        """Its `spec` and `card.id`; a whole one where trials are taken from it."""

    @property
    def options(self) -> Options:
        """Seeds, layout and episodes."""

    @property
    def stages(self) -> Sequence[StageRun]:
        """With their states."""


class Evaluator:
    """Runs full episodes with the states that the stages have at the moment."""

    def __init__(self, training: Acting) -> None:
        self._job, self._dataset = training.job, training.dataset
        self._stages, self._options = training.stages, training.options
        self.seconds = 0.0
        self.clipped: np.ndarray | None = None

    @property
    def _spec(self) -> EnvSpec:
        assert self._dataset.spec is not None, "a dataset without an environment"
        return self._dataset.spec

    @functools.cached_property
    def missing(self) -> str | None:
        """Why there can be no scores, with the remedy; None if there can."""
        return environments.missing(self._dataset.spec)

    @functools.cached_property
    def environment(self) -> dict[str, Any] | None:
        """What scores are measured in, for the run's record."""
        return environments.describe(self._dataset.spec)

    @property
    def possible(self) -> bool:
        """Whether the dataset's environment can be made here."""
        return self.missing is None

    @functools.cached_property
    def behind(self) -> bool:
        """Whether the next chunk is dispatched before an evaluation begins.

        By itself only where both can run at once: the environments are the host's, and
        the policy acts on other devices than those that train.
        """
        if not self.possible:
            return False
        if self._options.eval_behind != "auto":
            return self._options.eval_behind == "on"
        if environments.on_device(self._spec) or jax.default_backend() == "cpu":
            return False
        acting = self.rollouts.acting_layout(self.players())
        return acting.devices[0].platform == "cpu"

    @functools.cached_property
    def rollouts(self) -> Rollouts:
        """Where the slots play full episodes."""
        return Rollouts(self.agent(), self._spec, self._options)

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling."""
        return sum(p.compile_seconds for p in self._programs)

    @property
    def compilations(self) -> int:
        """Programs compiled: on device, one per number of episodes."""
        return sum(p.compilations for p in self._programs)

    @property
    def _programs(self) -> list[Program]:
        return self.rollouts.programs if self.possible else []

    def agent(self) -> Agent:
        """How the recipe acts."""
        return Agent.of(self._job.recipe)

    def acting_slots(self) -> tuple[Slots, Params]:
        """The slots of all settings × seeds, and what acting reads, NumPy."""
        job, recipe, seeds = self._job, self._job.recipe, self._options.seeds
        slots = stage_slots(job, "improve", seeds)
        names = [s.name for s in recipe.stages]
        models = models_of(self._stages, slots, names, len(seeds))
        each = [setting for setting in job.settings for _ in seeds]
        acting = {
            name: programs.stack_configs(config, [e.of(name) for e in each])
            for name, config in recipe.acting.items()
        }
        improve = recipe.improve and programs.stack_configs(
            recipe.improve.config, [e.of("improve") for e in each]
        )
        return slots, Params(models, acting, improve)

    def players(self) -> Players:
        """All slots, as they act at the moment."""
        slots, params = self.acting_slots()
        return Players(slots.seeds, params, slots.num_slots)

    def _players_like(self, states: Pytree) -> Players:
        """`players` where the last stage has other states."""
        last = self._stages[-1]
        before, last.states = last.states, states
        try:
            return self.players()
        finally:
            last.states = before

    def rollout(self, episodes: int, eval_seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of full episodes, [settings, seeds, episodes].

        Where the host steps the environments, `clipped` becomes the share [settings,
        seeds] of actions outside the box.
        """
        (found,) = play([self], episodes, eval_seed)
        return found

    def film(self, count: int, folder: Path, eval_seed: int) -> list[Path]:
        """Videos of the first seed's first `count` episodes of each variant.

        On the host they are the episodes that `rollout` counts; those of a JAX
        environment differ in their randomness.
        """
        from offjax.evaluation.render import RenderedEnv

        spec = self._spec
        slots, params = self.acting_slots()
        layout = choose_layout(1, "auto", self._options.max_devices)
        agent = BatchedAgent(self.agent(), spec, count, layout)
        found: list[Path] = []
        for i, variant in enumerate(self._job.variants):
            slot = i * len(self._options.seeds)
            seed = int(slots.seeds[slot])
            name = re.sub(r"[^\w.=-]+", "_", variant)
            paths = [
                folder / f"{name}-seed{seed}-set{eval_seed}-episode{k}.mp4"
                for k in range(count)
            ]
            one = slice(slot, slot + 1)
            agent.load(jax.tree.map(lambda x, one=one: x[one], params))
            env = RenderedEnv(spec, paths)
            try:
                host.evaluate(agent, env, spec.horizon, [seed], count, eval_seed)
            finally:
                env.close()
            found += paths
        return found

    def rows(self, method: str, step: int) -> Rows:
        """Evaluates every slot as the options say; what is recorded of it."""
        (found,) = rows_together([self], method, step)
        return found

    def _rows(self, method: str, step: int, found: Sequence[SlotResult]) -> Rows:
        """What is recorded of the results of all slots."""
        names = [(v, s) for v in self._job.variants for s in self._options.seeds]
        rows = Rows([], [], [], np.zeros(len(names)))
        for slot, ((variant, seed), mine) in enumerate(zip(names, found, strict=True)):
            where = (method, variant, self._dataset.card.id, seed, step)
            rows.scores.append((*where, *mine.score_columns()))
            rows.episodes.extend(
                (variant, seed, step, *columns) for columns in mine.episode_columns()
            )
            rows.metrics.extend(
                (step, seed, variant, name, f"{value:.8g}")
                for name, value in mine.metrics.items()
                if value == value  # chains or cubes that there were none of
            )
            rows.values[slot] = mine.score
        return rows._replace(values=rows.values.reshape(self._shape))

    def _of_episodes(
        self, returns: np.ndarray, lengths: np.ndarray
    ) -> list[SlotResult]:
        """Results of full episodes [settings, seeds, episodes]."""
        episodes = returns.shape[-1]
        found = returns.reshape(-1, episodes), lengths.reshape(-1, episodes)
        clipped = None if self.clipped is None else self.clipped.ravel()
        return results.of_episodes(self._spec, *found, clipped)

    def _instructions(self) -> list[SlotResult]:
        """Single instructions and chains of them."""
        options, given_goals = self._options, self.agent().actor.given_goals
        sizes = options.eval_episodes, options.eval_chains
        given = scene.trials_on(self._dataset, given_goals, *sizes, options.eval_seed)
        return self.follow(given, options.eval_seed).results()

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self._job.settings), len(self._options.seeds)

    @property
    def slot_seeds(self) -> tuple[int, ...]:
        """The seed of every slot, settings × seeds."""
        return stage_slots(self._job, "improve", self._options.seeds).seeds

    def batched(self, places: int) -> BatchedAgent:
        """All slots' policies in that many places each, ready to begin."""
        slots, params = self.acting_slots()
        layout = layout_of(slots.num_slots, self._options)
        agent = BatchedAgent(self.agent(), self._spec, places, layout)
        agent.load(params)
        return agent

    def follow(self, given: scene.Trials, eval_seed: int) -> scene.Scores:
        """What all slots make of instructions."""
        begin, name = time.perf_counter(), scene.name_of(self._spec)
        found = scene.evaluate(
            self.batched, name, given, self.slot_seeds, eval_seed,
            cameras=self._spec.cameras,
        )  # fmt: skip
        self.seconds += time.perf_counter() - begin
        return found


def rows_together(
    evaluators: Sequence[Evaluator], method: str, step: int
) -> list[Rows]:
    """`Evaluator.rows` of several runs, all at the same step of one method.

    Those in the same environment are stepped together. What is recorded is the same.
    """
    found: dict[int, list[SlotResult]] = {}
    playing = []
    for i, mine in enumerate(evaluators):
        if environments.instructed(mine._spec):
            found[i] = mine._instructions()
        else:
            playing.append(i)
    if playing:
        options = evaluators[0]._options
        among = [evaluators[i] for i in playing]
        each = play(among, options.eval_episodes, options.eval_seed)
        for i, result in zip(playing, each, strict=True):
            found[i] = evaluators[i]._of_episodes(*result)
    return [mine._rows(method, step, found[i]) for i, mine in enumerate(evaluators)]


def play(
    evaluators: Sequence[Evaluator], episodes: int, eval_seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`Evaluator.rollout` of several runs; those in the same environment together."""
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    players = [mine.players() for mine in evaluators]
    for group in _groups(evaluators, players):
        first = evaluators[group[0]]
        compiled, begin = first.compile_seconds, time.perf_counter()
        together = Players.of([players[i] for i in group])
        whole = first.rollouts.run(together, episodes, eval_seed)
        compiled = first.compile_seconds - compiled
        seconds = (time.perf_counter() - begin - compiled) / len(group)
        for place, i in enumerate(group):
            mine, count = evaluators[i], players[i].run_slots
            slots = slice(place * count, (place + 1) * count)
            shape = mine._shape
            mine.seconds += seconds
            if whole.clipped is not None:
                mine.clipped = whole.clipped[slots].reshape(shape)
            returns = np.asarray(whole.returns[slots], np.float64)
            lengths = np.asarray(whole.lengths[slots])
            found[i] = (
                returns.reshape(*shape, episodes), lengths.reshape(*shape, episodes)
            )  # fmt: skip
    return [found[i] for i in range(len(evaluators))]


def prepare(evaluators: Sequence[Evaluator], states: Sequence[Pytree]) -> None:
    """Compiles the evaluations on device, where there are some, before they are due.

    Args:
      evaluators: of runs that are trained together.
      states: like those of each run's last stage, [slots, …]; values are not read.
    """
    some, players = [], []
    for mine, like in zip(evaluators, states, strict=True):
        if mine.possible and not environments.instructed(mine._spec):
            some.append(mine)
            players.append(mine._players_like(like))
    for group in _groups(some, players):
        some[group[0]].rollouts.prepare(Players.of([players[i] for i in group]))


def _groups(
    evaluators: Sequence[Evaluator], players: Sequence[Players]
) -> list[list[int]]:
    """Numbers of the evaluators, by whose slots can be played together."""
    found: list[list[int]] = []
    for i, mine in enumerate(evaluators):
        for group in found:
            same = evaluators[group[0]].rollouts.same(mine.rollouts)
            if same and players[group[0]].kind == players[i].kind:
                group.append(i)
                break
        else:
            found.append([i])
    return found
