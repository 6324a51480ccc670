"""Closed-form policy improvement and the operators that it is compared to.

Li et al., Offline Reinforcement Learning with Closed-Form Policy Improvement Operators,
ICML 2023. Every recipe clones the behaviour (stage `bc`), learns a critic, and acts
with an operator; recipes that agree in a stage share its training.

The number of SARSA updates is chosen per dataset by validation: see
`experiments.cfpi.sarsa_steps`, and its published values in
`experiments.cfpi.tables.SARSA_STEPS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from offjax.algorithms import bc, bc_vae, cfpi_critic, rev_kl, sarsa
from offjax.datasets.dataset import Dataset
from offjax.improvement import operators
from offjax.recipes.common import TransitionData, pick, sample_transitions
from offjax.recipes.transitions import (
    DecodingPolicy,
    LearntPolicy,
    critic,
    domain,
    improvement,
    prepare_rows,
)
from offjax.types import EnvSpec, Pytree, Recipe, Stage, config, static

BLOCKS = 5  # of multistep_cfpi


def _rows(spec: EnvSpec | None, next_actions: bool) -> partial:
    return partial(prepare_rows, next_actions=next_actions, **_data(spec))


def _data(spec: EnvSpec | None) -> dict[str, Any]:
    """AntMaze: raw observations, and rewards −1 until the goal."""
    antmaze = domain(spec) == "antmaze"
    return {"normalize": not antmaze, "reward": (1.0, -1.0 if antmaze else 0.0)}


def behavior(spec: EnvSpec | None, preset: str, head: str = "mixture") -> Stage:
    """Stage `bc`: tanh of a Gaussian or of a mixture, or a deterministic policy."""
    settings = bc.Config(
        lr=pick(preset, paper=1e-4, small=1e-3, demo=1e-3),
        hidden_dims=pick(
            preset, paper=(256, 256, 256), small=(256, 256), demo=(128, 128)
        ),
        batch_size=512 if head == "gaussian" and preset == "paper" else 256,
        head=head,
        num_components=8 if domain(spec) == "antmaze" else 4,
        squashed=True,
    )
    return Stage(
        "bc",
        bc,
        settings,
        num_steps=pick(preset, paper=500_000, small=20_000, demo=3_000),
        prepare=_rows(spec, next_actions=False),
        sampler=sample_transitions,
    )


def _autoencoder(spec: EnvSpec | None, preset: str) -> Stage:
    widths = pick(preset, paper=(750, 750), small=(256, 256), demo=(128, 128))
    return Stage(
        "bc_vae",
        bc_vae,
        bc_vae.Config(hidden_dims=widths),
        num_steps=pick(preset, paper=500_000, small=20_000, demo=3_000),
        prepare=_rows(spec, next_actions=False),
        sampler=sample_transitions,
    )


def _widths(preset: str) -> dict[str, Any]:
    """Size of an IQN: it costs eight passes per row, so the presets differ much."""
    return {
        "hidden_dims": pick(preset, paper=(256, 256), small=(128, 128), demo=(64, 64)),
        "batch_size": pick(preset, paper=256, small=128, demo=128),
    }


def _sarsa_settings(preset: str) -> dict[str, Any]:
    """Sizes, and how fast the target networks follow.

    The published share of 0.005 lets a reward travel back one step in some 200 updates:
    within those of the shorter presets values would hardly look ahead, and acting on
    them be worse than cloning. The behaviour's value does not run away from a faster
    target, as those of critics that look for better actions do.
    """
    polyak = pick(preset, paper=0.005, small=0.1, demo=0.1)
    return _widths(preset) | {"polyak": polyak}


def sarsa_critic(spec: EnvSpec | None, preset: str) -> Stage:
    """Stage `sarsa`: two quantile critics of the behaviour."""
    paper = 500_000 if domain(spec) == "antmaze" else 400_000
    return Stage(
        "sarsa",
        sarsa,
        sarsa.Config(**_sarsa_settings(preset)),
        num_steps=pick(preset, paper=paper, small=20_000, demo=3_000),
        prepare=_rows(spec, next_actions=True),
        sampler=sample_transitions,
        acting=("active_size", "lower_bound_beta"),
    )


def _one_step(
    name: str,
    spec: EnvSpec | None,
    preset: str,
    head: str,
    operator: str,
    **settings: Any,
) -> Recipe:
    stages = (behavior(spec, preset, head), sarsa_critic(spec, preset))
    return Recipe(
        name,
        stages,
        lambda configs: LearntPolicy("bc", bc),
        improvement(operator, **settings),
        critic("sarsa", sarsa),
    )


def cfpi(spec: EnvSpec | None, preset: str) -> Recipe:
    """One-step I_MG: mixture of 4 (AntMaze 8), log τ = 0.5."""
    return _one_step("cfpi", spec, preset, "mixture", "closed_form_mixture")


def cfpi_sg(spec: EnvSpec | None, preset: str) -> Recipe:
    """One-step I_SG, log τ = 0.5."""
    return _one_step("cfpi_sg", spec, preset, "gaussian", "closed_form_gaussian")


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


def _decoded(
    name: str, spec: EnvSpec | None, preset: str, operator: str, **settings: Any
) -> Recipe:
    stages = (_autoencoder(spec, preset), sarsa_critic(spec, preset))
    return Recipe(
        name,
        stages,
        lambda configs: DecodingPolicy("bc_vae", bc_vae, num=50),
        improvement(operator, **settings),
        critic("sarsa", sarsa),
    )


def idet_vae(spec: EnvSpec | None, preset: str) -> Recipe:
    """I_DET on the best of 50 decoded actions, δ = 0.1."""
    return _decoded("idet_vae", spec, preset, "closed_form_deterministic")


def vae_ebcq(spec: EnvSpec | None, preset: str) -> Recipe:
    """Best of 50 decoded actions."""
    return _decoded("vae_ebcq", spec, preset, "best_of_n", n=50)


def bc_gaussian(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behaviour model of cfpi_sg alone, acting with its mean."""
    stages = (behavior(spec, preset, "gaussian"),)
    return Recipe("bc_gaussian", stages, lambda configs: LearntPolicy("bc", bc))


def bc_mixture(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behaviour model of cfpi alone, acting with its heaviest mean."""
    stages = (behavior(spec, preset, "mixture"),)
    return Recipe("bc_mixture", stages, lambda configs: LearntPolicy("bc", bc))


def bc_mixture_sampled(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behaviour model of cfpi alone, acting with a sample, as the release does."""
    stages = (behavior(spec, preset, "mixture"),)
    return Recipe(
        "bc_mixture_sampled",
        stages,
        lambda configs: LearntPolicy("bc", bc, sample=True),
    )


def bc_deterministic(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behaviour model of idet alone."""
    stages = (behavior(spec, preset, "deterministic"),)
    return Recipe("bc_deterministic", stages, lambda configs: LearntPolicy("bc", bc))


def bc_vae_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """The behaviour model of idet_vae alone, acting with one decoded action."""
    stages = (_autoencoder(spec, preset),)
    return Recipe("bc_vae", stages, lambda configs: DecodingPolicy("bc_vae", bc_vae))


def _rev_kl(name: str, spec: EnvSpec | None, preset: str, head: str) -> Recipe:
    ascent = Stage(
        "rev_kl",
        rev_kl,
        rev_kl.Config(batch_size=pick(preset, paper=256, small=64, demo=64)),
        num_steps=pick(preset, paper=100_000, small=5_000, demo=1_000),
        prepare=_rows(spec, next_actions=False),
        sampler=sample_transitions,
        reads=("bc", "sarsa"),
    )
    stages = (behavior(spec, preset, head), sarsa_critic(spec, preset), ascent)
    return Recipe(name, stages, lambda configs: LearntPolicy("rev_kl", rev_kl))


def rev_kl_gaussian(spec: EnvSpec | None, preset: str) -> Recipe:
    """Gradient ascent on Q under a reverse-KL penalty, α = 3, Gaussian."""
    return _rev_kl("rev_kl", spec, preset, "gaussian")


def rev_kl_mixture(spec: EnvSpec | None, preset: str) -> Recipe:
    """Gradient ascent on Q under a reverse-KL penalty, α = 3, mixture."""
    return _rev_kl("rev_kl_mixture", spec, preset, "mixture")


def iterative_cfpi(spec: EnvSpec | None, preset: str) -> Recipe:
    """Algorithm 2: the critic's targets use I_MG; log τ = 1.5 throughout."""
    iterative = Stage(
        "critic",
        cfpi_critic,
        cfpi_critic.Config(
            warmup_steps=pick(preset, paper=20_000.0, small=2_000.0, demo=500.0),
            **_widths(preset),
        ),
        num_steps=pick(preset, paper=1_000_000, small=20_000, demo=3_000),
        prepare=_rows(spec, next_actions=True),
        sampler=sample_transitions,
        reads=("bc",),
    )
    return Recipe(
        "iterative_cfpi",
        (behavior(spec, preset), iterative),
        lambda configs: LearntPolicy("bc", bc),
        improvement("closed_form_mixture", log_tau=1.5),
        critic("critic", cfpi_critic),
    )


@config
class BlockConfig(sarsa.Config):
    """A block of multistep_cfpi; `log_tau` is that of its next actions."""

    log_tau: float = static(default=0.5)
    behavior: str = "bc"


def prepare_improved(
    dataset: Dataset,
    config: BlockConfig,
    context: Mapping[str, Pytree],
    **rows: Any,
) -> TransitionData:
    """Transitions whose next action is I_MG by the critic of the block before."""
    data = prepare_rows(dataset, config, context, **rows)
    settings = operators.MixtureConfig(log_tau=config.log_tau)
    behavior_state, earlier = context[config.behavior], context[config.warm_start]

    @jax.jit
    def improve(observations: jax.Array) -> jax.Array:
        return cfpi_critic.improved_actions(
            earlier,
            earlier.config,
            behavior_state,
            observations,
            settings,
            jax.random.PRNGKey(0),
        )

    following = np.asarray(data.rows.next_observations)
    size = 4096
    padded = np.pad(following, ((0, -len(following) % size), (0, 0)), mode="edge")
    chunks = padded.reshape(-1, size, following.shape[1])
    actions = np.concatenate([np.asarray(improve(jnp.asarray(c))) for c in chunks])
    every = np.ones(len(following), bool)
    rows_new = data.rows._replace(
        next_actions=actions[: len(following)], has_next_action=every
    )
    return data._replace(rows=rows_new)


def multistep_cfpi(spec: EnvSpec | None, preset: str) -> Recipe:
    """SARSA, then 5 blocks that evaluate I_MG of the block before; log τ = 0.5."""
    stages = [behavior(spec, preset), sarsa_critic(spec, preset)]
    prepare = partial(prepare_improved, **_data(spec))
    for i in range(1, BLOCKS + 1):
        previous = stages[-1].name
        block = Stage(
            f"block_{i}",
            sarsa,
            BlockConfig(warm_start=previous, **_sarsa_settings(preset)),
            num_steps=pick(preset, paper=200_000, small=4_000, demo=600),
            prepare=prepare,
            sampler=sample_transitions,
            reads=("bc", previous),
            data_per_seed=True,
        )
        stages.append(block)
    return Recipe(
        "multistep_cfpi",
        tuple(stages),
        lambda configs: LearntPolicy("bc", bc),
        improvement("closed_form_mixture"),
        critic(f"block_{BLOCKS}", sarsa),
    )


def with_ensemble(recipe: Recipe, size: int) -> Recipe:
    """The recipe with `size` MLP critics joined by mean − std (section 3.11.4)."""
    stages = []
    for stage in recipe.stages:
        if stage.algorithm is sarsa:
            settings = dataclasses.replace(
                stage.config,
                network="mlp",
                hidden_dims=(256, 256, 256),
                ensemble_size=size,
                aggregate="mean_std",
            )
            stage = dataclasses.replace(stage, config=settings)
        stages.append(stage)
    return dataclasses.replace(recipe, stages=tuple(stages))


def cfpi_ensemble(spec: EnvSpec | None, preset: str) -> Recipe:
    """One-step I_MG with 10 MLP critics, of which `active_size` count when acting."""
    recipe = with_ensemble(cfpi(spec, preset), size=10)
    return dataclasses.replace(recipe, name="cfpi_ensemble")


RECIPES = {
    "cfpi": cfpi,
    "cfpi_sg": cfpi_sg,
    "cfpi_ensemble": cfpi_ensemble,
    "multistep_cfpi": multistep_cfpi,
    "iterative_cfpi": iterative_cfpi,
    "idet": idet,
    "idet_vae": idet_vae,
    "vae_ebcq": vae_ebcq,
    "mode_selection": mode_selection,
    "ebcq": ebcq,
    "ebcq_mixture": ebcq_mixture,
    "rev_kl": rev_kl_gaussian,
    "rev_kl_mixture": rev_kl_mixture,
    "bc_gaussian": bc_gaussian,
    "bc_mixture": bc_mixture,
    "bc_mixture_sampled": bc_mixture_sampled,
    "bc_deterministic": bc_deterministic,
    "bc_vae": bc_vae_recipe,
}
"""Method name → `(spec, preset) → Recipe`."""
