"""What is asked of a training is checked before anything is trained or written."""

import dataclasses

import pytest

from offjax import methods
from offjax.errors import UserError
from offjax.runner import run as api
from tests.runner.tiny_training import train


@pytest.mark.parametrize(
    ("method", "overrides", "words"),
    [
        ("iql", {"expectil": 0.7}, "Did you mean expectile"),
        ("iql", {"expectile": [0.7, 7.0]}, "expectile=7.0"),
        ("iql", {"iql.critic_lr": "fast"}, "fast"),
        ("iqll", {}, "Did you mean iql"),
    ],
)
def test_a_request_is_checked_when_it_is_made(method, overrides, words):
    with pytest.raises(UserError, match=words):
        api.recipe(method, **overrides)


@pytest.mark.parametrize(
    ("request_", "options", "words"),
    [
        ("bc", {"evl_episodes": 2}, "Did you mean eval_episodes"),
        ("bc", {"eval_episodes": 0}, "eval_episodes=0"),
        (methods.build("bc", None, "demo"), {}, "not a Recipe"),
    ],
)
def test_training_checks_what_it_is_given_before_it_loads(request_, options, words):
    with pytest.raises(UserError, match=words):
        api.train(request_, "no/such-dataset-v0", **options)


def test_a_misspelled_environment_is_refused_before_training(budget_dataset, tmp_path):
    spec = dataclasses.replace(budget_dataset.spec, id="offjax/BudgetAlocation-v0")
    wrong = dataclasses.replace(budget_dataset, spec=spec)
    with pytest.raises(UserError, match="Did you mean offjax/BudgetAllocation-v0"):
        train(wrong, tmp_path)
    assert not list(tmp_path.rglob("run.json"))


def test_every_value_of_a_list_is_validated_before_anything_is_written(
    budget_dataset, tmp_path
):
    with pytest.raises(UserError, match="kl_weight"):
        train(budget_dataset, tmp_path, overrides={"kl_weight": (0.0, 0.2)})
    with pytest.raises(UserError, match="paper"):
        train(budget_dataset, tmp_path, log=("paper",))
    assert not list(tmp_path.iterdir())
