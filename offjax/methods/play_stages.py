"""Sizes of the models of latent plans (HULC, MCIL), by preset.

`paper` has the published widths; on states with a state's encoder in place of the
cameras'. `small` is for two cores: on states three seeds in about ten minutes, on
pixels one seed in about an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offjax.datasets.play import WindowView
from offjax.methods.common import pick
from offjax.methods.pixels import encoder_sizes
from offjax.types import EnvSpec, Method, Stage

CONTINUOUS: dict[str, Any] = {"binary_gripper": False, "num_classes": 256}
"""The gripper is one more entry of the action, in finer bins."""
STATES: dict[str, Any] = {
    "encoder": "state",
    "decoder_sees": "all",
    "augment": False,
    **CONTINUOUS,
}
PAPER: dict[str, Any] = {"batch_size": 256, "encoder_dims": (512,)}
SMALL: dict[str, Any] = {
    "lr": 1e-3,
    "ema_decay": 0.999,
    "acting": "mode",
    "features": 64,
    "goal_dims": (256, 256),
    "prior_dims": (256, 256),
    "recognition_dim": 128,
    "recognition_layers": 1,
    "recognition_features": 256,
    "dropout": 0.0,
    "decoder_dim": 128,
    "num_components": 5,
    "window": 20,
    "min_window": 10,
    "replan": 20,
}
DEMO: dict[str, Any] = {
    **SMALL,
    "encoder_dims": (64,),
    "goal_dims": (64,),
    "prior_dims": (64,),
    "recognition_dim": 64,
    "decoder_dim": 64,
    "window": 16,
    "min_window": 8,
    "replan": 16,
}


def play_stage(
    method: Method,
    config: Callable[..., Any],
    spec: EnvSpec | None,
    preset: str,
    **settings: Any,
) -> Stage:
    """The stage of HULC or MCIL; `settings` win over the preset's."""
    sizes = pick(preset, paper=PAPER, small=SMALL, demo=DEMO)
    steps = pick(preset, paper=60_000, small=10_000, demo=1_000)
    if spec is not None and spec.cameras:
        sizes = sizes | cameras(spec, preset)
    else:
        sizes = STATES | sizes
    return Stage(method.name, method, config(**(sizes | settings)), WindowView(), steps)


def cameras(spec: EnvSpec, preset: str) -> dict[str, Any]:
    """What cameras change: preset paper is as published for CALVIN's two."""
    found = encoder_sizes(spec, preset)
    if preset != "paper":
        found |= {"batch_size": 8, "decoder_sees": "all"}
    if preset != "paper" or spec.domain != "calvin":
        found |= CONTINUOUS
    if len(spec.cameras) < 2:
        found["decoder_sees"] = "all"
    return found
