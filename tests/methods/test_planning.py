"""How planners act: subgoals are pursued, planned actions executed in order."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.normalize import ActionBox
from offjax.datasets.text import TextEncoder
from offjax.distributions import point
from offjax.errors import UserError
from offjax.methods.goals import GoalMethod
from offjax.methods.plan_sampling import Config as Sampling
from offjax.methods.planning import PlannedActionActor, PlannedSubgoalActor, Planner
from offjax.methods.plans import Probe
from offjax.types import Model, Params


def counting_plan(model, latent, text, key, sampling):
    """Counts upwards from the present latent, by the text's first entry."""
    del model, key, sampling
    rows = latent[None] + text.tokens[0, 0] + jnp.arange(6.0).reshape(2, 3)
    return jnp.concatenate([10 * rows[:, :2], rows], axis=-1)[:, :5]


def towards(model, carry, observation, latent, key):
    """Goal minus observation, and what is carried."""
    action = jnp.concatenate([latent - observation[: latent.shape[0]], carry[None]])
    return point(action), carry + 1


PLANNER = Planner("planner", 1, None, None, plan=counting_plan)
LOW = GoalMethod(
    "low",
    1,
    None,
    None,
    encode_goal=lambda model, observations: observations + 1,
    encode_text=None,
    empty=lambda model: jnp.float32(0),
    begin=lambda model, observation, latent, key: jnp.float32(100),
    act_towards=towards,
)


def stub_params(latents):
    state = SimpleNamespace(probe=Probe(jnp.zeros((2, 3)), latents))
    box = ActionBox(jnp.array([-1.0]), jnp.array([3.0]))
    models = {
        "planner": Model(PLANNER, SimpleNamespace(stride=2, horizon=2), state),
        "low": Model(LOW, None, SimpleNamespace(action_box=box)),
    }
    return Params(models, {"sampling": Sampling(rows=0)})


TASK = {"tokens": np.full((1, 1), 5.0, np.float32), "mask": np.ones(1, bool)}


def test_a_subgoal_is_planned_and_pursued():
    params = stub_params(jnp.ones((2, 3)))
    actor = PlannedSubgoalActor("low", TextEncoder(), 8)
    observation = jnp.array([1.0, 2.0, 3.0])
    carry = actor.begin(params, TASK, None)
    carry = actor.plan(params, carry, observation, jax.random.PRNGKey(0))
    # The latent is observation + 1, the text adds 5, the first move is 10 times that.
    np.testing.assert_allclose(carry.latent, [70.0, 90.0])
    distribution, carry = actor.act(params, carry, observation, 0.0, None)
    np.testing.assert_allclose(distribution.mode(), [69, 88, 100])
    distribution, _ = actor.act(params, carry, observation, 0.0, None)
    assert distribution.mode()[-1] == 101


def test_planned_actions_are_executed_in_order():
    params = stub_params(jnp.ones((2, 3)))
    actor = PlannedActionActor("low", TextEncoder(), 3)
    observation = jnp.zeros(3)
    carry = actor.begin(params, TASK, None)
    carry = actor.plan(params, carry, observation, jax.random.PRNGKey(0))
    found = []
    for _ in range(4):
        distribution, carry = actor.act(params, carry, observation, 0.0, None)
        found.append(float(distribution.mode()[0]))
    # 10 · (1 + 5 + (0, 1 | 3, 4)) around the center of the box, 1.
    assert found == [61, 71, 91, 101]
    with pytest.raises(UserError, match="a plan holds 4 actions"):
        dataclasses.replace(actor, period=5).begin(params, TASK, None)


def test_parts_that_do_not_belong_together():
    actor = PlannedSubgoalActor("low", TextEncoder(), 8)
    with pytest.raises(UserError, match="another low-level policy"):
        actor.begin(stub_params(jnp.zeros((2, 3))), TASK, None)
    with pytest.raises(UserError, match="latents of 4 entries"):
        actor.begin(stub_params(jnp.zeros((2, 4))), TASK, None)
    with pytest.raises(UserError, match="none was given"):
        actor.begin(stub_params(jnp.ones((2, 3))), None, None)
