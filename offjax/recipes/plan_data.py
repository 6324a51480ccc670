"""What planners learn from: described play, seen through a trained encoder."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from offjax.algorithms import gcbc, hulc, observation_vae
from offjax.algorithms.diffusion_planner import Batch, Probe
from offjax.datasets.dataset import Dataset
from offjax.datasets.language import Annotations, require
from offjax.datasets.load import load_dataset
from offjax.datasets.texts import embed
from offjax.errors import UserError
from offjax.networks.language import Text
from offjax.types import Key, Pytree

ENCODERS: dict[str, ModuleType] = {"gcbc": gcbc, "hulc": hulc, "vae": observation_vae}
"""Stage → the module whose `encode_goal` gives latents."""
PROBES = 4
"""Observations whose latents identify an encoder."""
JOINED = "+"
"""Between the parts of a compound instruction's name."""
CHUNK = 16_384
"""Observations that are encoded at once."""


class PlanData(NamedTuple):
    """Latents of a recording with its described spans."""

    states: chex.Array  # [N, Z] latents
    actions: chex.Array  # [N, A] the environment's, less the centre of its box
    starts: chex.Array  # [M] i32 first row of each span
    ends: chex.Array  # [M] i32 one past its last
    texts: chex.Array  # [M] i32 row of `encoding`
    choices: chex.Array  # [M] i32 cumulative number of windows of the spans
    encoding: Text  # leaves [S, ...]
    mean: chex.Array  # [D] of a plan's columns
    std: chex.Array  # [D]
    probe: Probe


def latents_of(algorithm: ModuleType, state: Pytree, rows: np.ndarray) -> np.ndarray:
    """Latents [N, Z] of observations [N, O] under one seed's trained encoder."""
    encode_rows = jax.jit(lambda s, x: algorithm.encode_goal(s, x, s.config))
    parts = []
    for begin in range(0, len(rows), CHUNK):
        part = rows[begin : begin + CHUNK]
        padded = np.zeros((min(CHUNK, len(rows)), *rows.shape[1:]), rows.dtype)
        padded[: len(part)] = part
        parts.append(np.asarray(encode_rows(state, padded))[: len(part)])
    return np.concatenate(parts)


def prepare(
    dataset: Dataset,
    config: Any,
    context: Mapping[str, Pytree],
    encoder: str,
    moves: str,
) -> PlanData:
    """Encodes a recording with one seed's encoder, and cuts its spans.

    Args:
      dataset: with annotations; in its place come the config's `rollouts`, if any.
      config: of the planner.
      context: the encoder's trained state.
      encoder: the stage that it comes from, one of `ENCODERS`.
      moves: what a plan does between its states, "latents" or "actions".

    Raises:
      UserError: as `source`, `described` and `embed`.
    """
    dataset = source(dataset, config)
    annotations, starts, ends, keep = described(dataset, config)
    states = latents_of(ENCODERS[encoder], context[encoder], dataset.observations)
    lengths = ends - starts
    choices = lengths - config.stride if config.full_stride else lengths
    mean, std = states.mean(0), states.std(0)
    centre = np.zeros(dataset.actions.shape[1], np.float32)
    if dataset.spec is not None:
        box = np.array([dataset.spec.action_low, dataset.spec.action_high], np.float32)
        centre = box.mean(axis=0)
    actions = dataset.actions - centre
    if moves == "latents":
        mean, std = np.tile(mean, 2), np.tile(std, 2)
        actions = actions[:, :0]
    else:
        mean = np.concatenate([np.tile(actions.mean(0), config.stride), mean])
        std = np.concatenate([np.tile(actions.std(0), config.stride), std])
    if not config.standardize:
        mean, std = np.zeros_like(mean), np.ones_like(std)
    some = np.linspace(0, len(states) - 1, PROBES).astype(int)
    return PlanData(
        states=states.astype(np.float32),
        actions=actions,
        starts=starts.astype(np.int32),
        ends=ends.astype(np.int32),
        texts=annotations.texts[keep].astype(np.int32),
        choices=np.cumsum(choices).astype(np.int32),
        encoding=embed(annotations.sentences, config),
        mean=mean.astype(np.float32),
        std=np.maximum(std, 1e-2).astype(np.float32),
        probe=Probe(dataset.observations[some], states[some]),
    )


def source(dataset: Dataset, config: Any) -> Dataset:
    """What plans are cut from: `dataset`, or the rollouts that the config names.

    Raises:
      UserError: there are no such rollouts, or they are of another environment.
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
    dataset: Dataset, config: Any
) -> tuple[Annotations, np.ndarray, np.ndarray, np.ndarray]:
    """The annotations that are not held out, and `spans` of them.

    Raises:
      UserError: there are none, or none that a plan can be cut from.
    """
    annotations = without(require(dataset), config.held_out)
    return annotations, *spans(annotations, config, dataset.card.id)


def without(annotations: Annotations, held_out: tuple[str, ...]) -> Annotations:
    """The spans of all other instructions.

    A compound instruction, "open_drawer+close_window", goes with any of its parts: its
    spans show what was to be kept back.

    Raises:
      UserError: an instruction that there is not, or nothing is left.
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
    annotations: Annotations, config: Any, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts and ends of the spans that are used, and which ones they are.

    Raises:
      UserError: none is longer than one stride, or as long as a plan.
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
            f"horizon={config.horizon} with stride={config.stride} is a plan horizon "
            f"or stride that no trajectory can fill: the rows of a plan lie {needed} "
            f"steps apart from first to last, and the longest described span of "
            f"dataset {name!r} has {longest} rows{tail}. Choose a smaller horizon or "
            "stride."
        )
    if not config.full_stride:
        keep = np.ones_like(keep)
    return starts[keep], ends[keep], np.flatnonzero(keep)


def _windows(data: PlanData, key: Key, config: Any) -> tuple[chex.Array, chex.Array]:
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


def _batch(data: PlanData, plans: chex.Array, span: chex.Array) -> Batch:
    text = data.texts[span]
    return Batch(plans, data.encoding.tokens[text], data.encoding.mask[text])


def sample_subgoals(data: PlanData, key: Key, config: Any) -> Batch:
    """Plans whose moves are the next latents; a span's last one is repeated."""
    first, span = _windows(data, key, config)
    rows = first[:, None] + config.stride * jnp.arange(config.horizon + 1)
    latents = data.states[jnp.minimum(rows, data.ends[span][:, None] - 1)]
    plans = jnp.concatenate([latents[:, 1:], latents[:, :-1]], axis=-1)
    return _batch(data, plans, span)


def sample_actions(data: PlanData, key: Key, config: Any) -> Batch:
    """Plans whose moves are the actions in between.

    Past the end of its span a plan rests: its last latent, and no action.
    """
    first, span = _windows(data, key, config)
    steps = jnp.arange(config.horizon * config.stride)
    rows, end = first[:, None] + steps, data.ends[span][:, None]
    actions = jnp.where(
        (rows < end)[..., None], data.actions[jnp.minimum(rows, end - 1)], 0
    )
    actions = actions.reshape(config.batch_size, config.horizon, -1)
    latents = data.states[jnp.minimum(rows[:, :: config.stride], end - 1)]
    return _batch(data, jnp.concatenate([actions, latents], axis=-1), span)
