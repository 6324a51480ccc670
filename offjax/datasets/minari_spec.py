"""Between Minari's metadata and this project's `EnvSpec`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from offjax.errors import UserError
from offjax.types import Camera, EnvSpec

_ENV_ID = re.compile(r"[\w.\-/]+")
"""No colon: `gymnasium.make("module:id")` would import a module that data name."""

_DOMAINS = (
    ("offjax/budget/", "budget"),
    ("offjax/maze2d/", "maze2d"),
    ("D4RL/pointmaze/", "maze2d"),
    ("D4RL/antmaze/", "antmaze"),
    ("D4RL/kitchen/", "kitchen"),
    ("D4RL/door/", "adroit"),
    ("D4RL/hammer/", "adroit"),
    ("D4RL/pen/", "adroit"),
    ("D4RL/relocate/", "adroit"),
    ("mujoco/", "locomotion"),
)


def encode(spec: EnvSpec) -> dict[str, Any]:
    """Entries of metadata.json by which Minari knows environment and scores."""
    from offjax import envs

    envs.register()
    entries: dict[str, Any] = {}
    if spec.id in gymnasium.registry:
        registered = gymnasium.spec(spec.id)
        kwargs = {**registered.kwargs, **dict(spec.kwargs)}
        env_spec = dataclasses.replace(registered, kwargs=kwargs).to_json()
        entries |= {"env_spec": env_spec, "eval_env_spec": env_spec}
    if spec.ref_min_score is not None and spec.ref_max_score is not None:
        entries["ref_min_score"] = spec.ref_min_score
        entries["ref_max_score"] = spec.ref_max_score
    return entries


def simulator(spec: EnvSpec) -> dict[str, str]:
    """The installed version of what simulated a dataset's environment, if anything."""
    from offjax import envs

    installed = None if spec.id in envs.JAX_ENVS else _installed_mujoco()
    return {} if installed is None else {"mujoco": installed}


def simulator_notes(own: Mapping[str, Any]) -> tuple[str, ...]:
    """Remarks for the card: which MuJoCo recorded it, and whether today's is alike.

    `own` is this project's entry of the metadata.
    """
    recorded, installed = own.get("mujoco"), _installed_mujoco()
    if recorded is None:
        return ()
    note = f"recorded with MuJoCo {recorded}"
    if installed and str(recorded).partition(".")[0] != installed.partition(".")[0]:
        note += (
            f", while {installed} is installed: the same actions may lead elsewhere "
            "there; `offjax calibrate` tells how far"
        )
    return (note,)


def _installed_mujoco() -> str | None:
    try:
        return importlib.metadata.version("mujoco")
    except importlib.metadata.PackageNotFoundError:
        return None


def decode(
    metadata: Mapping[str, Any],
    name: str,
    arrays: Mapping[str, np.ndarray],
    cameras: tuple[Camera, ...] = (),
) -> EnvSpec | None:
    """The spec stored by this project, else what Minari's own entries tell.

    None where no environment is named or the actions have no finite bounds. An
    environment without a time limit gets the longest recorded episode's. `cameras` are
    those that the data hold.

    Raises:
      UserError: an entry is of another type than it should be, or the environment's
        id would make Gymnasium import a module.
    """
    own = metadata.get("offjax", {}).get("spec")
    if own is not None:
        spec = _checked(_restore(own))
        if spec.cameras != cameras:
            raise UserError(
                f"Dataset {name!r} holds images of {_told(cameras)}, its specification "
                f"says {_told(spec.cameras)}: it is damaged, collect it again."
            )
        return spec
    text = metadata.get("eval_env_spec") or metadata.get("env_spec")
    if text is None:
        return None
    from minari.serialization import deserialize_space

    env = json.loads(text) if isinstance(text, str) else text
    box = deserialize_space(metadata["action_space"])
    if not (np.isfinite(box.low).all() and np.isfinite(box.high).all()):
        return None
    spec = EnvSpec(
        id=env["id"],
        kwargs=tuple((env.get("kwargs") or {}).items()),
        observation_dim=arrays["observations"].shape[1],
        action_low=tuple(box.low.tolist()),
        action_high=tuple(box.high.tolist()),
        horizon=env.get("max_episode_steps") or _longest(arrays),
        ref_min_score=metadata.get("ref_min_score"),
        ref_max_score=metadata.get("ref_max_score"),
        score_source="Minari metadata" if "ref_max_score" in metadata else "",
        domain=next((d for prefix, d in _DOMAINS if name.startswith(prefix)), ""),
        cameras=cameras,
    )
    return _checked(spec)


def _restore(stored: Mapping[str, Any]) -> EnvSpec:
    """The spec from what `dataclasses.asdict` became in JSON (tuples as lists)."""
    fields = dict(stored)
    fields["kwargs"] = tuple((key, value) for key, value in fields["kwargs"])
    for key in ("action_low", "action_high"):
        fields[key] = tuple(fields[key])
    fields["cameras"] = tuple(Camera(*camera) for camera in fields.get("cameras", ()))
    return EnvSpec(**fields)


def _checked(spec: EnvSpec) -> EnvSpec:
    """The spec, if its fields are of the types that training and scoring rely on."""
    scores = (spec.ref_min_score, spec.ref_max_score)
    texts = (spec.id, spec.score_source, spec.domain)
    sound = (
        all(isinstance(text, str) for text in texts)
        and _ENV_ID.fullmatch(spec.id)
        and all(isinstance(key, str) for key, _ in spec.kwargs)
        and all(type(x) is int and x > 0 for x in (spec.observation_dim, spec.horizon))
        and all(_is_number(x) for x in (*spec.action_low, *spec.action_high))
        and all(score is None or _is_number(score) for score in scores)
        and not (None not in scores and scores[0] == scores[1])
    )
    if not sound:
        raise UserError(
            f"The metadata name the environment {str(spec)[:300]}, which is malformed: "
            "its id must be a plain Gymnasium id (without a colon), its horizon a "
            "positive number, and the two reference scores different numbers."
        )
    return spec


def _told(cameras: tuple[Camera, ...]) -> str:
    return ", ".join(f"{c.name} {c.height}×{c.width}" for c in cameras) or "no cameras"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and np.isfinite(value)


def _longest(arrays: Mapping[str, np.ndarray]) -> int:
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    return int(np.diff(ends, prepend=0).max())
