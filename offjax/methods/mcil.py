"""MCIL: multi-context imitation, HULC's predecessor, with a Gaussian plan.

Lynch and Sermanet, Language Conditioned Imitation Learning over Unstructured Data, 2020
(arXiv:2005.07648), as configured beside HULC (Mees et al., 2022). The method is
`offjax.methods.hulc` with other choices: the plan is a diagonal Gaussian, recognized by
a recurrent network in both directions; the decoder sees all features and treats the
gripper as one more continuous entry, in 256 bins; there is no contrastive loss and no
image augmentation. On CALVIN its actions are absolute poses.

As HULC's authors run it, β = 0.01 with the balanced KL. CALVIN's original is
`lr=1e-4`, `min_window=16` and the plain KL times 0.001, whose gradient is that of
`kl_weight=0.002` with `kl_mixing=0.5`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from offjax.methods import hulc
from offjax.methods.common import pick
from offjax.methods.goals import instructed, text_encoder
from offjax.methods.play_stages import play_stage
from offjax.types import EnvSpec, Recipe, Stage, config


@config
class Config(hulc.Config):
    """Hyperparameters: those of `hulc.Config` with MCIL's defaults."""

    plan: str = "gaussian"
    plan_variables: int = 256
    recognition: str = "rnn"
    decoder_sees: str = "all"
    num_classes: int = 256
    binary_gripper: bool = False
    contrast: bool = False
    augment: bool = False


METHOD = dataclasses.replace(hulc.METHOD, name="mcil")


def stage(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `mcil`."""
    plan = {"plan_variables": 64}
    sizes: dict[str, Any] = pick(preset, paper={}, small=plan, demo=plan)
    return play_stage(METHOD, Config, spec, preset, **sizes, **text_encoder(spec))


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """MCIL, which follows the instruction."""
    actor = instructed("mcil", lambda config: config.replan)
    return Recipe("mcil", (stage(spec, preset),), actor)
