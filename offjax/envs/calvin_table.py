"""CALVIN's table: what is observed of it, and the states in which chains begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

STATE = ("robot_obs", "scene_obs")
"""Keys of a frame that together are the state."""
HORIZON = 360
"""Steps in which CALVIN's benchmark wants an instruction done."""
Frames = Mapping[str, np.ndarray]
"""Key → [B, ...]: several frames."""

BLOCKS = ("red", "blue", "pink")
KEYS = ("led", "lightbulb", "slider", "drawer", *(f"{b}_block" for b in BLOCKS))
"""What a symbolic state holds, before `grasped`; the order of enumeration."""
State = dict[str, Any]

_ROBOT = (
    0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585, 0.07999963,
    -1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093,
    0.55344928, 1.0,
)  # fmt: skip
_PLACES = {
    "slider_left": (-0.240851662, 0.0924044687, 0.460990009),
    "slider_right": (0.070341633, 0.0924044687, 0.460990009),
}
_TABLE = (
    (0.0500000896, -0.120000177, 0.459990009),
    (0.229995412, -0.119995140, 0.459990010),
)


def initial_vectors(state: State) -> tuple[np.ndarray, np.ndarray]:
    """The robot's [15] and the scene's [24] state in which a chain begins.

    The blocks' places and angles depend on the symbolic state alone.
    """
    words = f"dict_values({list(state.values())!r})"
    rng = np.random.RandomState(fnv1(words.encode()))
    slots = [_TABLE[i] for i in _shuffled(rng, 2)]
    scene = np.zeros(24)
    scene[0] = 0.28 * (state["slider"] == "left")
    scene[1] = 0.22 * (state["drawer"] == "open")
    scene[3] = 0.088 * state["lightbulb"]
    scene[4], scene[5] = state["lightbulb"], state["led"]
    red, blue, pink = (state[f"{block}_block"] for block in BLOCKS)
    second = slots[1] if red == "table" else slots[0]
    on_table = (slots[0], second, slots[1])
    for i, place in enumerate((red, blue, pink)):
        scene[6 + 6 * i : 9 + 6 * i] = _PLACES.get(place, on_table[i])
        scene[11 + 6 * i] = rng.uniform(np.pi / 2 - np.pi / 8, np.pi / 2 + np.pi / 8)
    return np.array(_ROBOT), scene


def _shuffled(rng: np.random.RandomState, size: int) -> list[int]:
    order = list(range(size))
    rng.shuffle(order)  # type: ignore[arg-type]
    return order


def fnv1(data: bytes) -> int:
    """The 32-bit FNV-1 hash with offset 0, as CALVIN's hashing library has it."""
    value = 0
    for byte in data:
        value = (value * 0x01000193) % 2**32 ^ byte
    return value
