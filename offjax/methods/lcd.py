"""Language Control Diffusion: a latent diffusion planner over a goal-reaching policy.

Zhang et al., 2022 (arXiv:2210.15629). A low-level policy is trained on states as goals;
a planner then learns, in the latent space of its goals, where an instruction leads a
stride later, and the policy pursues that.

The thesis and its published code contradict each other. `lcd_code` and `lcd_thesis`
follow one each; `lcd` takes of either what works, as docs/results/lcd.md has measured:
a single row of four loses `lcd_code` most of its score, and noise as the prediction,
which nothing clips, `lcd_thesis` all of it.

                       lcd_code                lcd_thesis          lcd
    prediction         x_0                     ε                   x_0
    W_first            100                     10                  10
    latents            as they are             standardized        standardized
    windows            last 100 steps, full    any                 any
    padded text        attended to             masked              masked
    sampler            DDPM, 20 steps          DDIM, 10 steps      DDIM, 10 steps
    rows sampled       1 (4 in training)       4                   4
    replans every      16 steps                16 steps            8 steps

Two things differ from both: the planner learns from the recorded play, where the code
used the policy's own successful rollouts in the environment of the evaluation
(`planner.rollouts` names such, which `experiments.lcd.rollouts` collects); and
observations are states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from offjax.datasets.dataset import Dataset
from offjax.methods import (
    diffusion_planner,
    gcbc,
    hulc,
    mlp_planner,
    plan_sampling,
    plans,
)
from offjax.methods.common import pick
from offjax.methods.goals import text_encoder
from offjax.methods.planning import PlannedSubgoalActor, Planner
from offjax.types import Actor, EnvSpec, Recipe, Stage

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


def sizes(preset: str) -> dict[str, Any]:
    """Sizes of the U-Net, and how it is trained."""
    small = {"width": 32, "multipliers": (1, 2), "kernel": 3, "head_dim": 16}
    small |= {"num_heads": 2, "lr": 1e-3, "batch_size": 128, "ema_start": 500}
    demo = small | {"width": 16, "batch_size": 64, "ema_start": 100, "lr": 2e-3}
    return pick(preset, paper={}, small=small, demo=demo)


def _low_level(spec: EnvSpec | None, preset: str, name: str = "") -> Stage:
    """The low-level policy: HULC as published, goal-conditioned cloning else."""
    name = name or pick(preset, paper="hulc", small="gcbc", demo="gcbc")
    if name == "hulc":
        return hulc.stage(spec, preset)
    return gcbc.stage(spec, preset, **gcbc.FOR_PLANNERS)


def planner_stage(
    encoder: Stage, method: Planner, config: Any, steps: int, moves: str = "latents"
) -> Stage:
    """Stage `planner` in the latents of `encoder`, with moves as of `PlanView`."""
    view = plans.PlanView(moves)
    return Stage("planner", method, config, view, steps, reads=(encoder.name,))


def _hierarchy(
    name: str, encoder: Stage, planner: Stage, sampling: Mapping[str, Any]
) -> Recipe:
    """A low-level policy and a planner of its subgoals."""

    def actor(recipe: Recipe) -> Actor:
        replan = recipe.acting["sampling"].replan
        return PlannedSubgoalActor(encoder.name, recipe.config("planner").text, replan)

    return Recipe(
        name,
        (encoder, planner),
        actor,
        acting={"sampling": plan_sampling.Config(**sampling)},
        validate=validate,
    )


def validate(recipe: Recipe, dataset: Dataset, executed: bool = False) -> None:
    """`Recipe.validate`: what planner and sampler ask of each other and of the data.

    Otherwise errors would appear only after the low-level policy was trained.
    `executed` is as of `plan_sampling.check_rows`.
    """
    config, sampling = recipe.config("planner"), recipe.acting["sampling"]
    if isinstance(config, diffusion_planner.Config):
        diffusion_planner.sampler_steps(config, sampling)
    plan_sampling.check_rows(sampling, config, executed)
    source = plans.source(dataset, config)
    annotations, *_ = plans.described(source, config)
    config.text.embed(annotations.sentences)


def _diffusion(
    name: str,
    spec: EnvSpec | None,
    preset: str,
    settings: Mapping[str, Any],
    low: str = "",
) -> Recipe:
    encoder = _low_level(spec, preset, low)
    widths = sizes(preset) | text_encoder(spec)
    config = diffusion_planner.Config(**(widths | settings["planner"]))
    steps = pick(preset, paper=250_000, small=15_000, demo=3_000)
    planner = planner_stage(encoder, diffusion_planner.METHOD, config, steps)
    return _hierarchy(name, encoder, planner, settings["sampling"])


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion: code and thesis reconciled, see the module."""
    return _diffusion("lcd", spec, preset, DEFAULT)


def code_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion as its published code has it."""
    return _diffusion("lcd_code", spec, preset, CODE)


def thesis_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion as the thesis has it."""
    return _diffusion("lcd_thesis", spec, preset, THESIS)


def hulc_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Language Control Diffusion over HULC in every preset."""
    return _diffusion("lcd_hulc", spec, preset, DEFAULT, "hulc")


def mlp_recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """The ablation of table 4.4: the next latent by regression."""
    settings: dict[str, Any] = pick(
        preset,
        paper={"hidden_dims": (1024,) * 3},
        small={"hidden_dims": (256,) * 3, "lr": 1e-3},
        demo={"hidden_dims": (128, 128), "lr": 1e-3},
    )
    encoder = _low_level(spec, preset)
    settings |= text_encoder(spec) | {"standardize": True}
    config = mlp_planner.Config(**settings)
    steps = pick(preset, paper=100_000, small=15_000, demo=4_000)
    planner = planner_stage(encoder, mlp_planner.METHOD, config, steps)
    return _hierarchy("lcd_mlp", encoder, planner, DEFAULT["sampling"])
