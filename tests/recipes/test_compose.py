from types import SimpleNamespace

import pytest

from offjax.errors import UserError
from offjax.recipes import build
from offjax.recipes.transitions import critic
from offjax.runner import settings
from offjax.types import Params


def test_a_composition_is_the_recipe_that_has_a_name(budget_dataset):
    spec = budget_dataset.spec
    composed = build("bc_mixture+sarsa_iqn+closed_form_mixture", spec, "small")
    named = build("cfpi", spec, "small")
    assert [s.name for s in composed.stages] == [s.name for s in named.stages]
    for mine, theirs in zip(composed.stages, named.stages, strict=True):
        assert (mine.algorithm, mine.config) == (theirs.algorithm, theirs.config)
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


def test_normalised_steps_have_a_unit_that_is_measured():
    composed = build("bc+iql+action_gradient", None, "demo")
    assert [s.name for s in composed.stages] == ["bc", "iql", "gradient_norm"]
    (job,) = settings.expand(composed, {"iql.hidden_dims": ((8, 8),)})
    measure = job.recipe.stages[2]
    assert measure.reads == ("iql",) and measure.config.critic.hidden_dims == (8, 8)

    known = SimpleNamespace(q_value=lambda state, o, a, config: state * a)
    improve = SimpleNamespace(step_mode="normalised")
    states = {"iql": 6.0, "gradient_norm": SimpleNamespace(norm=3.0)}
    params = Params(states, {"iql": None}, improve)
    assert critic("iql", known, "gradient_norm")(params)(0.0, 5.0) == 10.0
    with pytest.raises(UserError, match="step_mode=raw"):
        critic("iql", known)(params)
    raw = params._replace(improve=SimpleNamespace(step_mode="raw"))
    assert critic("iql", known)(raw)(0.0, 5.0) == 30.0
