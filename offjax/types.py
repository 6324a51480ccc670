"""The shapes that everything shares: batches, specs, stages, policies, recipes.

Nothing here knows a seed axis: arrays are those of one seed, and the runner adds
the axis. See docs/architecture.md for how the pieces meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, dataclass_transform

import chex
import jax
import numpy as np

Pytree = Any
Key = jax.Array
Context = Mapping[str, Pytree]
"""Stage name → that stage's trained state, for one seed."""

T = TypeVar("T")


def static(default: Any) -> Any:
    """A `float` config field that may not be traced (it fixes shapes or data)."""
    return dataclasses.field(default=default, metadata={"static": True})


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def config(cls: type[T]) -> type[T]:
    """Makes a hyperparameter class: a frozen dataclass and a pytree.

    Fields annotated `float` are traced leaves, so one compiled program serves many
    values of them; fields of any other type, and those made with `static`, are part
    of the program.
    """
    cls = dataclasses.dataclass(frozen=True)(cls)
    traced = traced_fields(cls)
    meta = [f.name for f in dataclasses.fields(cls) if f.name not in traced]  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(cls, traced, meta)


def traced_fields(cls: Any) -> list[str]:
    """Names of the fields of a config that are traced leaves."""
    return [
        f.name
        for f in dataclasses.fields(cls)
        if f.type in ("float", float) and not f.metadata.get("static")
    ]


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """Where and how a dataset's policies are evaluated.

    Attributes:
      id: Gymnasium id; the ids of `offjax.envs.JAX_ENVS` run on device.
      kwargs: arguments of `gymnasium.make`, as (name, value) pairs.
      observation_dim: length of the (flat) observation.
      action_low: lower action bounds, [action].
      action_high: upper action bounds, [action].
      horizon: steps after which an episode is cut.
      ref_min_score: return that scores 0; None where no reference is known.
      ref_max_score: return that scores 100.
      score_source: where the two come from.
      domain: family of settings, for recipes' presets ("budget", "maze2d", …).
    """

    id: str
    observation_dim: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    horizon: int
    ref_min_score: float | None = None
    ref_max_score: float | None = None
    score_source: str = ""
    domain: str = ""
    kwargs: tuple[tuple[str, Any], ...] = ()

    @property
    def action_dim(self) -> int:
        """Length of the action vector."""
        return len(self.action_low)

    def score(self, returns: np.ndarray) -> np.ndarray:
        """Normalised scores: 100·(R − R_min)/(R_max − R_min); NaN if unknown."""
        returns = np.asarray(returns, np.float64)
        if self.ref_min_score is None or self.ref_max_score is None:
            return np.full_like(returns, np.nan)
        span = self.ref_max_score - self.ref_min_score
        return 100.0 * (returns - self.ref_min_score) / span


class Transitions(NamedTuple):
    """One-step experience, leading axis the row.

    `next_actions` is the action that was recorded after `actions`; rows without one
    (the last of an episode) have `has_next_action` false. `terminals` is 1 where the
    MDP ended, never at a time-out.
    """

    observations: chex.Array  # [N, O] f32
    actions: chex.Array  # [N, A] f32
    rewards: chex.Array  # [N] f32
    next_observations: chex.Array  # [N, O] f32
    next_actions: chex.Array  # [N, A] f32
    terminals: chex.Array  # [N] f32
    has_next_action: chex.Array  # [N] bool


class Statistics(NamedTuple):
    """What a model must know of its data to take raw observations and actions."""

    observation_mean: chex.Array  # [O]
    observation_std: chex.Array  # [O]
    action_low: chex.Array  # [A] bounds of the box that is mapped to [-1, 1]
    action_high: chex.Array  # [A]


@dataclasses.dataclass(frozen=True)
class Stage:
    """Train `algorithm` for `num_steps` updates, reading earlier stages' states.

    Attributes:
      name: key of its state in the context and of its overrides.
      algorithm: module with `Config`, `init` and `update`.
      config: instance of `algorithm.Config`.
      num_steps: number of updates.
      prepare: `(dataset, config, context) → data`, once, on the host; the traced
        fields of `config` are None there, since they may differ between seeds.
        `data` is a pytree of arrays with whatever training needs (and the
        `Statistics` that `init` puts into the state).
      sampler: `(data, key, config) → batch`, on device, pure.
      reads: names of the stages whose states make up `context`.
      data_per_seed: `prepare` is called for each seed with that seed's context.
      acting: traced fields of `config` that its training does not read: several
        values of them share one trained stage, unless another stage reads it.
    """

    name: str
    algorithm: ModuleType
    config: Any
    num_steps: int
    prepare: Callable[..., Pytree]
    sampler: Callable[..., Pytree]
    reads: tuple[str, ...] = ()
    data_per_seed: bool = False
    acting: tuple[str, ...] = ()


class Params(NamedTuple):
    """All that acting may read, for one seed."""

    states: dict[str, Pytree]  # stage → state
    configs: dict[str, Any]  # stage → config
    improve: Any = None  # the operator's config


class Policy:
    """How a trained method acts in one environment; pure, vmapped by the caller.

    Subclasses are frozen dataclasses without arrays. `plan` is called before
    `propose` at steps 0, period, 2·period…

    Attributes:
      period: steps between calls of `plan`.
      given_goals: whether its task is states to pursue in place of an instruction.
    """

    period: int = 1
    given_goals: bool = False

    def init(self, params: Params, task: Pytree, key: Key) -> Pytree:
        """Carry at the start of an episode, or when the task changes."""
        return ()

    def plan(
        self, params: Params, carry: Pytree, observation: chex.Array, key: Key
    ) -> Pytree:
        """New carry at every `period`-th step."""
        return carry

    def propose(
        self,
        params: Params,
        carry: Pytree,
        observation: chex.Array,
        reward: chex.Array,
        key: Key,
    ) -> tuple[Any, Pytree]:
        """Action distribution (`offjax.distributions.Distribution`) and carry.

        `reward` is that of the previous step, 0 at the first.
        """
        raise NotImplementedError

    def record(self, carry: Pytree, action: chex.Array) -> Pytree:
        """Carry after `action` was executed."""
        return carry


QFunction = Callable[[chex.Array, chex.Array], chex.Array]
"""(observation [O], action [A]) → value []; raw observation, environment action."""


@dataclasses.dataclass(frozen=True)
class Improvement:
    """A training-free operator with its settings.

    `operator(distribution, q, key, config) → action` for one state, where
    `q(action) → value` is the critic at that state.
    """

    name: str
    operator: Callable[..., chex.Array]
    config: Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A method in full: what is trained, and how it acts.

    `policy(configs) → Policy` assembles the policy from the stages' configs (after
    overrides; stage name → config), and `q_function(params) → QFunction` is the
    critic that `improve` reads. `link(recipe)`, after overrides, gives stages what they
    must know of the configs of others (a critic's widths). `validate(recipe, dataset)`,
    before anything is trained, refuses settings that do not fit together or the data.
    """

    name: str
    stages: tuple[Stage, ...]
    policy: Callable[[Mapping[str, Any]], Policy]
    improve: Improvement | None = None
    q_function: Callable[[Params], QFunction] | None = None
    link: Callable[[Recipe], Recipe] | None = None
    validate: Callable[[Recipe, Any], None] | None = None
