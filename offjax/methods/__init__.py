"""The methods: name → `(spec, preset) → Recipe`, in one dict."""

from __future__ import annotations

from collections.abc import Callable

from offjax.methods import (
    action_gradient,
    asp,
    awac,
    bc,
    bc_vae,
    bcq,
    cfpi,
    cql,
    decision_transformer,
    diffuser,
    fql,
    gcbc,
    hulc,
    iql,
    iterative_cfpi,
    lcd,
    mcil,
    multistep_cfpi,
    pixels,
    rebrac,
    reinformer,
    reinformer_original,
    rev_kl,
    td3_bc,
    tdmpc2,
)
from offjax.methods.compose import check, compose
from offjax.types import EnvSpec, Recipe

METHODS: dict[str, Callable[[EnvSpec | None, str], Recipe]] = {
    # Behavior cloning
    "bc": bc.recipe,
    "percent_bc": bc.percent_bc,
    "bc_gaussian": bc.bc_gaussian,
    "bc_mixture": bc.bc_mixture,
    "bc_mixture_sampled": bc.bc_mixture_sampled,
    "bc_deterministic": bc.bc_deterministic,
    "bc_vae": bc_vae.recipe,
    # Values
    "td3_bc": td3_bc.recipe,
    "rebrac": rebrac.recipe,
    "fql": fql.recipe,
    "iql": iql.recipe,
    "cql": cql.recipe,
    "awac": awac.recipe,
    "bcq": bcq.recipe,
    "tdmpc2": tdmpc2.recipe,
    "tdmpc2_policy": tdmpc2.policy_recipe,
    # Closed-form policy improvement
    "cfpi": cfpi.recipe,
    "cfpi_sg": cfpi.cfpi_sg,
    "cfpi_kept": cfpi.cfpi_kept,
    "cfpi_release": cfpi.cfpi_release,
    "cfpi_ensemble": cfpi.cfpi_ensemble,
    "multistep_cfpi": multistep_cfpi.recipe,
    "iterative_cfpi": iterative_cfpi.recipe,
    "iql_cfpi": iql.iql_cfpi,
    "cql_cfpi": cql.cql_cfpi,
    "idet": cfpi.idet,
    "idet_vae": cfpi.idet_vae,
    "vae_ebcq": cfpi.vae_ebcq,
    "mode_selection": cfpi.mode_selection,
    "ebcq": cfpi.ebcq,
    "ebcq_mixture": cfpi.ebcq_mixture,
    "rev_kl": rev_kl.recipe,
    "rev_kl_mixture": rev_kl.rev_kl_mixture,
    # Sequences of actions, and sequence models
    "asp": asp.recipe,
    "asp_k1": asp.one_step,
    "asp_mle": asp.likelihood,
    "asp_listing": asp.listing,
    "asp_equation": asp.equation,
    "decision_transformer": decision_transformer.recipe,
    "reinformer": reinformer.recipe,
    "reinformer_original": reinformer_original.recipe,
    "dt_ag": action_gradient.dt_ag,
    "reinformer_ag": action_gradient.reinformer_ag,
    "reinformer_pg": action_gradient.reinformer_pg,
    "reinformer_awac": action_gradient.reinformer_awac,
    # Language
    "gcbc": gcbc.recipe,
    "gcbc_goal": gcbc.goal_recipe,
    "mcil": mcil.recipe,
    "hulc": hulc.recipe,
    "lcd": lcd.recipe,
    "lcd_code": lcd.code_recipe,
    "lcd_thesis": lcd.thesis_recipe,
    "lcd_hulc": lcd.hulc_recipe,
    "lcd_mlp": lcd.mlp_recipe,
    "diffuser": diffuser.recipe,
}


def build(
    name: str, spec: EnvSpec | None, preset: str = "paper", dataset: str = ""
) -> Recipe:
    """The recipe `name` with the settings of `preset` for the domain of `spec`.

    `policy+critic+operator` composes one; see `offjax.methods.compose`. With the id of
    a dataset it has what is published for that dataset alone. `UserError` for an
    unknown method or preset, or one that cannot read the environment's cameras.
    """
    if "+" in name:
        recipe = compose(name, METHODS)(spec, preset)
    else:
        check("method", name, METHODS)
        recipe = METHODS[name](spec, preset)
    pixels.check(recipe, spec)
    return recipe.for_dataset(recipe, dataset) if recipe.for_dataset else recipe
