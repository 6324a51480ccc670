"""Evaluation of all slots of a job: parameters, rollouts, and their records."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from offjax import envs
from offjax.datasets.dataset import Dataset
from offjax.evaluation.rollout import Agent
from offjax.runner import programs, settings
from offjax.runner.devices import choose_layout
from offjax.runner.options import Options
from offjax.runner.settings import Job, Slots
from offjax.runner.stages import StageRun, context_of
from offjax.types import Params


class Evaluator:
    """Runs full episodes with the states that the stages have at the moment."""

    def __init__(
        self, job: Job, dataset: Dataset, options: Options, stages: list[StageRun]
    ) -> None:
        self._job, self._dataset, self._stages = job, dataset, stages
        self._options = options
        self._programs: dict[int, programs.Program] = {}
        self.seconds = 0.0

    @property
    def possible(self) -> bool:
        """Whether the dataset names an environment that runs on device."""
        spec = self._dataset.spec
        return spec is not None and spec.id in envs.JAX_ENVS

    @property
    def compile_seconds(self) -> float:
        """Seconds spent compiling."""
        return sum(p.compile_seconds for p in self._programs.values())

    @property
    def compilations(self) -> int:
        """Programs compiled: one per number of episodes."""
        return sum(p.compilations for p in self._programs.values())

    def agent(self) -> Agent:
        """How the recipe acts."""
        recipe = self._job.recipe
        policy = recipe.policy({s.name: s.config for s in recipe.stages})
        return Agent(policy, recipe.improve, recipe.q_function)

    def acting_slots(self) -> tuple[Slots, Params]:
        """The slots of all settings × seeds, and what acting reads, NumPy."""
        job, recipe, seeds = self._job, self._job.recipe, self._options.seeds
        slots = settings.stage_slots(job, "improve", seeds)
        names = [s.name for s in recipe.stages]
        states = context_of(job, self._stages, slots, names, len(seeds))
        each = [setting for setting in job.settings for _ in seeds]
        configs = {
            s.name: programs.stack_configs(s.config, [e.of(s.name) for e in each])
            for s in recipe.stages
        }
        improve = recipe.improve and programs.stack_configs(
            recipe.improve.config, [e.of("improve") for e in each]
        )
        return slots, Params(states, configs, improve)

    def rollout(self, episodes: int, eval_seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of full episodes, [settings, seeds, episodes]."""
        spec = self._dataset.spec
        assert spec is not None
        slots, params = self.acting_slots()
        layout = choose_layout(
            slots.num_slots, self._options.layout, self._options.max_devices
        )
        if episodes not in self._programs:
            self._programs[episodes] = programs.evaluation_program(
                self.agent(), envs.make(spec), spec, episodes, layout
            )
        compiled = self.compile_seconds
        begin = time.perf_counter()
        inputs = {"params": params, "seed": np.asarray(slots.seeds, np.uint32)}
        shared = layout.replicate({"eval_seed": np.uint32(eval_seed)})
        results = self._programs[episodes](layout.shard(inputs), shared)
        results = layout.gather(results)
        self.seconds += time.perf_counter() - begin - (self.compile_seconds - compiled)
        shape = (len(self._job.settings), len(self._options.seeds), episodes)
        returns, lengths = (np.asarray(x).reshape(shape) for x in results)
        return returns.astype(np.float64), lengths

    def rows(
        self, method: str, step: int
    ) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], np.ndarray]:
        """Rows of scores.csv and episodes.csv, and the scores [settings, seeds]."""
        options, spec = self._options, self._dataset.spec
        assert spec is not None
        returns, lengths = self.rollout(options.eval_episodes, options.eval_seed)
        scores = spec.score(returns.mean(-1))
        rows: list[tuple[Any, ...]] = []
        episodes: list[tuple[Any, ...]] = []
        for i, variant in enumerate(self._job.variants):
            for j, seed in enumerate(options.seeds):
                mine = returns[i, j]
                rows.append((
                    method, variant, self._dataset.card.id, seed, step, len(mine),
                    f"{mine.mean():.8g}", f"{mine.std():.8g}", f"{scores[i, j]:.6g}",
                ))  # fmt: skip
                episodes += [
                    (variant, seed, step, e, f"{r:.8g}", int(n))
                    for e, (r, n) in enumerate(zip(mine, lengths[i, j], strict=True))
                ]
        return rows, episodes, scores
