"""Evaluation of all slots of a job: parameters, rollouts, and their records.

JAX environments are rolled out on device, all others stepped on the host under one
batched policy. Where training runs on an accelerator, a policy that is cheap enough
acts on the host's cores, and the accelerator trains on meanwhile.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from offjax import envs
from offjax.devices import hosts
from offjax.devices.layout import Layout, Program, choose_layout
from offjax.evaluation import environments, host, results, scene
from offjax.evaluation.batched import BatchedAgent
from offjax.evaluation.results import SlotResult
from offjax.evaluation.rollout import Agent
from offjax.runner import programs
from offjax.runner.options import Options
from offjax.runner.settings import Job
from offjax.runner.stages import (
    Slots,
    StageRun,
    layout_of,
    models_of,
    stage_slots,
)
from offjax.types import EnvSpec, Params, Pytree

if TYPE_CHECKING:
    from offjax.envs.batched import BatchedEnv

HOST_FLOPS = 2e6
"""Operations per action up to which a policy acts on the host's cores: about what a
MuJoCo step costs there."""


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
        self._programs: dict[int, Program] = {}
        self._places: dict[int, tuple[BatchedAgent, BatchedEnv]] = {}
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
        acting = self._acting_layout(self.acting_slots()[1])
        return acting.devices[0].platform == "cpu"

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling."""
        return sum(p.compile_seconds for p in self._all_programs())

    @property
    def compilations(self) -> int:
        """Programs compiled: on device, one per number of episodes."""
        return sum(p.compilations for p in self._all_programs())

    def _all_programs(self) -> list[Program]:
        acting = [p for agent, _ in self._places.values() for p in agent.programs]
        return [*self._programs.values(), *acting]

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

    def rollout(self, episodes: int, eval_seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of full episodes, [settings, seeds, episodes].

        Where the host steps the environments, `clipped` becomes the share [settings,
        seeds] of actions outside the box.
        """
        shape = self._shape
        compiled, begin = self.compile_seconds, time.perf_counter()
        if environments.on_device(self._spec):
            returns, lengths = self._on_device(episodes, eval_seed)
        else:
            found = self._on_host(episodes, eval_seed)
            returns, lengths = found.returns, found.lengths
            self.clipped = found.clipped.reshape(shape)
        self.seconds += time.perf_counter() - begin - (self.compile_seconds - compiled)
        returns = np.asarray(returns, np.float64).reshape(*shape, episodes)
        return returns, np.asarray(lengths).reshape(*shape, episodes)

    def prepare(self, states: Pytree) -> None:
        """Compiles the evaluation on device, where there is one, before it is due.

        With several hosts JAX compiles for arrays only, not for shapes: nothing is
        done.

        Args:
          states: like the last stage's, [slots, …]; their values are not read.
        """
        if self._programs or not self.possible or hosts.count() > 1:
            return
        if not environments.on_device(self._spec):
            return
        last = self._stages[-1]
        before, last.states = last.states, states
        layout, program, inputs = self._device_program(self._options.eval_episodes)
        last.states = before

        def like(x: Any) -> jax.ShapeDtypeStruct:
            shape = (len(layout.devices), layout.per_device, *np.shape(x)[1:])
            return jax.ShapeDtypeStruct(shape, x.dtype, sharding=layout.sharding)

        shared = layout.replicate({"eval_seed": np.uint32(0)})
        program.compile(jax.tree.map(like, inputs), shared)

    def _device_program(self, episodes: int) -> tuple[Layout, Program, Pytree]:
        """The program of that many episodes on device, where it runs, its inputs."""
        slots, params = self.acting_slots()
        layout = layout_of(slots.num_slots, self._options)
        if episodes not in self._programs:
            self._programs[episodes] = programs.evaluation_program(
                self.agent(), envs.make(self._spec), self._spec, episodes, layout
            )
        inputs = {"params": params, "seed": np.asarray(slots.seeds, np.uint32)}
        return layout, self._programs[episodes], inputs

    def _on_device(self, episodes: int, eval_seed: int) -> Any:
        layout, program, inputs = self._device_program(episodes)
        shared = layout.replicate({"eval_seed": np.uint32(eval_seed)})
        return layout.gather(program(layout.shard(inputs), shared))

    def _on_host(self, episodes: int, eval_seed: int) -> host.Episodes:
        from offjax.envs.batched import make_batched

        slots, params = self.acting_slots()
        spec, places = self._spec, host.num_places(slots.num_slots, episodes)
        if places not in self._places:
            layout = self._acting_layout(params)
            agent = BatchedAgent(self.agent(), spec, places, layout)
            env = make_batched(spec, slots.num_slots * places)
            self._places[places] = agent, env
        agent, env = self._places[places]
        agent.load(params)
        return host.evaluate(agent, env, spec.horizon, slots.seeds, episodes, eval_seed)

    def _acting_layout(self, params: Params) -> Layout:
        """Where a policy acts for environments on the host: see the module."""
        num_slots = len(self.slot_seeds)
        chosen = layout_of(num_slots, self._options)
        if chosen.devices[0].platform == "cpu":
            return chosen
        try:
            cores = tuple(jax.local_devices(backend="cpu"))
        except RuntimeError:  # JAX was told to leave the CPU alone
            return chosen
        if host.flops_per_action(self.agent(), params, self._spec) > HOST_FLOPS:
            return chosen
        lanes = min(len(cores), num_slots)
        return Layout("map", cores[: max(2, lanes)], lanes, num_slots)

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
        instructed = environments.instructed(self._spec)
        found = self._instructions() if instructed else self._episodes()
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

    def _episodes(self) -> list[SlotResult]:
        """Full episodes."""
        options = self._options
        found = self.rollout(options.eval_episodes, options.eval_seed)
        returns, lengths = (x.reshape(-1, options.eval_episodes) for x in found)
        clipped = None if self.clipped is None else self.clipped.ravel()
        return results.of_episodes(self._spec, returns, lengths, clipped)

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
        found = scene.evaluate(self.batched, name, given, self.slot_seeds, eval_seed)
        self.seconds += time.perf_counter() - begin
        return found
