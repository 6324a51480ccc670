"""Language Control Diffusion and what it is compared with: planners under instructions.

Zhang et al., 2022 (https://arxiv.org/abs/2210.15629). A low-level policy is trained on
states as goals; a planner then learns, in the latent space of its goals, where an
instruction leads a stride later, and the policy pursues that.

The thesis and its published code contradict each other. `lcd_code` and `lcd_thesis`
follow one each; `lcd` takes of either what works, as docs/results/lcd.md has measured:
a single row of four loses `lcd_code` most of its score, and noise as the prediction,
which nothing clips, `lcd_thesis` all of it.

                       lcd_code                lcd_thesis          lcd
    prediction         x_0                     ε                   x_0
    W_first            100                     10                  10
    latents            as they are             standardised        standardised
    windows            last 100 steps, full    any                 any
    padded text        attended to             masked              masked
    sampler            DDPM, 20 steps          DDIM, 10 steps      DDIM, 10 steps
    rows sampled       1 (4 in training)       4                   4
    replans every      16 steps                16 steps            8 steps

Two things differ from both: the planner learns from the recorded play, where the code
used the policy's own successful rollouts in the environment of the evaluation
(`planner.rollouts` names such, which `experiments.lcd.rollouts` collects); and
observations are states. The Diffuser of these tables plans states and actions at once
in a VAE's latents; its two-dimensional variant needs the weights of an image
autoencoder, which this package does not have.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import chex

from offjax.algorithms import (
    diffusion_planner,
    mlp_planner,
    observation_vae,
    plan_sampling,
)
from offjax.datasets import language, sampling
from offjax.datasets.dataset import Dataset
from offjax.datasets.texts import embed
from offjax.recipes import low_level, plan_data
from offjax.recipes.common import pick
from offjax.recipes.language_policies import PlannedActionPolicy, PlannedSubgoalPolicy
from offjax.types import EnvSpec, Key, Policy, Pytree, Recipe, Stage, Statistics

CODE: dict[str, dict[str, Any]] = {
    "planner": {
        "first_weight": 100.0,
        "tail": 100,
        "full_stride": True,
        "attend_padding": True,
    },
    "sampling": {"sampler": "ddpm", "rows": 1, "replan": 16},
}
"""What the published code does."""
THESIS: dict[str, dict[str, Any]] = {
    "planner": {"prediction": "noise", "first_weight": 10.0, "standardize": True},
    "sampling": {"sampler": "ddim", "sampling_steps": 10, "replan": 16},
}
"""What the thesis says."""
DEFAULT: dict[str, dict[str, Any]] = {
    "planner": {"first_weight": 10.0, "standardize": True},
    "sampling": {"sampler": "ddim", "sampling_steps": 10, "replan": 8},
}
"""What the recipe `lcd` does."""


def _sizes(preset: str) -> dict[str, Any]:
    """Sizes of the U-Net, and how it is trained."""
    small = {"width": 32, "multipliers": (1, 2), "kernel": 3, "head_dim": 16}
    small |= {"num_heads": 2, "lr": 1e-3, "batch_size": 128, "ema_start": 500}
    demo = small | {"width": 16, "batch_size": 64, "ema_start": 100, "lr": 2e-3}
    return pick(preset, paper={}, small=small, demo=demo)


def _low_level(spec: EnvSpec | None, preset: str, name: str = "") -> Stage:
    """The low-level policy: HULC as published, goal-conditioned cloning else."""
    name = name or pick(preset, paper="hulc", small="gcbc", demo="gcbc")
    if name == "hulc":
        return low_level.hulc_stage(spec, preset)
    return low_level.gcbc_stage(spec, preset, **low_level.FOR_PLANNERS)


def _planner_stage(
    encoder: Stage, module: Any, config: Any, steps: int, moves: str = "latents"
) -> Stage:
    """Stage `planner` in the latents of `encoder`, whose moves are as said."""
    subgoals, actions = plan_data.sample_subgoals, plan_data.sample_actions
    return Stage(
        "planner",
        module,
        config,
        num_steps=steps,
        prepare=functools.partial(plan_data.prepare, encoder=encoder.name, moves=moves),
        sampler=subgoals if moves == "latents" else actions,
        reads=(encoder.name,),
        data_per_seed=True,
    )


def _prepare_nothing(
    dataset: Dataset, config: Any, context: Mapping[str, Pytree]
) -> dict[str, Any]:
    """No data."""
    del dataset, config, context
    return {}


def _sample_nothing(data: Any, key: Any, config: Any) -> tuple[()]:
    """No batch."""
    del data, key, config
    return ()


def _sampling_stage(**settings: Any) -> Stage:
    """Stage `sampling`: how the planner is sampled; nothing is trained."""
    return Stage(
        "sampling",
        plan_sampling,
        plan_sampling.Config(**settings),
        num_steps=1,
        prepare=_prepare_nothing,
        sampler=_sample_nothing,
    )


def _hierarchy(
    name: str, encoder: Stage, planner: Stage, settings: Mapping[str, Any]
) -> Recipe:
    """Low-level policy and planner; how it is sampled comes before, as it is cheap."""

    def policy(configs: Mapping[str, Any]) -> Policy:
        replan = configs["sampling"].replan
        return PlannedSubgoalPolicy(
            replan, planner.algorithm, encoder.algorithm, encoder.name
        )

    stages = encoder, _sampling_stage(**settings), planner
    return Recipe(name, stages, policy, validate=_validate)


def _validate(recipe: Recipe, dataset: Dataset, executed: bool = False) -> None:
    """`Recipe.validate`: what planner and sampler ask of each other and of the data.

    All of it would come to light after the low-level policy was trained, else.
    """
    configs = {stage.name: stage.config for stage in recipe.stages}
    plan_sampling.check_planner(configs["sampling"], configs["planner"], executed)
    source = plan_data.source(dataset, configs["planner"])
    annotations, *_ = plan_data.described(source, configs["planner"])
    embed(annotations.sentences, configs["planner"])


def _diffusion(
    name: str,
    spec: EnvSpec | None,
    preset: str,
    settings: Mapping[str, Any],
    low: str = "",
) -> Recipe:
    encoder = _low_level(spec, preset, low)
    sizes = _sizes(preset) | low_level.text(spec)
    config = diffusion_planner.Config(**(sizes | settings["planner"]))
    steps = pick(preset, paper=250_000, small=15_000, demo=3_000)
    planner = _planner_stage(encoder, diffusion_planner, config, steps)
    return _hierarchy(name, encoder, planner, settings["sampling"])


def lcd(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion: code and thesis reconciled, see the module."""
    return _diffusion("lcd", spec, preset, DEFAULT)


def lcd_code(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion as its published code has it."""
    return _diffusion("lcd_code", spec, preset, CODE)


def lcd_thesis(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion as the thesis has it."""
    return _diffusion("lcd_thesis", spec, preset, THESIS)


def lcd_hulc(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion over HULC in every preset."""
    return _diffusion("lcd_hulc", spec, preset, DEFAULT, "hulc")


def lcd_mlp(spec: EnvSpec | None, preset: str) -> Recipe:
    """The ablation of table 4.4: the next latent by regression."""
    sizes: dict[str, Any] = pick(
        preset,
        paper={"hidden_dims": (1024,) * 3},
        small={"hidden_dims": (256,) * 3, "lr": 1e-3},
        demo={"hidden_dims": (128, 128), "lr": 1e-3},
    )
    encoder = _low_level(spec, preset)
    sizes |= low_level.text(spec) | {"standardize": True}
    config = mlp_planner.Config(**sizes)
    steps = pick(preset, paper=100_000, small=15_000, demo=4_000)
    planner = _planner_stage(encoder, mlp_planner, config, steps)
    return _hierarchy("lcd_mlp", encoder, planner, DEFAULT["sampling"])


class Observations(NamedTuple):
    """What the autoencoder learns from."""

    observations: chex.Array  # [N, O]
    statistics: Statistics


def prepare_observations(
    dataset: Dataset, config: Any, context: Mapping[str, Pytree]
) -> Observations:
    """All observations, with the statistics of language policies."""
    del config, context
    return Observations(dataset.observations, language.statistics(dataset))


def sample_observations(data: Observations, key: Key, config: Any) -> chex.Array:
    """`config.batch_size` observations [B, O], uniformly with replacement."""
    return sampling.uniform(data.observations, key, config.batch_size)


def diffuser(spec: EnvSpec | None, preset: str) -> Recipe:
    """Diffuser: states and actions planned at once, in a VAE's latents; no hierarchy.

    As in the tables' Diffuser-1D a plan spans some 60 steps; its moves are the actions
    between two states. All 20 DDPM steps, all rows, and no replanning before the end
    of the first row.
    """
    vae = Stage(
        "vae",
        observation_vae,
        observation_vae.Config(),
        num_steps=pick(preset, paper=200_000, small=20_000, demo=1_000),
        prepare=prepare_observations,
        sampler=sample_observations,
    )
    sizes = _sizes(preset) | {"horizon": 8, "stride": 8, "standardize": True}
    sizes |= low_level.text(spec) | {"first_weight": 10.0}
    if preset == "paper":
        sizes["width"] = 128
    config = diffusion_planner.Config(**sizes)
    steps = pick(preset, paper=300_000, small=15_000, demo=4_000)
    planner = _planner_stage(vae, diffusion_planner, config, steps, moves="actions")

    def policy(configs: Mapping[str, Any]) -> Policy:
        replan = configs["sampling"].replan
        return PlannedActionPolicy(replan, planner.algorithm, vae.algorithm, vae.name)

    return Recipe(
        "diffuser",
        (vae, _sampling_stage(sampler="ddpm", replan=8), planner),
        policy,
        validate=functools.partial(_validate, executed=True),
    )


RECIPES = {
    "lcd": lcd,
    "lcd_code": lcd_code,
    "lcd_thesis": lcd_thesis,
    "lcd_hulc": lcd_hulc,
    "lcd_mlp": lcd_mlp,
    "diffuser": diffuser,
}
"""Method name → `(spec, preset) → Recipe`."""
