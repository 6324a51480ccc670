"""Environments that run on device, also registered with Gymnasium.

Each is a `gymnasium.experimental.functional.FuncEnv`, pure and vmapped by its caller:
`initial(rng)`, `observation(state, rng)`, `transition(state, action, rng)`,
`reward(state, action, next_state, rng)` and `terminal(next_state, rng)`. Time limits
are the caller's, from the `horizon` that each has (`EnvSpec.horizon`).
"""

from __future__ import annotations

from gymnasium.experimental.functional import FuncEnv

from offjax.envs import budget, maze2d
from offjax.errors import UserError
from offjax.registration import register
from offjax.types import EnvSpec

__all__ = ["JAX_ENVS", "make", "register"]

JAX_ENVS: dict[str, type[FuncEnv]] = {
    budget.ID: budget.BudgetAllocation,
    maze2d.ID: maze2d.Maze2D,
}
"""Gymnasium id → functional environment."""


def make(spec: EnvSpec) -> FuncEnv:
    """The functional environment that a spec names; UserError if it has none."""
    if spec.id not in JAX_ENVS:
        raise UserError(
            f"{spec.id!r} does not run on device: the environments that do are "
            f"{', '.join(JAX_ENVS)}. Use gymnasium.make for the others."
        )
    return JAX_ENVS[spec.id](**dict(spec.kwargs))
