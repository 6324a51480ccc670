"""Checks of arrays that come from outside; each error names the array and a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from offjax.errors import UserError
from offjax.types import Camera, EnvSpec

ACTION_TOLERANCE = 1e-4
"""Excess over an action bound that counts as rounding."""

GOAL_KEYS = ("achieved_goal", "desired_goal", "observation")
"""Parts of a goal-conditioned observation, in the order of `gymnasium`'s flatten."""


@contextmanager
def damaged(what: str, remedy: str) -> Iterator[None]:
    """Turns whatever a parser raises over damaged bytes into UserError.

    Args:
      what: the file and what it is, as the subject of a sentence.
      remedy: a sentence.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{what} does not fit into the memory of this machine ({error})."
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise UserError(
            f"{what} is damaged or incomplete, or cannot be read ({reason}). {remedy}"
        ) from error


def goal_vector(value: Any, name: str) -> Any:
    """A Dict of goal-conditioned observations as [N, D]; anything else as it is.

    Raises:
      UserError: a Dict with other keys, or whose parts differ in length.
    """
    if not isinstance(value, Mapping):
        return value
    if sorted(value) != list(GOAL_KEYS):
        raise UserError(
            f"`{name}` is a Dict with the keys {', '.join(map(str, value))}, whose "
            f"layout is unknown; a Dict of the vectors {', '.join(GOAL_KEYS)} is put "
            "side by side in this order. Flatten others to [rows, dimensions] yourself."
        )
    parts = [matrix(value[key], f"{name}/{key}") for key in GOAL_KEYS]
    lengths = {key: len(part) for key, part in zip(GOAL_KEYS, parts, strict=True)}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise UserError(
            f"The parts of `{name}` differ in their rows ({told}); each step must have "
            "all of them."
        )
    return np.concatenate(parts, axis=1)


def pixels(
    value: Any, name: str, cameras: Sequence[Camera], rows: int | None = None
) -> np.ndarray:
    """Images as rows of bytes [N, O], each camera's after the other's.

    Args:
      value: such rows, or a Dict of images [N, H, W, 3] by the cameras' names.
      name: of the array, for messages.
      cameras: what an observation consists of.
      rows: N, if it is known.

    Raises:
      UserError: a camera is missing, or images are of other sizes, channels or types.
    """
    if isinstance(value, Mapping):
        missing = [camera.name for camera in cameras if camera.name not in value]
        if missing:
            raise UserError(
                f"`{name}` has no images of {', '.join(missing)}; the cameras are "
                f"{', '.join(camera.name for camera in cameras)}, it holds "
                f"{', '.join(map(str, value)) or 'none'}."
            )
        parts = [_images(value[c.name], f"{name}/{c.name}", c) for c in cameras]
        for camera, part in zip(cameras, parts, strict=True):
            same_length(part, f"{name}/{camera.name}", rows or len(parts[0]))
        return np.concatenate(parts, axis=1)
    array = np.asanyarray(value)
    _require_bytes(array, name)
    width = sum(camera.height * camera.width * 3 for camera in cameras)
    if array.ndim != 2 or array.shape[1] != width:
        sizes = ", ".join(f"{c.name} {c.height}×{c.width}×3" for c in cameras)
        raise UserError(
            f"`{name}` has shape {array.shape}, but the images of the environment "
            f"({sizes}) are rows of {width} bytes: they are of another size or have "
            "other channels. Resize them, or correct `cameras` of the spec."
        )
    same_length(array, name, rows)
    return array


def _images(value: Any, name: str, camera: Camera) -> np.ndarray:
    array = np.asanyarray(value)
    _require_bytes(array, name)
    expected = (camera.height, camera.width, 3)
    if array.ndim != 4 or array.shape[1:] != expected:
        raise UserError(
            f"`{name}` has shape {array.shape}; images of camera {camera.name!r} are "
            f"[rows, {', '.join(map(str, expected))}]. Resize them or drop further "
            "channels, or correct `cameras` of the spec."
        )
    return array.reshape(len(array), -1)


def _require_bytes(array: np.ndarray, name: str) -> None:
    if array.dtype != np.uint8:
        raise UserError(
            f"`{name}` is of type {array.dtype}, but images are bytes (uint8, 0 to "
            "255). Convert floats in [0, 1] with `(255 * images).round().astype("
            "np.uint8)`."
        )


def matrix(
    value: Any, name: str, rows: int | None = None, width: int | None = None
) -> np.ndarray:
    """`value` as finite float32 [N, D]; UserError unless it is that."""
    array = _float32(value, name)
    if array.ndim != 2 or 0 in array.shape[1:]:
        raise UserError(
            f"`{name}` has shape {array.shape}; it must be [rows, dimensions]. "
            "Flatten each step to a vector (a single number becomes shape [rows, 1])."
        )
    same_length(array, name, rows)
    if width is not None and array.shape[1] != width:
        raise UserError(
            f"`{name}` holds {array.shape[1]} numbers a row and `observations` "
            f"{width}; both must be of the same width."
        )
    _finite(array, name)
    return array


def continuous(value: Any, name: str) -> Any:
    """`value` as it is; UserError if it holds integers, as discrete actions do."""
    kind = np.asarray(value).dtype
    if kind.kind in "iub":
        raise UserError(
            f"`{name}` are of type {kind}, as discrete actions are; every method here "
            "acts with continuous vectors [rows, dimensions]. If these are continuous "
            "actions that happen to be whole numbers, convert them with "
            f"`{name}.astype(np.float32)`."
        )
    return value


def vector(value: Any, name: str, rows: int) -> np.ndarray:
    """`value` as finite float32 [N]; `[N, 1]` is squeezed."""
    array = _squeeze(_float32(value, name), name)
    same_length(array, name, rows)
    _finite(array, name)
    return array


def flags(value: Any, name: str, rows: int) -> np.ndarray:
    """`value` as bool [N]; zeros and ones of any type and `[N, 1]` are accepted."""
    array = _squeeze(np.asarray(value), name)
    same_length(array, name, rows)
    if array.dtype == bool:
        return array
    wrong = (
        np.flatnonzero((array != 0) & (array != 1))
        if array.dtype.kind in "iuf"
        else np.arange(rows)
    )
    if wrong.size:
        raise UserError(
            f"`{name}` must be boolean (or zeros and ones), but row {wrong[0]} is "
            f"{array[wrong[0]]!r}, as {wrong.size} of {rows} rows are neither."
        )
    return array.astype(bool)


def matches_spec(observations: np.ndarray, actions: np.ndarray, spec: EnvSpec) -> None:
    """Raises UserError unless widths and action bounds fit the environment."""
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    for name, found, expected in (
        ("observations", observations.shape[1], spec.observation_dim),
        ("actions", actions.shape[1], spec.action_dim),
    ):
        if found != expected:
            raise UserError(
                f"`{name}` holds {found} numbers a row, but environment {spec.id} "
                f"has {expected}; these data were recorded somewhere else."
            )
    if low.shape != high.shape or not (
        np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()
    ):
        raise UserError(
            f"The action bounds of environment {spec.id}, low {spec.action_low} and "
            f"high {spec.action_high}, must be finite and low below high in every "
            "dimension; correct `action_low` and `action_high` of the spec."
        )


def clip_actions(actions: np.ndarray, spec: EnvSpec) -> np.ndarray:
    """Actions inside the bounds; UserError if any exceeds them by 1e-4 or more."""
    low = np.asarray(spec.action_low, np.float32)
    high = np.asarray(spec.action_high, np.float32)
    excess = np.maximum(low - actions, actions - high)
    largest = float(excess.max())
    if largest >= ACTION_TOLERANCE:
        bad = (excess >= ACTION_TOLERANCE).any(axis=1)
        raise UserError(
            f"{int(bad.sum())} of {len(actions)} rows of `actions` leave the bounds "
            f"{spec.action_low} to {spec.action_high} of environment {spec.id}, the "
            f"first row {int(np.argmax(bad))}, by up to {largest:.4g}. Rescale them "
            "to the environment's units, or clip them to its bounds."
        )
    return np.clip(actions, low, high) if largest > 0.0 else actions


def clip_recorded(
    actions: np.ndarray, spec: EnvSpec
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Published actions [N, A], clipped as the environment does, and a note of it.

    Nobody can correct a published file, and what was executed is the clipped action.
    """
    low, high = np.asarray(spec.action_low), np.asarray(spec.action_high)
    outside = int(((actions < low) | (actions > high)).any(axis=1).sum())
    if not outside:
        return actions, ()
    note = f"actions of {outside:,} rows clipped to the environment's bounds"
    return np.clip(actions, low, high), (note,)


def _float32(value: Any, name: str) -> np.ndarray:
    try:
        # Values beyond float32 become infinite, and are reported as such.
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`{name}` cannot be read as an array of numbers ({error}); every row "
            "must be a vector of the same length."
        ) from error


def _squeeze(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise UserError(
            f"`{name}` has shape {array.shape}; it must hold one value a row, [rows]."
        )
    return array


def same_length(array: np.ndarray, name: str, rows: int | None) -> None:
    """Raises UserError unless the array has `rows` rows, and at least one."""
    if array.ndim == 0 or len(array) == 0:
        raise UserError(
            f"`{name}` has no rows: a dataset needs at least one episode of one step."
        )
    if rows is not None and len(array) != rows:
        raise UserError(
            f"`{name}` has {len(array)} rows and `observations` {rows}; all arrays "
            "of a dataset must be of the same length."
        )


def _finite(array: np.ndarray, name: str) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        bad = ~finite.reshape(len(array), -1).all(axis=1)
        raise UserError(
            f"`{name}` holds NaN or infinity (beyond the range of float32 counts too) "
            f"in {int(bad.sum())} of {len(array)} rows, the first row "
            f"{int(np.argmax(bad))}; remove or repair those rows."
        )
