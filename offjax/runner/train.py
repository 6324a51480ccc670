"""The loop of a run: stages, chunks, evaluations, checkpoints, records."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import inspect
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from offjax import envs, recipes
from offjax.datasets.dataset import Dataset
from offjax.errors import UserError
from offjax.evaluation.rollout import Agent
from offjax.runner import programs, settings, sinks
from offjax.runner.checkpoints import Checkpoints, StageStore
from offjax.runner.devices import Layout, choose_layout
from offjax.runner.progress import Progress
from offjax.runner.records import (
    SCHEMA,
    RunFolder,
    digest,
    environment,
    find_runs,
    write_json,
)
from offjax.runner.settings import Job, Slots
from offjax.types import Params, Pytree, Stage


@dataclasses.dataclass(frozen=True)
class Options:
    """How to run; nothing here is a hyperparameter of a method.

    Attributes:
      num_seeds: seeds `seed` … `seed + num_seeds − 1`.
      seed: the first seed.
      eval_every: updates between evaluations of the last stage; 0 = at its end only.
      eval_episodes: full episodes per seed and evaluation.
      eval_seed: number of the set of evaluation episodes; tuning uses another.
      log_every: updates between metrics; 0 = twenty times a stage.
      checkpoint_every: updates between checkpoints; 0 = ten times a stage.
      runs_dir: where run folders go.
      layout: "auto", "map" or "vmap".
      resume: continue the newest unfinished run of the same configuration.
      reuse_stages: take stages from the store instead of training them again.
      log: optional sinks beside the CSV files.
      quiet: no progress lines.
    """

    num_seeds: int = 5
    seed: int = 0
    eval_every: int = 0
    eval_episodes: int = 20
    eval_seed: int = 0
    log_every: int = 0
    checkpoint_every: int = 0
    runs_dir: str = "runs"
    layout: str = "auto"
    resume: bool = False
    reuse_stages: bool = True
    log: tuple[str, ...] = ()
    quiet: bool = False

    def validate(self) -> None:
        """Raises `UserError` for numbers that cannot be meant."""
        if self.num_seeds < 1:
            raise UserError(f"num_seeds={self.num_seeds}: at least one seed is needed.")
        for name in ("seed", "eval_every", "eval_seed", "log_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise UserError(f"{name}={getattr(self, name)} must not be negative.")
        if self.eval_episodes < 1:
            raise UserError(f"eval_episodes={self.eval_episodes}: at least 1 is needed.")

    @property
    def seeds(self) -> list[int]:
        """The seeds' numbers."""
        return list(range(self.seed, self.seed + self.num_seeds))


@dataclasses.dataclass
class StageRun:
    """A stage of a run: its slots, its identity, and, once trained, its states."""

    stage: Stage
    slots: Slots
    layout: Layout
    key: str
    first_step: int  # total steps before it
    states: Pytree = None  # NumPy, leading axis [slots]
    diverged: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    @property
    def configs(self) -> Any:
        """The stage's config with leading axis [slots] on its traced leaves."""
        return programs.stack_configs(self.stage.config, self.slots.values)

    @property
    def last_step(self) -> int:
        """Total steps at its end."""
        return self.first_step + self.stage.num_steps


def resolve(job: Job, method: str, preset: str, dataset: Dataset, options: Options) -> dict:
    """Content of config.json: all that determines a run's results."""
    recipe = job.recipe
    return {
        "schema": SCHEMA,
        "method": method,
        "dataset": dataset.card.id,
        "dataset_identity": dataset.card.identity,
        "preset": preset,
        "seeds": options.seeds,
        "stages": {
            s.name: {
                "algorithm": s.algorithm.__name__.rsplit(".", 1)[-1],
                "num_steps": s.num_steps,
                "config": dataclasses.asdict(s.config),
            }
            for s in recipe.stages
        },
        "improve": None
        if recipe.improve is None
        else {
            "operator": recipe.improve.name,
            "config": dataclasses.asdict(recipe.improve.config),
        },
        "settings": [
            {"variant": s.variant, "values": {f"{o}.{n}": v for (o, n), v in s.values}}
            for s in job.settings
        ],
        "overrides": {name: list(values) for name, values in job.overrides.items()},
        "eval_every": options.eval_every,
        "eval_episodes": options.eval_episodes,
        "eval_seed": options.eval_seed,
        "layout": options.layout,
    }


def _stage_key(stage: Stage, slots: Slots, dataset: Dataset, layout: Layout, upstream: Mapping[str, str]) -> str:
    """Hash of all that determines a stage's states, the code of its batches included."""
    code = "".join(
        inspect.getsource(f) for f in (stage.algorithm, stage.prepare, stage.sampler)
    )
    return digest({
        "schema": SCHEMA,
        "name": stage.name,
        "code": hashlib.sha256(code.encode()).hexdigest(),
        "config": dataclasses.asdict(stage.config),
        "values": [sorted(v.items()) for v in slots.values],
        "seeds": slots.seeds,
        "num_steps": stage.num_steps,
        "dataset": dataset.card.identity,
        "layout": layout.kind,
        "upstream": {name: upstream[name] for name in stage.reads},
    })


def plan_stages(job: Job, dataset: Dataset, options: Options) -> list[StageRun]:
    """The stages of a job in their order, with slots, layout and identity."""
    runs: list[StageRun] = []
    keys: dict[str, str] = {}
    for stage in job.recipe.stages:
        missing = [name for name in stage.reads if name not in keys]
        if missing:
            raise UserError(f"stage {stage.name} reads {missing}, which come later.")
        if stage.num_steps < 1:
            raise UserError(f"{stage.name}.num_steps={stage.num_steps}: at least 1 is needed.")
        slots = settings.stage_slots(job, stage.name, options.seeds)
        layout = choose_layout(slots.num_slots, options.layout)
        keys[stage.name] = _stage_key(stage, slots, dataset, layout, keys)
        first = runs[-1].last_step if runs else 0
        runs.append(StageRun(stage, slots, layout, keys[stage.name], first))
    return runs


def context_of(job: Job, runs: Sequence[StageRun], slots: Slots, reads: Sequence[str], num_seeds: int) -> dict:
    """States of earlier stages for each slot of another, NumPy [slots, …]."""
    context = {}
    for run in runs:
        if run.stage.name in reads:
            index = settings.slot_map(job, run.slots, slots, num_seeds)
            context[run.stage.name] = jax.tree.map(lambda x, i=index: x[i], run.states)
    return context


def prepare_data(run: StageRun, dataset: Dataset, context: dict) -> Pytree:
    """The stage's data, per slot where it asks for that."""
    stage = run.stage
    blank = {name: None for name in settings.traced_fields(type(stage.config))}
    config = dataclasses.replace(stage.config, **blank)
    if not stage.data_per_seed:
        return stage.prepare(dataset, config, context)
    each = [
        stage.prepare(dataset, config, jax.tree.map(lambda x, i=i: x[i], context))
        for i in range(run.slots.num_slots)
    ]
    return jax.tree.map(lambda *xs: np.stack(xs), *each)


class Trainer:
    """One job on its way: everything that its stages share."""

    def __init__(
        self, job: Job, method: str, preset: str, dataset: Dataset, options: Options
    ) -> None:
        options.validate()
        for stage in job.recipe.stages:
            if hasattr(stage.algorithm, "validate"):
                stage.algorithm.validate(stage.config)
        self.job, self.dataset, self.options = job, dataset, options
        self.method = method
        self.config = resolve(job, method, preset, dataset, options)
        self.hash = digest(self.config)
        self.stages = plan_stages(job, dataset, options)
        self.store = StageStore(Path(options.runs_dir))
        self.evaluation_seconds = self.training_seconds = self.compile_seconds = 0.0
        self.seed_steps = 0
        self.compilations: dict[str, int] = {}
        self._evaluator: programs.Program | None = None

    # -- the folder ---------------------------------------------------------

    def open(self) -> RunFolder:
        """The folder to write to: a new one, or the one that is resumed."""
        runs_dir = Path(self.options.runs_dir)
        known = find_runs(runs_dir, self.method, self.dataset.card.id)
        folder = self._to_resume(known) if self.options.resume else None
        self.resumed = folder is not None
        if folder is None:
            folder = RunFolder.create(
                runs_dir, self.method, self.dataset.card.id, self.hash
            )
            write_json(folder.path / "config.json", self.config)
        self.folder = folder
        self.earlier_seconds = (
            folder.record.get("duration_seconds", 0.0) if self.resumed else 0.0
        )
        self.begun = time.perf_counter()
        if not (self.resumed and folder.record["status"] == "finished"):
            self.write_record("running")
        return folder

    def _to_resume(self, known: Sequence[RunFolder]) -> RunFolder | None:
        same = [r for r in known if r.record.get("config_hash") == self.hash]
        unfinished = [r for r in same if r.record["status"] != "finished"]
        if unfinished:
            return unfinished[0]
        if same:
            return same[0]
        others = [r for r in known if r.record["status"] != "finished"]
        if others:
            changed = ", ".join(_differences(others[0].config, self.config))
            raise UserError(
                f"--resume: the unfinished run {others[0].path} has another "
                f"configuration ({changed}). Give its flags again to continue it, or "
                "leave --resume away to begin a new run."
            )
        if not self.options.quiet:
            print(
                f"--resume: no unfinished run of {self.method} on "
                f"{self.dataset.card.id} in {self.options.runs_dir}; a new one begins."
            )
        return None

    def write_record(self, status: str, **more: Any) -> None:
        """Writes run.json."""
        duration = self.earlier_seconds + time.perf_counter() - self.begun
        layout = self.stages[-1].layout
        card = self.dataset.card
        path = self.folder.path / "run.json"
        started = (
            self.folder.record["start"]
            if path.exists()
            else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        )
        write_json(path, {
            "schema": SCHEMA,
            "status": status,
            "variants": self.job.variants,
            "devices": {
                "platform": layout.devices[0].platform,
                "kind": layout.devices[0].device_kind,
                "count": len(layout.devices),
            },
            "seed_layout": layout.kind,
            "dataset": {
                "id": card.id, "identity": card.identity,
                "rows": card.rows, "episodes": card.episodes,
            },
            "stages": {run.stage.name: run.key for run in self.stages},
            "start": started,
            "duration_seconds": round(duration, 3),
            "seed_steps_per_second": round(
                self.seed_steps / max(self.training_seconds, 1e-9), 1
            ),
            "compile_seconds": round(self.compile_seconds, 3),
            "compilations": self.compilations,
            "evaluation_seconds": round(self.evaluation_seconds, 3),
            "diverged": self.diverged(),
            "config_hash": self.hash,
            "total_steps": self.stages[-1].last_step,
            "score_source": self.dataset.spec.score_source if self.dataset.spec else "",
            **environment(),
            **more,
        })  # fmt: skip

    def diverged(self) -> list[dict[str, Any]]:
        """Seeds that were frozen, with where."""
        found = []
        for run in self.stages:
            for slot, step in run.diverged:
                for setting, first in zip(self.job.settings, run.slots.of_setting, strict=True):
                    if first <= slot < first + self.options.num_seeds:
                        found.append({
                            "seed": run.slots.seeds[slot], "variant": setting.variant,
                            "stage": run.stage.name, "step": step,
                        })  # fmt: skip
        return found

    # -- training -----------------------------------------------------------

    def run(self) -> RunFolder:
        """Trains and evaluates all stages; the run's folder, finished."""
        self.open()
        if self.resumed and self.folder.record["status"] == "finished":
            print(f"--resume: {self.folder.path} is finished already.")
            self.load_states()
            return self.folder
        self.progress = Progress(
            f"{self.method} · {self.dataset.card.id}", self.stages[-1].last_step,
            self.options.quiet,
        )  # fmt: skip
        self.sinks = sinks.make(self.options.log, self.folder.path, self.config)
        self.checkpoints = Checkpoints(self.folder.path / "checkpoints")
        try:
            start = self._restore_point()
            for run in self.stages:
                self._train_or_load(run, start)
            self.checkpoints.close()
            self.progress.close()
            self.write_record("finished")
        except Exception as error:
            if not isinstance(error, UserError):
                self.write_record("failed", error=repr(error)[:500])
            raise
        finally:
            for sink in self.sinks:
                sink.close()
        return self.folder

    def load_states(self) -> None:
        """Fills in the states of a finished run from the store."""
        for run in self.stages:
            context = self._context(run)
            data = prepare_data(run, self.dataset, context)
            run.states = self.store.load(run.key, self._template(run, data, context))

    def _context(self, run: StageRun) -> dict:
        return context_of(
            self.job, self.stages, run.slots, run.stage.reads, self.options.num_seeds
        )

    def _restore_point(self) -> int | None:
        """Total step of the checkpoint to go on from; drops rows beyond it."""
        step = self.checkpoints.latest_step() if self.resumed else None
        if self.resumed:
            self.folder.cut_back(step or 0)
            self.progress.say(f"resumed {self.folder.path} at step {step or 0:,}")
        if step is not None:
            meta = self.checkpoints.meta(step)
            if meta.get("config_hash") != self.hash:
                raise UserError(
                    f"the checkpoint {self.folder.path / 'checkpoints' / str(step)} was "
                    "made by another configuration; remove it, or begin a new run."
                )
        return step

    def _template(self, run: StageRun, data: Pytree, context: dict) -> Pytree:
        """Zeros like the stage's states, [slots, …]."""
        take = lambda tree: jax.tree.map(lambda x: np.asarray(x)[0], tree)  # noqa: E731
        data = take(data) if run.stage.data_per_seed else data
        shape = jax.eval_shape(
            lambda: run.stage.algorithm.init(
                jax.random.PRNGKey(0), data, take(run.configs), take(context)
            )
        )
        n = run.slots.num_slots
        return jax.tree.map(lambda s: np.zeros((n, *s.shape), s.dtype), shape)

    def _train_or_load(self, run: StageRun, resume_step: int | None) -> None:
        last = run is self.stages[-1]
        context = self._context(run)
        data = prepare_data(run, self.dataset, context)
        like = self._template(run, data, context)
        within = resume_step is not None and run.first_step < resume_step
        passed = within and resume_step is not None and resume_step > run.last_step
        if (passed or (self.options.reuse_stages and not within)) and self.store.has(run.key):
            run.states = self.store.load(run.key, like)
            self.progress.say(f"{run.stage.name}: trained before, {run.key[:12]}")
            if last:
                self._evaluate(run.last_step)
            return
        self._train(run, data, context, like, resume_step if within and not passed else None)
        self.store.save(run.key, run.states, {
            "name": run.stage.name, "seeds": run.slots.seeds,
            "dataset": self.dataset.card.id, "num_steps": run.stage.num_steps,
            "config": dataclasses.asdict(run.stage.config), "diverged": run.diverged,
        })  # fmt: skip

    def _train(
        self, run: StageRun, data: Pytree, context: dict, like: Pytree, resume_step: int | None
    ) -> None:
        layout, stage = run.layout, run.stage
        slots = {"config": layout.shard(run.configs), "context": layout.shard(context)}
        shared = {"data": layout.replicate(() if stage.data_per_seed else data)}
        if stage.data_per_seed:
            slots["data"] = layout.shard(data)
        if resume_step is None:
            seeds = layout.shard(np.asarray(run.slots.seeds, np.uint32))
            init = programs.init_program(stage, layout)
            slots["state"] = init({**slots, "seed": seeds}, shared)
            slots["alive"] = layout.shard(np.ones(run.slots.num_slots, bool))
            self._count(f"{stage.name}/init", init)
        else:
            saved = {"states": like, "alive": np.ones(run.slots.num_slots, bool)}
            saved = self.checkpoints.restore(resume_step, saved)
            run.diverged = [tuple(d) for d in self.checkpoints.meta(resume_step)["diverged"]]
            slots["state"] = layout.shard(saved["states"])
            slots["alive"] = layout.shard(saved["alive"])
        chunk = programs.chunk_program(stage, layout)
        step = 0 if resume_step is None else resume_step - run.first_step
        while step < stage.num_steps:
            step = self._chunk(run, chunk, slots, shared, step)
        run.states = layout.gather(slots["state"])

    def _chunk(
        self, run: StageRun, chunk: programs.Program, slots: dict, shared: dict, step: int
    ) -> int:
        """Trains to the next thing to do, and does it; the stage's new step."""
        stage, layout = run.stage, run.layout
        end = self._next_stop(run, step)
        updates = np.full(len(layout.devices), end - step, np.int32)
        inputs = {**shared, "num_updates": jax.device_put(updates, layout.sharding)}
        first_call = chunk.compilations == 0
        begin = time.perf_counter()
        slots["state"], alive, metrics = chunk(slots, inputs)
        jax.block_until_ready(slots["state"])
        seconds = time.perf_counter() - begin - (chunk.compile_seconds if first_call else 0.0)
        if first_call:
            self._count(f"{stage.name}/chunk", chunk)
        self.training_seconds += seconds
        self.seed_steps += (end - step) * run.slots.num_slots
        total = run.first_step + end
        self._freeze(run, layout.gather(slots["alive"]), layout.gather(alive), total)
        slots["alive"] = alive
        values = layout.gather(metrics)
        self._log(run, values, layout.gather(alive), total)
        self.progress.chunk(
            stage.name, total, end - step, run.slots.num_slots, seconds, values
        )
        last_stage = run is self.stages[-1]
        if last_stage and self._due(end, self.options.eval_every, stage.num_steps):
            run.states = layout.gather(slots["state"])
            self._evaluate(total)
        if self._due(end, self._checkpoint_every(run), stage.num_steps):
            state = {"states": layout.gather(slots["state"]), "alive": layout.gather(alive)}
            self.checkpoints.save(total, state, {
                "config_hash": self.hash, "stage": stage.name, "diverged": run.diverged,
            })  # fmt: skip
        return end

    def _freeze(self, run: StageRun, before: np.ndarray, now: np.ndarray, step: int) -> None:
        for slot in np.flatnonzero(before & ~now):
            run.diverged.append((int(slot), step))
            self.progress.say(
                f"seed {run.slots.seeds[slot]} diverged before step {step:,} in stage "
                f"{run.stage.name}: frozen at its last finite state"
            )

    def _checkpoint_every(self, run: StageRun) -> int:
        return self.options.checkpoint_every or -(-run.stage.num_steps // 10)

    @staticmethod
    def _due(step: int, every: int, num_steps: int) -> bool:
        return step == num_steps or (every > 0 and step % every == 0)

    def _next_stop(self, run: StageRun, step: int) -> int:
        """The next step at which something is logged, evaluated or saved."""
        total = run.stage.num_steps
        intervals = [
            self.options.log_every or -(-total // 20),
            self._checkpoint_every(run),
        ]
        if run is self.stages[-1] and self.options.eval_every:
            intervals.append(self.options.eval_every)
        return min(total, *((step // n + 1) * n for n in intervals))

    def _count(self, name: str, program: programs.Program) -> None:
        self.compilations[name] = self.compilations.get(name, 0) + program.compilations
        self.compile_seconds += program.compile_seconds

    def _log(self, run: StageRun, values: dict, alive: np.ndarray, step: int) -> None:
        rows = []
        for setting, first in zip(self.job.settings, run.slots.of_setting, strict=True):
            for i, seed in enumerate(self.options.seeds):
                if alive[first + i]:
                    for name, value in values.items():
                        number = float(np.mean(value[first + i]))
                        rows.append((step, seed, setting.variant, name, f"{number:.8g}"))
        self.folder.append("metrics.csv", rows)
        for sink in self.sinks:
            sink.write(rows)

    # -- evaluation ---------------------------------------------------------

    def agent(self) -> Agent:
        """How the recipe acts."""
        recipe = self.job.recipe
        policy = recipe.policy({s.name: s.config for s in recipe.stages})
        return Agent(policy, recipe.improve, recipe.q_function)

    def acting_slots(self) -> tuple[Slots, Params]:
        """The slots of all settings × seeds, and what acting reads, NumPy."""
        job, recipe = self.job, self.job.recipe
        slots = settings.stage_slots(job, "improve", self.options.seeds)
        states = context_of(
            job, self.stages, slots, [s.name for s in recipe.stages],
            self.options.num_seeds,
        )  # fmt: skip
        values = [s for s in job.settings for _ in self.options.seeds]
        configs = {
            s.name: programs.stack_configs(s.config, [v.of(s.name) for v in values])
            for s in recipe.stages
        }
        improve = recipe.improve and programs.stack_configs(
            recipe.improve.config, [v.of("improve") for v in values]
        )
        return slots, Params(states, configs, improve)

    def rollout(self, episodes: int, eval_seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns and lengths of full episodes, [settings, seeds, episodes]."""
        spec = self.dataset.spec
        assert spec is not None
        slots, params = self.acting_slots()
        layout = choose_layout(slots.num_slots, self.options.layout)
        if self._evaluator is None:
            self._evaluator = programs.evaluation_program(
                self.agent(), envs.make(spec), spec, episodes, layout
            )
        seeds = np.asarray(slots.seeds, np.uint32)
        inputs = layout.shard({"params": params, "seed": seeds})
        shared = layout.replicate({"eval_seed": np.uint32(eval_seed)})
        compiled = self._evaluator.compile_seconds
        begin = time.perf_counter()
        results = layout.gather(self._evaluator(inputs, shared))
        compiled = self._evaluator.compile_seconds - compiled
        self.evaluation_seconds += time.perf_counter() - begin - compiled
        if compiled:
            self._count("evaluation", self._evaluator)
        shape = (len(self.job.settings), self.options.num_seeds, episodes)
        returns, lengths = (np.asarray(x).reshape(shape) for x in results)
        return returns, lengths

    def _evaluate(self, step: int) -> None:
        spec, options = self.dataset.spec, self.options
        if spec is None or spec.id not in envs.JAX_ENVS:
            self.progress.say("no environment is known for this dataset: no scores")
            return
        returns, lengths = self.rollout(options.eval_episodes, options.eval_seed)
        scores = spec.score(returns.mean(-1))
        rows, episodes = [], []
        for i, setting in enumerate(self.job.settings):
            for j, seed in enumerate(options.seeds):
                r = returns[i, j].astype(np.float64)
                rows.append((
                    self.method, setting.variant, self.dataset.card.id, seed, step,
                    len(r), f"{r.mean():.8g}", f"{r.std():.8g}", f"{scores[i, j]:.6g}",
                ))  # fmt: skip
                episodes += [
                    (setting.variant, seed, step, e, f"{x:.8g}", int(n))
                    for e, (x, n) in enumerate(zip(r, lengths[i, j], strict=True))
                ]
        self.folder.append("episodes.csv", episodes)
        self.folder.append("scores.csv", rows)
        self.progress.scores(scores, step)


def _differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Names of the entries in which two configurations differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [
            d
            for n in names
            for d in _differences(old.get(n), new.get(n), f"{path}.{n}" if path else n)
        ]
    same = old == new or (isinstance(new, tuple) and list(new) == old)
    return [] if same else [f"{path}: {old} there, {new} here"]


def make_jobs(
    method: str, preset: str, dataset: Dataset, overrides: settings.Overrides
) -> list[Job]:
    """The recipe for a dataset, with overrides, as jobs."""
    recipe = recipes.build(method, dataset.spec, preset)
    prefix = "" if preset == "paper" else f"preset={preset}"
    return settings.expand(recipe, overrides, prefix)


