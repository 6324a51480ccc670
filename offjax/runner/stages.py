"""The stages of a job: their slots, what identifies them, and what they read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from offjax.datasets.dataset import Dataset
from offjax.devices.layout import Layout, choose_layout, first_slot
from offjax.errors import UserError
from offjax.runner import programs
from offjax.runner.options import Options
from offjax.runner.records import SCHEMA, digest
from offjax.runner.settings import Job
from offjax.types import Model, Pytree, Recipe, Stage, recorded, traced_fields


@dataclasses.dataclass(frozen=True)
class Slots:
    """The slots of a stage: every seed with every setting that matters to it."""

    seeds: tuple[int, ...]  # seed of each slot
    values: tuple[dict[str, Any], ...]  # changed fields of the stage's own config
    of_setting: tuple[int, ...]  # of each setting its first slot; seed i is i further

    @property
    def num_slots(self) -> int:
        """Number of slots."""
        return len(self.seeds)


def stage_slots(job: Job, owner: str, seeds: Sequence[int]) -> Slots:
    """Slots of one stage, or of acting with owner "improve" (every setting)."""
    relevant = _with_upstream(job.recipe, owner)
    firsts: dict[tuple, int] = {}
    of_setting: list[int] = []
    slot_seeds: list[int] = []
    values: list[dict[str, Any]] = []
    for setting in job.settings:
        mine = setting.values
        if owner != "improve":
            mine = tuple(
                (target, value) for target, value in mine if target[0] in relevant
            )
        if mine not in firsts:
            firsts[mine] = len(slot_seeds)
            slot_seeds += list(seeds)
            values += [{n: value for (o, n), value in mine if o == owner}] * len(seeds)
        of_setting.append(firsts[mine])
    return Slots(tuple(slot_seeds), tuple(values), tuple(of_setting))


def _with_upstream(recipe: Recipe, owner: str) -> set[str]:
    stages = {s.name: s for s in recipe.stages}
    found, todo = set(), [owner]
    while todo:
        name = todo.pop()
        found.add(name)
        todo += stages[name].reads if name in stages else []
    return found


def slot_map(source: Slots, target: Slots, num_seeds: int) -> list[int]:
    """For each slot of `target`, the slot of `source` with its seed and setting."""
    result = [0] * target.num_slots
    for first, origin in zip(target.of_setting, source.of_setting, strict=True):
        for i in range(num_seeds):
            result[first + i] = origin + i
    return result


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
    # its own step of a checkpoint, and the digest of each slot there
    digests: list[tuple[int, list[str]]] = dataclasses.field(default_factory=list)

    @property
    def configs(self) -> Any:
        """The stage's config with leading axis [slots] on its traced leaves."""
        return programs.stack_configs(self.stage.config, self.slots.values)

    @property
    def last_step(self) -> int:
        """Total steps at its end."""
        return self.first_step + self.stage.num_steps

    def recall(self, meta: Mapping[str, Any]) -> None:
        """Takes over what a checkpoint or the store recorded of the slots."""
        self.diverged = [tuple(each) for each in meta["diverged"]]
        self.digests = [tuple(each) for each in meta.get("digests", [])]

    def described(self, dataset: str) -> dict[str, Any]:
        """What is stored beside its states, for a reader."""
        return {
            "name": self.stage.name,
            "seeds": self.slots.seeds,
            "dataset": dataset,
            "num_steps": self.stage.num_steps,
            "config": recorded(self.stage.config),
            "diverged": self.diverged,
            "digests": self.digests,
        }


def resolve_config(
    job: Job, method: str, preset: str, dataset: str, identity: str, options: Options
) -> dict[str, Any]:
    """Content of config.json: all that determines a run's results."""
    recipe = job.recipe
    return {
        "schema": SCHEMA,
        "method": method,
        "dataset": dataset,
        "dataset_identity": identity,
        "preset": preset,
        "seeds": options.seeds,
        "stages": {
            s.name: {
                "method": s.method.name,
                "version": s.method.version,
                "view": _view(s),
                "num_steps": s.num_steps,
                "config": recorded(s.config),
            }
            for s in recipe.stages
        },
        "acting": {
            name: dataclasses.asdict(settings)
            for name, settings in recipe.acting.items()
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
        "eval_chains": options.eval_chains,
        "eval_seed": options.eval_seed,
        "layout": options.layout,
        **_precision(options.matmul_precision),
    }


def _precision(name: str) -> dict[str, str]:
    """What a hash reads of the precision: nothing where it is the default."""
    return {} if name == "default" else {"matmul_precision": name}


def _view(stage: Stage) -> dict[str, Any]:
    """What a run's hash reads of a view: the same as its stage's key does."""
    view = type(stage.view)
    name = f"{view.__module__}.{view.__name__}"
    fields = dataclasses.asdict(stage.view)  # type: ignore[call-overload]
    return {"name": name, "version": view.VERSION, "fields": fields}


def _stage_key(
    stage: Stage,
    slots: Slots,
    dataset: Dataset,
    layout: Layout,
    upstream: Mapping[str, str],
) -> str:
    """Hash of all that determines a stage's states; code enters by its versions."""
    view = type(stage.view)
    return digest(
        {
            "schema": SCHEMA,
            "name": stage.name,
            "method": [stage.method.name, stage.method.version],
            "view": [view.__module__, view.__name__, view.VERSION],
            "view_fields": dataclasses.asdict(stage.view),  # type: ignore[call-overload]
            "config": recorded(stage.config),
            "values": [sorted(v.items()) for v in slots.values],
            "seeds": slots.seeds,
            "num_steps": stage.num_steps,
            "dataset": dataset.card.identity,
            "layout": layout.kind,
            "upstream": {name: upstream[name] for name in stage.reads},
            **_precision(layout.precision),
        }
    )


def layout_of(num_slots: int, options: Options) -> Layout:
    """Where that many slots run, as the options say."""
    return choose_layout(
        num_slots, options.layout, options.max_devices, options.matmul_precision
    )


def plan_stages(job: Job, dataset: Dataset, options: Options) -> list[StageRun]:
    """The stages of a job in their order, with slots, layout and identity."""
    runs: list[StageRun] = []
    keys: dict[str, str] = {}
    for stage in job.recipe.stages:
        missing = [name for name in stage.reads if name not in keys]
        if missing:
            raise UserError(f"stage {stage.name} reads {missing}, which come later.")
        slots = stage_slots(job, stage.name, options.seeds)
        layout = layout_of(slots.num_slots, options)
        keys[stage.name] = _stage_key(stage, slots, dataset, layout, keys)
        first = runs[-1].last_step if runs else 0
        runs.append(StageRun(stage, slots, layout, keys[stage.name], first))
    return runs


def models_of(
    runs: Sequence[StageRun],
    slots: Slots,
    names: Sequence[str],
    num_seeds: int,
) -> dict[str, Model]:
    """Models of trained stages for each slot of another, leaves NumPy [slots, …]."""
    models = {}
    for run in runs:
        if run.stage.name in names:
            index = slot_map(run.slots, slots, num_seeds)
            config, state = jax.tree.map(
                lambda x, i=index: np.asarray(x)[i], (run.configs, run.states)
            )
            models[run.stage.name] = Model(run.stage.method, config, state)
    return models


def stage_data(
    run: StageRun, dataset: Dataset, upstream: Mapping[str, Model]
) -> Pytree:
    """The arrays of the stage's view, per slot where it asks for that."""
    view = run.stage.view
    blank = {name: None for name in traced_fields(type(run.stage.config))}
    config = dataclasses.replace(run.stage.config, **blank)
    if not view.per_seed:
        return view.arrays(dataset, config, upstream)
    each = [
        view.arrays(dataset, config, jax.tree.map(lambda x, i=i: x[i], upstream))
        for i in range(run.slots.num_slots)
    ]
    return jax.tree.map(lambda *xs: np.stack(xs), *each)


def template(run: StageRun, data: Pytree, upstream: Mapping[str, Model]) -> Pytree:
    """Zeros like the stage's states, NumPy [slots, …]."""
    data = first_slot(data) if run.stage.view.per_seed else data
    n = run.slots.num_slots
    shapes = state_shapes(run, data, upstream)
    return jax.tree.map(lambda s: np.zeros((n, *s.shape), s.dtype), shapes)


def state_shapes(run: StageRun, data: Pytree, upstream: Mapping[str, Model]) -> Pytree:
    """Shapes of one slot's state; `data` are one slot's arrays, or their shapes."""
    config, upstream = first_slot((run.configs, dict(upstream)))
    return jax.eval_shape(
        lambda d: run.stage.method.init(jax.random.PRNGKey(0), d, config, upstream),
        data,
    )


def metric_sums(
    run: StageRun, data: Pytree, upstream: Mapping[str, Model], states: Pytree
) -> Pytree:
    """Zeros like the sums of the stage's metrics, NumPy [slots, …]."""
    data = first_slot(data) if run.stage.view.per_seed else data
    slot = first_slot({"config": run.configs, "upstream": dict(upstream)})
    blank = programs.blank_metrics(run.stage, first_slot(states), data, slot)
    return jax.tree.map(lambda x: np.stack([x] * run.slots.num_slots), blank)
