"""What a new method's author is told when its functions do not do what they must."""

import dataclasses

import pytest

from offjax import methods
from offjax.errors import UserError
from offjax.methods import bc
from tests.runner.tiny_training import train


def no_metrics(state, batch, config, upstream):
    return bc.update(state, batch, config, upstream)[0]


def nested_metric(state, batch, config, upstream):
    state, _ = bc.update(state, batch, config, upstream)
    return state, {"bc/actor": state.actor.params}


def other_type(state, batch, config, upstream):
    state, metrics = bc.update(state, batch, config, upstream)
    return state.replace(step=state.step + 0.0), metrics


def lost_field(state, batch, config, upstream):
    state, metrics = bc.update(state, batch, config, upstream)
    return state.replace(actor=None), metrics


def array(model, observation, key):
    return bc.act(model, observation, key).mode()


def broken(key, data, config, upstream):
    raise TypeError("no such layer")


@pytest.mark.parametrize(
    ("functions", "told"),
    [
        ({"update": no_metrics}, r"returns State: return the new state and a dict"),
        ({"update": nested_metric}, r"metric 'bc/actor' as dict: return a scalar"),
        ({"update": other_type}, r"state\.step from int32\[\] to float32\[\]"),
        ({"update": lost_field}, r"state\.actor\.\S+ from float32\[.*\] to nothing"),
        ({"act": array}, r"must return a Distribution"),
        ({"init": broken}, r"in test_new_methods.py, line \d+: no such layer"),
    ],
)
def test_the_error_names_what_the_method_must_return(
    functions, told, budget_dataset, tmp_path, monkeypatch
):
    def recipe(spec, preset):
        found = bc.recipe(spec, preset)
        method = dataclasses.replace(bc.METHOD, name="new", **functions)
        stage = dataclasses.replace(found.stages[0], method=method)
        return dataclasses.replace(found, stages=(stage,))

    monkeypatch.setitem(methods.METHODS, "bc", recipe)
    with pytest.raises(UserError, match=told):
        train(budget_dataset, tmp_path, "bc", num_seeds=1)
