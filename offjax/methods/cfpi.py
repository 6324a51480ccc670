"""Closed-form policy improvement and the operators that it is compared to.

Li et al., Offline Reinforcement Learning with Closed-Form Policy Improvement Operators,
ICML 2023. Every recipe clones the behavior (`bc` or `bc_vae`), learns its value
(`sarsa`), and acts with an operator of `offjax.improvement`; nothing else is trained,
and recipes that agree in a stage share its training. The critics of several steps are
`iterative_cfpi` and `multistep_cfpi`.

The number of SARSA updates is chosen per dataset by validation: see
`experiments.cfpi.sarsa_steps`, and its published values in
`experiments.cfpi.tables.SARSA_STEPS`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from offjax.distributions import Distribution
from offjax.improvement import improvement
from offjax.methods import bc, bc_vae, sarsa
from offjax.methods.common import memoryless, pick
from offjax.types import Array, EnvSpec, Key, Model, Recipe

DECODED = 50
"""Actions that the autoencoder proposes."""


def _decoded(model: Model, observation: Array, key: Key) -> Distribution:
    """What the autoencoder proposes at one raw observation [O], as atoms."""
    return bc_vae.candidates(model, observation, key, DECODED)


def _one_step(
    name: str,
    spec: EnvSpec | None,
    preset: str,
    head: str,
    operator: str,
    **settings: Any,
) -> Recipe:
    """Behavior, its value and an operator; `head` is "vae" or one of `bc.HEADS`."""
    if head == "vae":
        behavior, actor = bc_vae.stage(spec, preset), memoryless("bc_vae", _decoded)
    else:
        behavior, actor = bc.behavior(spec, preset, head), memoryless("bc")
    return Recipe(
        name,
        (behavior, sarsa.stage(spec, preset)),
        actor,
        acting={"ensemble": sarsa.Ensemble()},
        improve=improvement(operator, **settings),
        critic=sarsa.critic("sarsa"),
    )


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """One-step I_MG as printed: mixture of 4 (AntMaze 8), log τ = 0.5."""
    return _one_step("cfpi", spec, preset, "mixture", "closed_form_mixture")


KEPT: dict[str, Any] = {"infeasible": "keep", "weight_threshold": 0.05}
"""Components without a feasible point propose their mean, unless they are light."""


def cfpi_kept(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_MG that tends to mode selection as log τ → 0."""
    operator = "closed_form_mixture"
    return _one_step("cfpi_kept", spec, preset, "mixture", operator, **KEPT)


def cfpi_release(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_MG as the release has it: its step, and mean − std of the critics."""
    operator, step = "closed_form_mixture", {"compat": "official"} | KEPT
    released = _one_step("cfpi_release", spec, preset, "mixture", operator, **step)
    return released.with_config("sarsa", aggregate="mean_std", lower_bound_ddof=1)


def cfpi_sg(spec: EnvSpec | None, preset: str) -> Recipe:
    """One-step I_SG, log τ = 0.5."""
    return _one_step("cfpi_sg", spec, preset, "gaussian", "closed_form_gaussian")


def cfpi_ensemble(spec: EnvSpec | None, preset: str) -> Recipe:
    """One-step I_MG with 10 MLP critics joined by mean − std (section 3.11.4).

    `active_size` of them count when acting.
    """
    one_step = recipe(spec, preset)
    behavior, critic = one_step.stages
    width = pick(preset, paper=256, small=64, demo=64)
    settings = dataclasses.replace(
        critic.config,
        network="mlp",
        hidden_dims=(width,) * 3,
        ensemble_size=10,
        aggregate="mean_std",
    )
    stages = (behavior, dataclasses.replace(critic, config=settings))
    return dataclasses.replace(one_step, name="cfpi_ensemble", stages=stages)


def mode_selection(spec: EnvSpec | None, preset: str) -> Recipe:
    """MG-MS: the best component mean, ξ = 0.05."""
    return _one_step("mode_selection", spec, preset, "mixture", "mode_selection")


def ebcq(spec: EnvSpec | None, preset: str) -> Recipe:
    """Best of 10 samples of a Gaussian."""
    return _one_step("ebcq", spec, preset, "gaussian", "best_of_n", n=10)


def ebcq_mixture(spec: EnvSpec | None, preset: str) -> Recipe:
    """Best of 5 samples of a mixture."""
    return _one_step("ebcq_mixture", spec, preset, "mixture", "best_of_n", n=5)


def idet(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_DET on a deterministic policy, δ = 0.1."""
    operator = "closed_form_deterministic"
    return _one_step("idet", spec, preset, "deterministic", operator)


def idet_vae(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_DET on the best of 50 decoded actions, δ = 0.1."""
    return _one_step("idet_vae", spec, preset, "vae", "closed_form_deterministic")


def vae_ebcq(spec: EnvSpec | None, preset: str) -> Recipe:
    """Best of 50 decoded actions."""
    return _one_step("vae_ebcq", spec, preset, "vae", "best_of_n", n=DECODED)
