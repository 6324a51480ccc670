"""Compositions: what they are made of, and what is refused before training."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.evaluation.rollout import Agent
from offjax.improvement import OPERATORS, improvement
from offjax.methods import METHODS, build
from offjax.methods.common import reads_critic
from offjax.methods.compose import CRITICS
from offjax.types import Method, Model, Params

QUICK = ("bc_mixture", "td3_bc")
DENSITY = ("closed_form_gaussian", "closed_form_mixture")
POINTS = ("bc_deterministic", "bc_mixture_sampled", "bc_vae", "idet", "idet_vae")
POINTS += ("vae_ebcq", "td3_bc", "bcq")
MIXTURES = ("bc_mixture", "cfpi", "cfpi_ensemble", "multistep_cfpi", "iterative_cfpi")
MIXTURES += ("mode_selection", "ebcq_mixture", "rev_kl_mixture")


def test_a_composition_is_the_recipe_that_has_a_name(budget_dataset):
    spec = budget_dataset.spec
    composed = build("bc_mixture+sarsa_iqn+closed_form_mixture", spec, "small")
    named = build("cfpi", spec, "small")
    assert composed.stages == named.stages
    assert composed.acting == named.acting
    assert composed.improve == named.improve


def test_a_stage_that_policy_and_critic_share_is_trained_once():
    composed = build("iql+iql+action_gradient", None, "small")
    assert [s.name for s in composed.stages] == ["iql", "gradient_norm"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("bc_mixture+sarsa_iqn", "policy+critic+operator"),
        ("bc_mixtur+sarsa_iqn+best_of_n", "bc_mixture"),
        ("bc_mixture+sarsa+best_of_n", "sarsa_iqn"),
        ("bc_mixture+sarsa_iqn+best_of_5", "best_of_n"),
        ("cfpi2", "cfpi"),
    ],
)
def test_unknown_parts_are_named_with_what_is_near(name, words):
    with pytest.raises(UserError) as error:
        build(name, None, "small")
    assert words in str(error.value)


def test_an_unknown_preset_is_an_error():
    with pytest.raises(UserError, match="preset"):
        build("bc", None, "large")


def test_normalized_steps_are_in_a_unit_that_is_measured():
    composed = build("bc+iql+action_gradient", None, "demo")
    assert [s.name for s in composed.stages] == ["bc", "iql", "gradient_norm"]
    measure = composed.stages[2]
    assert measure.reads == ("iql",) and measure.view == composed.stages[1].view

    known = Method("known", 1, None, None, q_value=lambda model, o, a: model.state * a)
    norm = Model(None, None, SimpleNamespace(norm=3.0))
    models = {"iql": Model(known, None, 6.0), "gradient_norm": norm}
    normalized = improvement("action_gradient", step_mode="normalized").config
    params = Params(models, {}, normalized)
    assert reads_critic("iql")(params)(0.0, 5.0) == 10.0
    with pytest.raises(UserError, match="step_mode=raw"):
        reads_critic("iql")(params._replace(models={"iql": models["iql"]}))
    for other in ("action_gradient", "best_of_n"):
        raw = params._replace(improve=improvement(other).config)
        assert reads_critic("iql")(raw)(0.0, 5.0) == 30.0


def test_a_composition_on_a_policy_that_reads_a_critic_keeps_both():
    composed = build("rev_kl+iql+best_of_n", None, "small")
    assert [s.name for s in composed.stages] == ["bc", "sarsa", "rev_kl", "iql"]
    assert composed.stages[2].reads == ("bc", "sarsa")


def test_a_refusal_of_the_policy_is_one_of_the_composition(small_dataset):
    composed = build("rev_kl+iql+best_of_n", small_dataset.spec, "demo")
    cloning = dataclasses.replace(composed.config("bc"), head="deterministic")
    first = dataclasses.replace(composed.stages[0], config=cloning)
    composed = dataclasses.replace(composed, stages=(first, *composed.stages[1:]))
    with pytest.raises(UserError, match="no density"):
        composed.validate(composed, small_dataset)


def refused(policy, operator):
    """Whether the operator finds nothing that it could improve."""
    if policy in POINTS:
        return operator in DENSITY
    return policy in MIXTURES and operator == "closed_form_gaussian"


@pytest.mark.parametrize(
    "policy",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in METHODS],
)
def test_every_composition_acts_or_is_refused_before_training(
    policy, small_dataset, narrow, train
):
    """All critics and operators on one policy, trained for two updates."""
    trained = {}
    observation, key = jnp.ones(3), jax.random.PRNGKey(1)
    for critic in CRITICS:
        for operator in OPERATORS:
            name = f"{policy}+{critic}+{operator}"
            recipe = narrow(build(name, small_dataset.spec, "demo"))
            if refused(policy, operator):
                with pytest.raises(UserError, match=r"density|mixture"):
                    recipe.validate(recipe, small_dataset)
                continue
            recipe.validate(recipe, small_dataset)
            mine = {k: m for k, m in trained.items() if k != "gradient_norm"}
            params = train(recipe, small_dataset, 2, mine)
            trained |= params.models
            agent = Agent.of(recipe)

            def act(params, observation, key, agent=agent):
                carry = agent.actor.begin(params, None, key)
                return agent.act(params, carry, observation, jnp.float32(0), key)[0]

            assert jax.eval_shape(act, params, observation, key).shape == (2,)
            if critic == "iql":  # to compile all of them would take minutes
                assert np.isfinite(jax.jit(act)(params, observation, key)).all()
