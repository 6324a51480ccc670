"""Registration with Gymnasium; imports no JAX, so that `import offjax` stays cheap."""

from __future__ import annotations

import gymnasium

ENTRY_POINTS = {
    "offjax/AntMaze-v0": "offjax.envs.antmaze:AntMaze",
    "offjax/BudgetAllocation-v0": "offjax.envs.wrapper:budget_allocation",
    "offjax/Maze2D-v0": "offjax.envs.wrapper:maze_2d",
}
"""Gymnasium id → what makes it: those of `offjax.envs.JAX_ENVS`, and AntMaze."""


def register() -> None:
    """Makes the environments known to `gymnasium.make`; may be repeated."""
    for name, entry_point in ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=entry_point)
