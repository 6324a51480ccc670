"""Sizes of the models of latent plans (HULC, MCIL) on states, by preset.

`paper` has the published widths, with a state's encoder in place of the cameras';
`small` is for two cores, three seeds in about ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from offjax.datasets.play import WindowView
from offjax.methods.common import pick
from offjax.types import Method, Stage

STATES: dict[str, Any] = {
    "encoder": "state",
    "decoder_sees": "all",
    "binary_gripper": False,
    "num_classes": 256,
    "augment": False,
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
    method: Method, config: Callable[..., Any], preset: str, **settings: Any
) -> Stage:
    """The stage of HULC or MCIL on states; `settings` win over the preset's."""
    sizes = pick(preset, paper=PAPER, small=SMALL, demo=DEMO)
    steps = pick(preset, paper=60_000, small=10_000, demo=1_000)
    made = config(**(STATES | sizes | settings))
    return Stage(method.name, method, made, WindowView(), steps)
