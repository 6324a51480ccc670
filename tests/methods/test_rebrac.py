"""ReBRAC: the authors' updates, and what is published for a dataset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.methods import build, rebrac
from offjax.types import Model
from tests.methods.authors_fixture import Fixture


@pytest.fixture(scope="module")
def fixture():
    return Fixture("rebrac")


def config_of(fixture):
    given = fixture.config
    names = ("critic_lr", "actor_lr", "discount", "tau", "policy_noise", "noise_clip")
    return rebrac.Config(
        **{name: float(given[name]) for name in names},
        actor_bc=float(given["alpha_actor"]),
        critic_bc=float(given["alpha_critic"]),
        policy_freq=int(given["policy_freq"]),
        hidden_dims=tuple(given["hidden_dims"].tolist()),
        batch_size=6,
    )


def test_two_groups_of_steps_are_the_authors(fixture):
    with jax.enable_x64(True):
        config = config_of(fixture)
        state = rebrac.init(jax.random.PRNGKey(0), fixture.data, config, {})
        state = fixture.begin(state)
        for group in range(2):
            steps = slice(2 * group, 2 * group + 2)
            batch = fixture.transitions(steps)
            keys = jnp.asarray(fixture.arrays["key/policy"][steps])
            state, metrics = jax.jit(rebrac.learn)(state, batch, keys, config)
            fixture.check(state, f"after/{group}")
            losses = fixture.arrays["loss/critic"][steps]
            np.testing.assert_allclose(
                metrics["rebrac/critic_loss"], losses.mean(), rtol=1e-9
            )
            actor = fixture.arrays["loss/actor"][steps][-1]
            np.testing.assert_allclose(metrics["rebrac/actor_loss"], actor, rtol=1e-9)


def test_an_update_draws_other_noise_at_every_step(fixture):
    config = config_of(fixture)
    state = rebrac.init(jax.random.PRNGKey(0), fixture.data, config, {})
    batch = fixture.transitions(slice(0, 2))
    one, _ = rebrac.update(state, batch, config, {})
    again, _ = rebrac.update(state, batch, config, {})
    later, _ = rebrac.update(state.replace(step=jnp.int32(2)), batch, config, {})
    assert one.step == 2
    same, other = (
        all(
            np.array_equal(a, b)
            for a, b in zip(
                jax.tree.leaves(one.critic.params),
                jax.tree.leaves(found.critic.params),
                strict=True,
            )
        )
        for found in (again, later)
    )
    assert same and not other


def test_it_acts_within_the_box_and_values_its_action(fixture):
    config = config_of(fixture)
    state = rebrac.init(jax.random.PRNGKey(1), fixture.data, config, {})
    model = Model(rebrac.METHOD, config, state)
    observation = jnp.ones(3)
    action = model.act(observation, jax.random.PRNGKey(0)).mode()
    assert action.shape == (2,) and np.all(np.abs(action) <= 1)
    assert np.isfinite(model.q_value(observation, action))


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("hopper-medium-replay-v2", (0.05, 0.5)),
        ("offjax/hopper/medium-v1", (0.1, 0.1)),
        ("offjax/antmaze/umaze-v0", (0.003, 0.002)),
        ("offjax/maze2d/large-v0", (0.1, 0.1)),
        ("antmaze-umaze-diverse-v2", (0.003, 0.001)),
    ],
)
def test_published_coefficients(dataset, expected):
    config = build("rebrac", None, "paper", dataset).config("rebrac")
    assert (config.actor_bc, config.critic_bc) == expected
