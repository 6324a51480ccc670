"""FQL: the authors' updates, and acting from noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.methods import build, fql
from offjax.types import Model
from tests.methods.authors_fixture import Fixture


def config_of(fixture):
    given = fixture.config
    return fql.Config(
        actor_lr=float(given["lr"]),
        critic_lr=float(given["lr"]),
        discount=float(given["discount"]),
        tau=float(given["tau"]),
        alpha=float(given["alpha"]),
        flow_steps=int(given["flow_steps"]),
        q_aggregation=str(given["q_agg"]),
        normalize_q=bool(given["normalize_q_loss"]),
        hidden_dims=tuple(given["hidden_dims"].tolist()),
        batch_size=6,
    )


@pytest.mark.parametrize("name", ["fql", "fql_min"])
def test_two_updates_are_the_authors(name):
    fixture = Fixture(name)
    with jax.enable_x64(True):
        config = config_of(fixture)
        state = fql.init(jax.random.PRNGKey(0), fixture.data, config, {})
        state = fixture.begin(state)
        for i in range(2):
            batch = fixture.transitions(i)
            key = jnp.asarray(fixture.arrays["key/update"][i])
            state, metrics = jax.jit(fql.learn)(state, batch, key, config)
            fixture.check(state, f"after/{i}")
            found = {
                "critic": metrics["fql/critic_loss"],
                "flow": metrics["fql/flow_loss"],
                "distill": metrics["fql/distillation"],
                "actor": metrics["fql/actor_loss"] + metrics["fql/flow_loss"],
            }
            for loss, value in found.items():
                expected = fixture.arrays[f"loss/{loss}"][i]
                np.testing.assert_allclose(value, expected, rtol=1e-9, err_msg=loss)


def test_it_acts_from_noise_within_the_box():
    fixture = Fixture("fql")
    config = config_of(fixture)
    state = fql.init(jax.random.PRNGKey(1), fixture.data, config, {})
    model = Model(fql.METHOD, config, state)
    keys = jax.random.split(jax.random.PRNGKey(0), 50)
    actions = jax.vmap(lambda key: model.act(jnp.ones(3), key).mode())(keys)
    assert actions.shape == (50, 2) and np.all(np.abs(actions) <= 1)
    assert np.all(np.std(actions, axis=0) > 0)


def test_a_flow_of_constant_velocity_arrives_where_it_points():
    fixture = Fixture("fql")
    config = config_of(fixture)
    state = fql.init(jax.random.PRNGKey(1), fixture.data, config, {})
    last = f"Dense_{len(config.hidden_dims)}"
    params = jax.tree.map(jnp.zeros_like, state.flow.params)
    params["params"][last]["bias"] = jnp.array([0.25, -2.0])
    noise = jnp.array([[0.5, 0.5]])
    arrived = fql.flow(params, jnp.zeros((1, 3)), noise, config)
    np.testing.assert_allclose(arrived, [[0.75, -1.0]], atol=1e-6)  # clipped below


def test_bad_settings_are_refused():
    with pytest.raises(UserError, match="q_aggregation"):
        fql.Config(q_aggregation="median").validate()
    with pytest.raises(UserError, match="flow_steps"):
        fql.Config(flow_steps=0).validate()
    assert build("fql", None, "paper").config("fql").hidden_dims == (512,) * 4
