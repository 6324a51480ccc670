"""The shapes that everything shares: batches, specs, models, stages, actors, recipes.

Nothing here knows a seed axis: arrays are those of one seed, and the runner adds
the axis. See docs/explanation/architecture.md for how the pieces meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import (
    Any,
    ClassVar,
    NamedTuple,
    TypeAlias,
    TypeVar,
    dataclass_transform,
)

import chex
import flax.struct
import jax
import numpy as np

from offjax.errors import UserError

Array: TypeAlias = chex.Array
Pytree = Any
Key = jax.Array

T = TypeVar("T")


def static(default: Any) -> Any:
    """A `float` config field that may not be traced (it fixes shapes or data)."""
    return dataclasses.field(default=default, metadata={"static": True})


def added(default: Any, *, static: bool = False) -> Any:
    """A config field that is newer than recorded runs.

    With its default a method computes what it computed without the field. So the field
    is then no part of what identifies a run or a trained stage. `static` makes it a
    field as `offjax.types.static` does.
    """
    marks = {"added": True, "static": static}
    return dataclasses.field(default=default, metadata=marks)


def added_defaults(config: Any) -> dict[str, Any]:
    """The defaults of those fields of a config that are made with `added`."""
    fields = dataclasses.fields(config)
    return {f.name: f.default for f in fields if f.metadata.get("added")}


def hyperparameters(config: Any) -> dict[str, Any]:
    """What identifies a config: all its fields, less `added` ones at their default."""
    unnamed = added_defaults(config)
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name not in unnamed or value != unnamed[name]
    }


@dataclass_transform(frozen_default=True, field_specifiers=(static, added))
def config(cls: type[T]) -> type[T]:
    """Makes a hyperparameter class: a frozen dataclass and a pytree.

    Fields annotated `float` are traced leaves, so one compiled program serves many
    values of them; fields of any other type, and those made with `static`, are part
    of the program. A class may define `validate(self)`, which raises `UserError` for
    values that make no sense; it is called before anything is trained.
    """
    if not hasattr(cls, "validate"):
        cls.validate = _accept  # type: ignore[attr-defined]
    cls = dataclasses.dataclass(frozen=True)(cls)
    traced = traced_fields(cls)
    meta = [f.name for f in dataclasses.fields(cls) if f.name not in traced]  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(cls, traced, meta)


def _accept(self: Any) -> None:
    """Any values make sense."""


def traced_fields(cls: Any) -> list[str]:
    """Names of the fields of a config that are traced leaves."""
    return [
        f.name
        for f in dataclasses.fields(cls)
        if f.type in ("float", float) and not f.metadata.get("static")
    ]


class Camera(NamedTuple):
    """One of the cameras that an observation is made of; red, green and blue bytes."""

    name: str
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """Where and how a dataset's policies are evaluated.

    Attributes:
      id: Gymnasium id; the ids of `offjax.envs.JAX_ENVS` run on device.
      kwargs: arguments of `gymnasium.make`, as (name, value) pairs.
      observation_dim: length of the (flat) observation.
      horizon: steps after which an episode is cut.
      ref_min_score: return that scores 0; None where no reference is known.
      ref_max_score: return that scores 100.
      score_source: where the two come from.
      domain: family of settings, for recipes' presets ("budget", "maze2d", …).
      cameras: () where observations are vectors of floats. Else observations are
        bytes: the images [H, W, 3] of each camera, flattened, one after the other.
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
    cameras: tuple[Camera, ...] = ()

    @property
    def observation_dtype(self) -> type:
        """Type of an observation's entries: bytes of cameras, else floats."""
        return np.uint8 if self.cameras else np.float32

    @property
    def action_dim(self) -> int:
        """Length of the action vector."""
        return len(self.action_low)

    def score(self, returns: np.ndarray) -> np.ndarray:
        """Normalized scores: 100·(R − R_min)/(R_max − R_min); NaN if unknown."""
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

    observations: Array  # [N, O] f32
    actions: Array  # [N, A] f32
    rewards: Array  # [N] f32
    next_observations: Array  # [N, O] f32
    next_actions: Array  # [N, A] f32
    terminals: Array  # [N] f32
    has_next_action: Array  # [N] bool


class Statistics(NamedTuple):
    """What a model must know of its data to take raw observations and actions."""

    observation_mean: Array  # [O]
    observation_std: Array  # [O]
    action_low: Array  # [A] bounds of the box that is mapped to [-1, 1]
    action_high: Array  # [A]


@dataclasses.dataclass(frozen=True)
class Method:
    """The functions of a method, all of one seed and pure.

    Attributes:
      name: of its file in `offjax.methods`.
      version: raised when `init` or `update` change what they compute; part of the key
        under which a trained stage is stored.
      init: `(key, data, config, upstream) → state`; `data` are the arrays of the view.
      update: `(state, batch, config, upstream) → (state, metrics)`. The state has
        `key`, which never changes, and `step`.
      act: `(model, observation, key) → Distribution` at one raw observation [O].
      q_value: `(model, observation, action) → value []`, raw observation [O] and
        action [A] of the environment.
      cameras: whether it can learn where observations are pixels: its config says what
        cameras there are (`offjax.methods.pixels`), or it reads no observations.
    """

    name: str
    version: int
    init: Callable[..., Pytree]
    update: Callable[..., tuple[Pytree, dict[str, Array]]]
    act: Callable[..., Any] | None = None
    q_value: Callable[..., Array] | None = None
    cameras: bool = False


class Model(flax.struct.PyTreeNode):
    """A trained stage of one seed: how one method reads another."""

    method: Method = flax.struct.field(pytree_node=False)
    config: Any
    state: Pytree

    def act(self, observation: Array, key: Key) -> Any:
        """Action distribution (`offjax.distributions.Distribution`) at one raw [O]."""
        assert self.method.act is not None, f"{self.method.name} does not act"
        return self.method.act(self, observation, key)

    def q_value(self, observation: Array, action: Array) -> Array:
        """Value [] at one raw observation [O] and action [A] of the environment."""
        assert self.method.q_value is not None, f"{self.method.name} has no critic"
        return self.method.q_value(self, observation, action)


Upstream = Mapping[str, Model]
"""Stage name → its trained model, for the stages that another one reads."""


class View:
    """What a learner reads of a dataset. Subclasses are frozen dataclasses.

    Their fields are what a recipe chooses; they and `VERSION` are part of the key
    under which a trained stage is stored.

    Attributes:
      VERSION: raised when `arrays` or `sample` change what they compute.
      per_seed: whether `arrays` is called for each seed with that seed's upstream.
      by_rows: whether `sample` and `init` read of the arrays, scalars and `statistics`
        aside, nothing but `shape` and rows by number, `leaf[index]`. Seeds of several
        datasets can then be trained together.
    """

    VERSION: ClassVar[int] = 1
    per_seed: ClassVar[bool] = False
    by_rows: ClassVar[bool] = False

    def arrays(self, dataset: Any, config: Any, upstream: Upstream) -> Pytree:
        """A pytree of NumPy arrays for training, made once, on the host.

        Its `statistics` (`Statistics`) are what `init` puts into the state. Traced
        fields of `config` are None here: they may differ between seeds.
        """
        raise NotImplementedError

    def sample(self, arrays: Pytree, key: Key, config: Any) -> Pytree:
        """The batch of one update; pure, on device."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Stage:
    """Trains a method for a number of updates.

    Attributes:
      name: of its model in `upstream`, and of its hyperparameters in overrides.
      reads: names of the earlier stages whose models are its `upstream`.
      fixed_length: whether `--num_steps` leaves `num_steps` alone.
    """

    name: str
    method: Method
    config: Any
    view: View
    num_steps: int
    reads: tuple[str, ...] = ()
    fixed_length: bool = False


class Params(NamedTuple):
    """All that acting may read, for one seed."""

    models: dict[str, Model]  # stage → model
    acting: Mapping[str, Any] = {}  # entry of `Recipe.acting` → config
    improve: Any = None  # the operator's config


class Actor:
    """How a trained method acts in one environment; pure, vmapped by the caller.

    Subclasses are frozen dataclasses without arrays. `plan` is called before `act` at
    steps 0, period, 2·period…

    Attributes:
      period: steps between calls of `plan`.
      given_goals: whether its task is states to reach in place of an instruction.
    """

    period: int = 1
    given_goals: bool = False

    def embed(self, sentences: Sequence[str]) -> Pytree:
        """Tasks of N instructions, leaves [N, ...]; on the host.

        Raises:
          UserError: the actor follows no instructions.
        """
        raise UserError(
            "This method follows no instructions: train one that does, such as gcbc, "
            "hulc or lcd."
        )

    def begin(self, params: Params, task: Pytree, key: Key) -> Pytree:
        """Carry at the start of an episode, or when the task changes."""
        return ()

    def plan(
        self, params: Params, carry: Pytree, observation: Array, key: Key
    ) -> Pytree:
        """New carry at every `period`-th step."""
        return carry

    def act(
        self,
        params: Params,
        carry: Pytree,
        observation: Array,
        reward: Array,
        key: Key,
    ) -> tuple[Any, Pytree]:
        """Action distribution (`offjax.distributions.Distribution`) and carry.

        `reward` is that of the previous step, 0 at the first.
        """
        raise NotImplementedError

    def record(self, carry: Pytree, action: Array) -> Pytree:
        """Carry after `action` was executed."""
        return carry


QFunction = Callable[[Array, Array], Array]
"""(observation [O], action [A]) → value []; raw observation, environment action."""


@dataclasses.dataclass(frozen=True)
class Improvement:
    """A training-free operator with its settings.

    `operator(distribution, q, key, config) → action` for one state, where
    `q(action) → value` is the critic at that state.
    """

    name: str
    operator: Callable[..., Array]
    config: Any


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A method in full: what is trained, and how it acts.

    Attributes:
      stages: what is trained, in this order.
      actor: `(recipe) → Actor`, of the recipe as overrides have left it.
      acting: name → config of what acting alone reads. A grid over it trains nothing.
      improve: the operator that makes an action of the actor's distribution; None
        takes the distribution's mode.
      critic: `(params) → QFunction`, what `improve` reads.
      validate: `(recipe, dataset)` raises `UserError` for settings that fit neither
        each other nor the data, before anything is trained. The dataset is None before
        it is loaded, to refuse what can be refused without it.
      for_dataset: `(recipe, dataset id) → Recipe` with what is published for one
        dataset alone.
    """

    name: str
    stages: tuple[Stage, ...]
    actor: Callable[[Recipe], Actor]
    acting: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    improve: Improvement | None = None
    critic: Callable[[Params], QFunction] | None = None
    validate: Callable[[Recipe, Any], None] | None = None
    for_dataset: Callable[[Recipe, str], Recipe] | None = None

    def stage(self, name: str) -> Stage:
        """The stage of that name."""
        return next(stage for stage in self.stages if stage.name == name)

    def config(self, name: str) -> Any:
        """The hyperparameters of the stage of that name."""
        return self.stage(name).config

    def with_config(self, name: str, **values: Any) -> Recipe:
        """The recipe with other hyperparameters of the stage of that name."""
        stages = tuple(
            dataclasses.replace(s, config=dataclasses.replace(s.config, **values))
            if s.name == name
            else s
            for s in self.stages
        )
        return dataclasses.replace(self, stages=stages)
