import pytest

from offjax.errors import UserError
from offjax.recipes import build


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
    assert [s.name for s in composed.stages] == ["iql"]


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
