"""Diffuser: states and actions planned at once, in a VAE's latents; no hierarchy.

Janner et al., 2022 (arXiv:2205.09991), as Diffuser-1D in the tables of Language Control
Diffusion (Zhang et al., 2022, arXiv:2210.15629): a plan spans some 60 steps, and its
moves are the actions between two states. All 20 DDPM steps, all rows, and no replanning
before the end of the first row. The tables' two-dimensional variant needs the weights
of an image autoencoder, which cannot be had: where observations are pixels, a β-TC-VAE
of the play's own frames stands for it (`offjax.methods.pixel_vae`).
"""

from __future__ import annotations

from functools import partial

from offjax.methods import (
    diffusion_planner,
    observation_vae,
    pixel_vae,
    plan_sampling,
)
from offjax.methods.common import pick
from offjax.methods.goals import text_encoder
from offjax.methods.lcd import planner_stage, sizes, validate
from offjax.methods.planning import PlannedActionActor
from offjax.types import Actor, EnvSpec, Recipe


def _actor(recipe: Recipe) -> Actor:
    replan = recipe.acting["sampling"].replan
    return PlannedActionActor("vae", recipe.config("planner").text, replan)


def recipe(spec: EnvSpec | None, preset: str) -> Recipe:
    """Diffuser, see the module."""
    vae = observation_vae.stage(preset)
    if spec is not None and spec.cameras:
        vae = pixel_vae.stage(spec, preset)
    settings = sizes(preset) | {"horizon": 8, "stride": 8, "standardize": True}
    settings |= text_encoder(spec) | {"first_weight": 10.0}
    if preset == "paper":
        settings["width"] = 128
    config = diffusion_planner.Config(**settings)
    steps = pick(preset, paper=300_000, small=15_000, demo=4_000)
    method = diffusion_planner.METHOD
    planner = planner_stage(vae, method, config, steps, moves="actions")
    return Recipe(
        "diffuser",
        (vae, planner),
        _actor,
        acting={"sampling": plan_sampling.Config(sampler="ddpm", replan=8)},
        validate=partial(validate, executed=True),
    )
