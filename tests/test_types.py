"""Configs as pytrees, and scores."""

import dataclasses

import jax
import numpy as np
import pytest

from offjax.errors import UserError, require_least, require_option
from offjax.types import Actor, EnvSpec, config, static, traced_fields


@config
class Settings:
    lr: float = 1e-3
    width: int = 8
    discount: float = static(default=0.99)
    name: str = "a"


@config
class More(Settings):
    scale: float = 2.0


def test_floats_are_leaves_and_the_rest_is_structure():
    assert traced_fields(Settings) == ["lr"]
    assert jax.tree.leaves(Settings()) == [1e-3]
    assert traced_fields(More) == ["lr", "scale"]
    assert jax.tree.leaves(More(lr=0.5)) == [0.5, 2.0]
    doubled = jax.tree.map(lambda x: 2 * x, More(width=4, name="b"))
    assert doubled == More(lr=2e-3, scale=4.0, width=4, name="b")


def test_one_program_serves_many_values_of_a_float():
    traces = []

    @jax.jit
    def program(settings):
        traces.append(settings.width)
        return settings.lr * settings.width * settings.discount

    for lr in (1.0, 2.0, 3.0):
        assert program(Settings(lr=lr)) == pytest.approx(lr * 8 * 0.99)
    assert len(traces) == 1
    assert program(Settings(lr=1.0, width=4)) == pytest.approx(4 * 0.99)
    assert program(Settings(lr=1.0, discount=0.5)) == pytest.approx(4.0)
    assert traces == [8, 4, 8]


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().lr = 1.0


def test_scores_are_normalized_returns():
    spec = EnvSpec("e", 3, (-1.0, 0.0), (1.0, 2.0), 10, 20.0, 120.0)
    assert spec.action_dim == 2
    np.testing.assert_allclose(spec.score(np.array([20, 120, 45])), [0, 100, 25])
    assert spec.score(np.float32([3.0])).dtype == np.float64
    unknown = dataclasses.replace(spec, ref_max_score=None)
    assert np.isnan(unknown.score(np.array([1.0, 2.0]))).all()


def test_an_actor_by_default_plans_and_records_nothing():
    actor = Actor()
    assert actor.period == 1
    assert actor.plan(None, "carry", None, None) == "carry"
    assert actor.record("carry", None) == "carry"
    with pytest.raises(NotImplementedError):
        actor.act(None, None, None, None, None)


def test_values_that_are_not_allowed_are_named():
    with pytest.raises(UserError, match=r"option is 'c'.*'a', 'b'"):
        require_option("option", "c", ("a", "b"))
    for value in (0.5, float("nan")):
        with pytest.raises(UserError, match=f"size is {value}: at least 1"):
            require_least(1, width=1, size=value)
