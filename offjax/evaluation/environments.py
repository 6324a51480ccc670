"""Which environment evaluates a dataset's policies, and why none does.

JAX environments run on device, all others on the host. Where today's environment
differs from the one of a dataset's reference scores, there is none, and training goes
without scores.
"""

from __future__ import annotations

import difflib
from typing import Any

import gymnasium

from offjax import envs
from offjax.datasets import legacy
from offjax.envs import batched, opengl, scene
from offjax.errors import UserError
from offjax.types import EnvSpec

_UNEQUAL = {
    "kitchen": "Gymnasium-Robotics' kitchen observes other quantities in another order",
    "maze2d": "this layout of maze2d is not among those of offjax/Maze2D-v0",
}
"""Domain of D4RL → why its datasets without an environment have none."""


def on_device(spec: EnvSpec) -> bool:
    """Whether the environment is one in JAX."""
    return spec.id in envs.JAX_ENVS


def instructed(spec: EnvSpec) -> bool:
    """Whether policies are evaluated on instructions in place of full episodes."""
    return spec.domain == "scene"


def missing(spec: EnvSpec | None) -> str | None:
    """Why policies cannot be evaluated here, with the remedy; None if they can."""
    if spec is None:
        return "no environment is known for this dataset"
    if on_device(spec):
        return None
    if spec.id in legacy.table():
        unknown = "no current environment is known to be equal"
        reason = _UNEQUAL.get(spec.domain, unknown)
        return f"no environment of today equals D4RL's {spec.id}: {reason}"
    if spec.domain == "calvin":
        return (
            "CALVIN's tasks are carried out in its own simulator, after training: "
            "`python -m experiments.lcd.calvin --folder=… --run=…`"
        )
    if instructed(spec):
        problem = scene.is_available()
        if problem is None and spec.cameras:
            problem = opengl.problem(spec.id)
        return problem
    return batched.is_available(spec)


def require_known(spec: EnvSpec | None) -> None:
    """Refuses an id that is a slip of a registered one.

    Other unknown ids may be of packages that are not installed: policies are trained
    without scores.

    Raises:
      UserError: the id is not registered, and one of nearly the same name is.
    """
    known = {*envs.JAX_ENVS, *legacy.table()}
    if spec is None or spec.id in known or spec.id in gymnasium.registry:
        return
    if missing(spec) is None:  # registered by a package that this has imported
        return
    registered = [*envs.JAX_ENVS, *gymnasium.registry]
    close = difflib.get_close_matches(spec.id, registered, 3, 0.8)
    if close:
        raise UserError(
            f"there is no environment {spec.id!r}. Did you mean "
            f"{' or '.join(close)}? Correct the id of the dataset's EnvSpec; without "
            "a spec, policies are trained and not evaluated."
        )


def describe(spec: EnvSpec | None) -> dict[str, Any] | None:
    """The environment that scores are measured in, for a run's record."""
    if spec is None or missing(spec) is not None:
        return None
    stepped_by = "gymnasium"
    if on_device(spec):
        stepped_by = "jax"
    elif batched.on_engine(spec):
        stepped_by = "mujoco.batch"
    return {
        "id": spec.id,
        "kwargs": dict(spec.kwargs),
        "horizon": spec.horizon,
        "stepped_by": stepped_by,
    }


def line(spec: EnvSpec | None) -> str:
    """The same in words, beneath a dataset's card."""
    found = describe(spec)
    if found is None:
        return f"scores    none: {missing(spec)}"
    given = ", ".join(f"{name}={value}" for name, value in found["kwargs"].items())
    return (
        f"scores    {found['id']}{f' ({given})' if given else ''}, stepped by "
        f"{found['stepped_by']}, {found['horizon']} steps an episode"
    )
