"""MCIL: multi-context imitation, HULC's predecessor, with a Gaussian plan.

Lynch and Sermanet, Language Conditioned Imitation Learning over Unstructured Data, 2020
(https://arxiv.org/abs/2005.07648), as configured beside HULC (Mees et al., 2022). The
algorithm is `offjax.algorithms.hulc` with other choices: the plan is a diagonal
Gaussian, recognised by a recurrent network in both directions; the decoder sees all
features and treats the gripper as one more continuous entry, in 256 bins; there is no
contrastive loss and no image augmentation. On CALVIN its actions are absolute poses.

As HULC's authors run it, β = 0.01 with the balanced KL. CALVIN's original is
`lr=1e-4`, `min_window=16` and the plain KL times 0.001, whose gradient is that of
`kl_weight=0.002` with `kl_mixing=0.5`.
"""

from __future__ import annotations

from offjax.algorithms import hulc
from offjax.algorithms.hulc import (
    begin,
    distribution_for_goal,
    empty,
    encode_goal,
    encode_text,
    init,
    update,
    validate,
)
from offjax.types import config

__all__ = [
    "Config",
    "begin",
    "distribution_for_goal",
    "empty",
    "encode_goal",
    "encode_text",
    "init",
    "update",
    "validate",
]


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
