"""What planners learn from: described play, seen through a trained encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from offjax.catalog.load import load_dataset
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, require
from offjax.datasets.text import Text
from offjax.errors import UserError, require_least
from offjax.methods.common import TextConfig
from offjax.networks.trained import Trained
from offjax.types import Array, Key, Method, Model, Pytree, Upstream, View, config

PROBES = 4
"""Observations whose latents identify an encoder."""
JOINED = "+"
"""Between the parts of a compound instruction's name."""
CHUNK = 16_384
"""Observations that are encoded at once, at most, and …"""
CHUNK_NUMBERS = 2**23
"""… their numbers: of pixels, fewer observations fit the memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoder(Method):
    """A method whose latents can be planned in.

    Attributes:
      encode_goal: `(model, observations) → latents`, raw [..., O] to [..., Z].
    """

    encode_goal: Callable[..., Array]


class Probe(NamedTuple):
    """A few observations and their latents: which latents these are."""

    observations: Array  # [P, O] raw
    latents: Array  # [P, Z]


class PlanData(NamedTuple):
    """Latents of a recording with its described spans."""

    states: Array  # [N, Z] latents
    actions: Array  # [N, A] the environment's, less the center of its box
    starts: Array  # [M] i32 first row of each span
    ends: Array  # [M] i32 one past its last
    texts: Array  # [M] i32 row of `text`
    choices: Array  # [M] i32 cumulative number of windows of the spans
    text: Text  # leaves [S, ...]
    mean: Array  # [D] of a plan's columns
    std: Array  # [D]
    probe: Probe


class PlanBatch(NamedTuple):
    """Plans with the instructions that they serve."""

    plans: Array  # [B, H, M + Z], moves first
    tokens: Array  # [B, T, E]
    mask: Array  # [B, T] bool


@config
class PlanConfig(TextConfig):
    """What `PlanView` reads of a planner's hyperparameters.

    Attributes:
      horizon: H, rows of a plan.
      stride: c, steps between the rows.
      frame_offset: windows of the data are moved by up to this many steps.
      tail: of each described span, only this many last steps are used; 0: all.
      full_stride: only windows that have at least one stride before the span's end.
      held_out: instructions that are kept from the planner, as a test of what follows
        from the others.
      rollouts: dataset of a policy's own rollouts, to cut plans from in place of the
        recording (`experiments.lcd.rollouts`); "" for none.
      standardize: whether plans are standardized, column by column.
    """

    horizon: int = 4
    stride: int = 16
    frame_offset: int = 0
    tail: int = 0
    full_stride: bool = False
    held_out: tuple[str, ...] = ()
    rollouts: str = ""
    standardize: bool = False
    batch_size: int = 128

    def validate(self) -> None:
        """Refuses plans without rows or stride, and empty batches."""
        require_least(
            1, horizon=self.horizon, stride=self.stride, batch_size=self.batch_size
        )


class PlannerState(flax.struct.PyTreeNode):
    """A network, its averaged parameters, which act, and what plans are made of."""

    key: Key
    step: Array
    planner: Trained
    ema: Pytree
    mean: Array  # [M + Z]
    std: Array  # [M + Z]
    probe: Probe


def start_planner(key: Key, data: PlanData, planner: Trained) -> PlannerState:
    """The state at the first update."""
    return PlannerState(
        key=key,
        step=jnp.int32(0),
        planner=planner,
        ema=planner.params,
        mean=jnp.asarray(data.mean),
        std=jnp.asarray(data.std),
        probe=jax.tree.map(jnp.asarray, data.probe),
    )


def encode_goal(encoder: Model, observations: Array) -> Array:
    """Latents [..., Z] of raw observations [..., O]."""
    assert isinstance(encoder.method, Encoder)
    return encoder.method.encode_goal(encoder, observations)


def latents_of(encoder: Model, observations: np.ndarray) -> np.ndarray:
    """Latents [N, Z] of observations [N, O] under one seed's trained encoder."""
    encode = jax.jit(encode_goal)
    most = max(1, CHUNK_NUMBERS // observations.shape[1])
    size = min(CHUNK, most, len(observations))
    parts = []
    for begin in range(0, len(observations), size):
        part = observations[begin : begin + size]
        padded = np.zeros((size, *observations.shape[1:]), observations.dtype)
        padded[: len(part)] = part
        parts.append(np.asarray(encode(encoder, padded))[: len(part)])
    return np.concatenate(parts)


@dataclasses.dataclass(frozen=True)
class PlanView(View):
    """Plans cut from described spans, in the latents of the only upstream model.

    Attributes:
      moves: what a plan does between its states: the next "latents", or "actions".
    """

    per_seed: ClassVar[bool] = True
    moves: str = "latents"

    def arrays(
        self, dataset: Dataset, config: PlanConfig, upstream: Upstream
    ) -> PlanData:
        """Encodes the recording with one seed's encoder, and cuts its spans."""
        dataset = source(dataset, config)
        annotations, starts, ends, keep = described(dataset, config)
        (encoder,) = upstream.values()
        states = latents_of(encoder, dataset.observations)
        actions = _centered_actions(dataset)
        if self.moves == "latents":
            actions = actions[:, :0]
        lengths = ends - starts
        choices = lengths - config.stride if config.full_stride else lengths
        mean, std = _columns(states, actions, config)
        some = np.linspace(0, len(states) - 1, PROBES).astype(int)
        return PlanData(
            states=states.astype(np.float32),
            actions=actions,
            starts=starts.astype(np.int32),
            ends=ends.astype(np.int32),
            texts=annotations.texts[keep].astype(np.int32),
            choices=np.cumsum(choices).astype(np.int32),
            text=config.text.embed(annotations.sentences),
            mean=mean.astype(np.float32),
            std=np.maximum(std, 1e-2).astype(np.float32),
            probe=Probe(dataset.observations[some], states[some]),
        )

    def sample(self, arrays: PlanData, key: Key, config: PlanConfig) -> PlanBatch:
        """`batch_size` plans; all windows are equally likely."""
        first, span = _windows(arrays, key, config)
        cut = _subgoals if self.moves == "latents" else _actions
        plans = cut(arrays, first, arrays.ends[span][:, None], config)
        text = arrays.texts[span]
        return PlanBatch(plans, arrays.text.tokens[text], arrays.text.mask[text])


def _centered_actions(dataset: Dataset) -> np.ndarray:
    """The environment's actions [N, A], less the center of their box."""
    center = np.zeros(dataset.actions.shape[1], np.float32)
    if dataset.spec is not None:
        box = np.array([dataset.spec.action_low, dataset.spec.action_high], np.float32)
        center = box.mean(axis=0)
    return dataset.actions - center


def _columns(
    states: np.ndarray, actions: np.ndarray, config: PlanConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of a plan's columns, or what changes nothing."""
    mean, std = states.mean(0), states.std(0)
    if not actions.shape[1]:  # the moves are latents
        mean, std = np.tile(mean, 2), np.tile(std, 2)
    else:
        mean = np.concatenate([np.tile(actions.mean(0), config.stride), mean])
        std = np.concatenate([np.tile(actions.std(0), config.stride), std])
    if not config.standardize:
        return np.zeros_like(mean), np.ones_like(std)
    return mean, std


def _windows(data: PlanData, key: Key, config: PlanConfig) -> tuple[Array, Array]:
    """First rows [B] of windows, uniform over all of them, and their spans [B]."""
    pick_key, offset_key = jax.random.split(key)
    pick = jax.random.randint(pick_key, (config.batch_size,), 0, data.choices[-1])
    span = jnp.searchsorted(data.choices, pick, side="right")
    before = jnp.where(span > 0, data.choices[span - 1], 0)
    first = data.starts[span] + pick - before
    offset = config.frame_offset
    if offset:
        first += jax.random.randint(offset_key, first.shape, -offset, offset + 1)
        first = jnp.clip(first, data.starts[span], data.ends[span] - 1)
    return first, span


def _subgoals(data: PlanData, first: Array, end: Array, config: PlanConfig) -> Array:
    """Plans from rows [B] to before `end` [B, 1], whose moves are the next latents.

    A span's last latent is repeated.
    """
    rows = first[:, None] + config.stride * jnp.arange(config.horizon + 1)
    latents = data.states[jnp.minimum(rows, end - 1)]
    return jnp.concatenate([latents[:, 1:], latents[:, :-1]], axis=-1)


def _actions(data: PlanData, first: Array, end: Array, config: PlanConfig) -> Array:
    """Plans from rows [B] to before `end` [B, 1], whose moves are actions.

    Past the end of its span a plan rests: its last latent, and no action.
    """
    rows = first[:, None] + jnp.arange(config.horizon * config.stride)
    actions = data.actions[jnp.minimum(rows, end - 1)]
    actions = jnp.where((rows < end)[..., None], actions, 0)
    actions = actions.reshape(config.batch_size, config.horizon, -1)
    latents = data.states[jnp.minimum(rows[:, :: config.stride], end - 1)]
    return jnp.concatenate([actions, latents], axis=-1)


# -- which spans --------------------------------------------------------------


def source(dataset: Dataset, config: PlanConfig) -> Dataset:
    """What plans are cut from: `dataset`, or the rollouts that the config names.

    `UserError` where there are none, or they are of another environment.
    """
    if not config.rollouts:
        return dataset
    found = load_dataset(config.rollouts, collect=False)
    shapes = [(d.observations.shape[1], d.actions.shape[1]) for d in (dataset, found)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"rollouts={config.rollouts} has {shapes[1][0]} observed numbers and "
            f"{shapes[1][1]} of actions, but {dataset.card.id!r} has {shapes[0][0]} "
            f"and {shapes[0][1]}: name rollouts of a policy that was trained on it."
        )
    return found


def described(
    dataset: Dataset, config: PlanConfig
) -> tuple[Annotations, np.ndarray, np.ndarray, np.ndarray]:
    """The annotations that are not held out, and `spans` of them."""
    annotations = without(require(dataset), config.held_out)
    return annotations, *spans(annotations, config, dataset.card.id)


def without(annotations: Annotations, held_out: tuple[str, ...]) -> Annotations:
    """The spans of all other instructions.

    A compound instruction, "open_drawer+close_window", goes with any of its parts: its
    spans show what was to be kept back. `UserError` if nothing is left, or an
    instruction is not in the data.
    """
    parts = [set(name.split(JOINED)) for name in annotations.names]
    unknown = set(held_out) - set(annotations.names).union(*parts)
    if unknown:
        raise UserError(
            f"held_out names {', '.join(sorted(unknown))}, but the instructions of the "
            f"data are {', '.join(annotations.names)}."
        )
    held = [set(name.split(JOINED)) for name in held_out]
    numbers = [i for i, has in enumerate(parts) if any(h <= has for h in held)]
    keep = ~np.isin(annotations.instructions, numbers)
    if not keep.any():
        raise UserError(f"held_out={','.join(held_out)} leaves no span to learn from.")
    return annotations.select(keep)


def spans(
    annotations: Annotations, config: PlanConfig, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts and ends of the spans that are used, and which ones they are.

    `UserError` if none is longer than one stride, or as long as a plan.
    """
    starts, ends = annotations.starts, annotations.ends
    longest = int((ends - starts).max())
    if config.tail:
        starts = np.maximum(starts, ends - config.tail)
    keep = ends - starts > config.stride
    tail = f" and tail={config.tail}" if config.tail else ""
    if not keep.any():
        raise UserError(
            f"No described span of dataset {name!r} can fill a plan: its longest has "
            f"{longest} rows, but stride={config.stride}{tail} needs more than "
            f"{config.stride} of each. Choose a smaller stride, or other data."
        )
    needed = (config.horizon - 1) * config.stride
    if not (ends - starts > needed).any():
        raise UserError(
            f"horizon={config.horizon} with stride={config.stride} is a plan that no "
            f"trajectory can fill: its rows lie {needed} steps apart from first to "
            f"last, and the longest described span of dataset {name!r} has {longest} "
            f"rows{tail}. Choose a smaller horizon or stride."
        )
    if not config.full_stride:
        keep = np.ones_like(keep)
    return starts[keep], ends[keep], np.flatnonzero(keep)
