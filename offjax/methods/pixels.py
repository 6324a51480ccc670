"""What methods share that read pixels: cameras among hyperparameters, shifts, checks.

Every network that reads observations has an encoder of its own, `Seeing`, as in the
public code of FQL and OGBench (Park et al., 2025, arXiv:2410.20092): no gradient of a
policy's loss reaches the encoder of a critic, which shared encoders must stop (Yarats
et al., DrQ, 2021, arXiv:2004.13649). As in DrQ, the images of observations and of next
observations are moved by a few pixels, each on its own, once for all losses of an
update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from offjax.errors import UserError, require_least
from offjax.methods.common import Network, TrainState, clipped, critics
from offjax.networks.perception import (
    LAYERS,
    PixelEncoder,
    Seeing,
    check_convolutions,
    described,
    shift,
)
from offjax.types import (
    Array,
    Camera,
    EnvSpec,
    Key,
    Model,
    Recipe,
    Stage,
    Transitions,
    added,
    config,
)


@config
class CameraConfig:
    """Hyperparameters of what can read cameras; without cameras they mean nothing.

    Attributes:
      cameras: name, height and width of each camera; () where observations are vectors.
      convolutions: channels, size and stride of each layer; of every camera alike.
    """

    cameras: tuple[Camera, ...] = added(default=())
    convolutions: tuple[tuple[int, int, int], ...] = added(default=LAYERS)

    def validate(self) -> None:
        """Refuses what are no cameras or convolutions, and too small images."""
        _require_entries("cameras", self.cameras, (str, int, int), "('front', 64, 64)")
        layers = self.convolutions
        _require_entries("convolutions", layers, (int, int, int), "(32, 8, 4)")
        check_convolutions(self.cameras, layers)


@config
class PixelConfig(CameraConfig):
    """Hyperparameters of what reads pixels with the small encoder.

    Attributes:
      image_features: length of what is read of each camera's image.
      augment: random shifts of the images in training.
    """

    image_features: int = added(default=64)
    augment: bool = added(default=True)

    def validate(self) -> None:
        """Refuses features without entries, and what `CameraConfig` refuses."""
        CameraConfig.validate(self)
        require_least(1, image_features=self.image_features)


def _require_entries(
    name: str, entries: Sequence[Any], kinds: tuple[type, ...], example: str
) -> None:
    for entry in entries:
        fits = isinstance(entry, tuple) and tuple(map(type, entry)) == kinds
        if not fits or min(n for n in entry if isinstance(n, int)) < 1:
            raise UserError(
                f"{name} has the entry {entry!r}: entries are such as {example}, with "
                "positive numbers."
            )


def encoder_sizes(spec: EnvSpec | None, preset: str) -> dict[str, Any]:
    """Cameras of an environment, and the encoder's sizes: DrQ's, or ours for CPUs."""
    if spec is None or not spec.cameras:
        return {}
    settings: dict[str, Any] = {"cameras": spec.cameras}
    return settings if preset == "paper" else settings | {"convolutions": NARROW}


NARROW = ((16, 4, 4), (32, 3, 2), (32, 3, 1))
"""Convolutions that a CPU can train: on 64×64 a twelfth of the products of `LAYERS`."""


def encoder_of(config: PixelConfig) -> Network:
    """The small encoder: pixels [..., O] in [-1, 1] → features."""
    return PixelEncoder(config.cameras, config.image_features, config.convolutions)


def seeing(network: Network, config: PixelConfig) -> Network:
    """The network with an encoder of its own before it, where there are cameras."""
    if not config.cameras:
        return network
    return Seeing(encoder_of(config), network)


def see(state: TrainState, rows: Array, config: CameraConfig) -> Array:
    """Raw observations [..., O] as `clipped` gives them; pixels in [-1, 1].

    Raises:
      UserError: pixels that are not bytes, or not of the cameras.
    """
    if config.cameras:
        check_rows(rows, config.cameras)
    return clipped(state, rows)


def standardized(state: TrainState, rows: Array, config: PixelConfig) -> Array:
    """Raw observations [..., O], standardized; pixels in [-1, 1]. Errors as `see`."""
    if config.cameras:
        check_rows(rows, config.cameras)
    return state.normalizer(rows)


def check_rows(rows: Any, cameras: Sequence[Camera]) -> None:
    """Refuses what are not the pixels of these cameras.

    Raises:
      UserError: floats, or rows of another length.
    """
    pixels = sum(height * width * 3 for _, height, width in cameras)
    if rows.dtype != jnp.uint8:
        raise UserError(
            f"Observations of the cameras {described(cameras)} are bytes, 0 to 255, "
            f"but these are of type {rows.dtype}: give images as uint8."
        )
    if rows.shape[-1] != pixels:
        raise UserError(
            f"Observations of the cameras {described(cameras)} have {pixels} bytes, "
            f"but these have {rows.shape[-1]}: give the images of the sizes that the "
            "method was trained on, of all of its cameras, red, green and blue."
        )


def shifted_rows(rows: Array, key: Key, config: PixelConfig) -> Array:
    """Raw rows [..., O] with every image moved on its own, where there are any."""
    return (
        shift(rows, config.cameras, key) if config.cameras and config.augment else rows
    )


def shifted(state: TrainState, batch: Transitions, config: PixelConfig) -> Transitions:
    """The batch of an update with every image moved on its own, where there are any."""
    if not config.cameras:
        return batch
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), 1)
    first, second = jax.random.split(key)
    return batch._replace(
        observations=shifted_rows(batch.observations, first, config),
        next_observations=shifted_rows(batch.next_observations, second, config),
    )


def min_q_value(model: Model, observation: Array, action: Array) -> Array:
    """Minimum of the two online critics [] at one raw observation and action."""
    state, config = model.state, model.config
    network = seeing(critics(config.hidden_dims), config)
    inputs = standardized(state, observation, config), state.action_box.to_unit(action)
    return network.apply(state.critic.params, *inputs).min(0)


# -- checks before training ---------------------------------------------------


def check(recipe: Recipe, spec: EnvSpec | None, rows: Any = None) -> None:
    """Refuses recipes that cannot read an environment's observations.

    Args:
      recipe: any.
      spec: environment of the data, if it is known.
      rows: the data's observations [N, O], once they are loaded.

    Raises:
      UserError: a method that reads no pixels where observations are pixels; cameras
        that are not those of the environment; floats in place of bytes, or bytes
        without cameras.
    """
    cameras = spec.cameras if spec is not None else ()
    for stage in recipe.stages:
        _check_stage(recipe.name, stage, cameras)
    if rows is None:
        return
    if cameras:
        check_rows(rows, cameras)
    elif rows.dtype == jnp.uint8:
        raise UserError(
            "The observations of the data are bytes, but their environment has no "
            "cameras, so that nothing says which images they are: name the cameras in "
            "the `spec` of the dataset."
        )


def _check_stage(recipe: str, stage: Stage, cameras: Sequence[Camera]) -> None:
    if cameras and not stage.method.cameras:
        raise UserError(
            f"{recipe} cannot learn from the cameras {described(cameras)}: its stage "
            f"{stage.name} reads vectors. Use a method that reads pixels, such as "
            "gcbc, hulc, lcd, bc, iql or fql, or a dataset of states."
        )
    if not isinstance(stage.config, CameraConfig):
        return
    if tuple(stage.config.cameras) != tuple(cameras):
        seen = described(stage.config.cameras) or "no cameras"
        raise UserError(
            f"The stage {stage.name} of {recipe} reads {seen}, but the observations of "
            f"the data are of {described(cameras) or 'no cameras'}: leave `cameras` "
            "out of the settings, and train on the data that are evaluated."
        )
