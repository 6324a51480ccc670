"""Cloning towards goals: the loss by hand, chunks, averages, and that it learns."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.play import ChunkBatch, Chunks
from offjax.errors import UserError
from offjax.methods import gcbc
from offjax.methods.common import clipped
from offjax.types import Model, Statistics

TINY = gcbc.Config(
    lr=1e-2,
    ema_decay=0.9,
    hidden_dims=(16,),
    encoder_dims=(8,),
    latent_dim=4,
    chunk=3,
    execute=2,
    goal_offset=2,
    batch_size=6,
)
RNG = np.random.default_rng(0)
DATA = SimpleNamespace(
    sentences=np.zeros((1, 4)),
    statistics=Statistics(np.ones(3), 2 * np.ones(3), -np.ones(2), 3 * np.ones(2)),
)


def examples(goal_dim, size=6):
    return Chunks(
        jnp.asarray(RNG.normal(size=(size, 3)), jnp.float32),
        jnp.asarray(RNG.uniform(-1, 3, size=(size, 3, 2)), jnp.float32),
        jnp.asarray(RNG.uniform(size=(size, 3)) < 0.7, jnp.float32),
        jnp.asarray(RNG.normal(size=(size, goal_dim)), jnp.float32),
    )


BATCH = ChunkBatch(examples(3), examples(4))


def model(state, config=TINY):
    return Model(gcbc.METHOD, config, state)


def loss(params, state, batch, config):
    """With the noise of the state's step."""
    key = jax.random.fold_in(state.key, state.step)
    return gcbc.actor_loss(params, state, batch, key, config)


@pytest.fixture(scope="module")
def state():
    return jax.jit(lambda key: gcbc.init(key, DATA, TINY, {}))(jax.random.key(0))


@pytest.fixture(scope="module")
def trained(state):
    """States after one and after many updates on one batch, with their metrics."""

    @jax.jit
    def train(state, count):
        def step(_, carry):
            return gcbc.update(carry[0], BATCH, TINY, {})

        names = ("gcbc/states", "gcbc/language", "gcbc/loss")
        metrics = dict.fromkeys(names, jnp.float32(0))
        return jax.lax.fori_loop(0, count, step, (state, metrics))

    return train(state, 1), train(state, 1500)


def test_loss_is_the_masked_mean_of_both_kinds(state, trained):
    """Predictions are the algorithm's, their comparison is NumPy's."""
    _, metrics = trained[0]

    @jax.jit
    def predictions(state):
        latents = (
            gcbc.encode_goal(model(state), BATCH.states.goals),
            gcbc.encode_text(model(state), BATCH.language.goals),
        )
        return [
            gcbc.chunk(model(state), kind.observations, z)
            for kind, z in zip(BATCH, latents, strict=True)
        ]

    expected = []
    for kind, predicted in zip(BATCH, predictions(state), strict=True):
        errors = ((np.asarray(kind.actions) - predicted) / 2) ** 2  # half-width 2
        mask = np.asarray(kind.mask) > 0
        expected.append(errors.mean(-1)[mask].mean())
    np.testing.assert_allclose(metrics["gcbc/states"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(metrics["gcbc/language"], expected[1], rtol=1e-5)
    np.testing.assert_allclose(metrics["gcbc/loss"], np.mean(expected), rtol=1e-5)


def test_overfits_one_batch_with_either_goal(trained):
    (_, first), (_, last) = trained
    for name in ("gcbc/states", "gcbc/language"):
        assert last[name] < 0.02 * first[name]


def test_the_average_follows_the_parameters(state, trained):
    (after, _), _ = trained
    expected = jax.tree.map(  # the first decay is 1/10
        lambda old, new: 0.1 * old + 0.9 * new, state.actor.params, after.actor.params
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        after.ema,
        expected,
    )


def test_steps_that_do_not_count_have_no_effect(state):
    gradient = jax.jit(jax.grad(lambda p, b: loss(p, state, b, TINY)[0]))

    def spoil(kind):
        padded = kind.mask[..., None] == 0
        return kind._replace(actions=jnp.where(padded, 99.0, kind.actions))

    grads = gradient(state.actor.params, BATCH)
    spoilt = gradient(state.actor.params, ChunkBatch(*map(spoil, BATCH)))
    jax.tree.map(np.testing.assert_array_equal, grads, spoilt)


def test_chunks_are_executed_in_part(trained):
    """Steps 0, 1 are of the chunk planned at 0, steps 2, 3 of that planned at 2."""
    _, (state, _) = trained
    observations = jnp.asarray(RNG.normal(size=(4, 3)), jnp.float32)

    @jax.jit
    def run(state):
        latent = gcbc.encode_goal(model(state), observations[0])
        key = jax.random.key(0)
        carry = gcbc.begin(model(state), observations[0], latent, key)

        def step(carry, observation):
            distribution, carry = gcbc.act_towards(
                model(state), carry, observation, latent, key
            )
            return carry, distribution.mode()

        _, actions = jax.lax.scan(step, carry, observations)
        latents = jnp.broadcast_to(latent, (4, 4))
        return actions, gcbc.chunk(model(state), observations, latents)

    actions, chunks = run(state)
    expected = [chunks[0, 0], chunks[0, 1], chunks[2, 0], chunks[2, 1]]
    np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-5)


def test_observations_are_clipped(state):
    far = jax.jit(lambda s: clipped(s, jnp.array([1e3, 2.0, -1e3])))(state)
    np.testing.assert_allclose(far, [5, 0.5, -5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"goals": "images"}, "goals is 'images'"),
        ({"execute": 4}, "execute=4"),
        ({"goal_offset": 0}, "goal_offset is 0"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **settings).validate()


def dense(params, name, x):
    """A network of one hidden layer with layer norm and GELU, in NumPy's float64."""
    layers = jax.tree.map(lambda a: np.asarray(a, np.float64), params["params"][name])
    x = x @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    norm = layers["LayerNorm_0"]
    x = x * norm["scale"] + norm["bias"]
    x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]


def test_states_are_reconstructed_from_their_latents():
    config = dataclasses.replace(TINY, goals="states", reconstruction=2.0)
    state = jax.jit(lambda key: gcbc.init(key, DATA, config, {}))(jax.random.key(1))
    batch = ChunkBatch(BATCH.states, None)
    total, metrics = jax.jit(loss)(state.actor.params, state, batch, config)
    goals = (np.asarray(batch.states.goals, np.float64) - 1) / 2
    latents = np.asarray(gcbc.encode_goal(model(state, config), batch.states.goals))
    error = dense(state.actor.params, "decoder", latents) - goals
    expected = 2.0 * np.mean(error**2)
    np.testing.assert_allclose(metrics["gcbc/reconstruction"], expected, rtol=1e-5)
    np.testing.assert_allclose(total, metrics["gcbc/states"] + expected, rtol=1e-5)
    plain = dataclasses.replace(config, reconstruction=0.0)
    alone = gcbc.init(jax.random.key(1), DATA, plain, {})
    assert "decoder" not in alone.actor.params["params"]


def test_noise_reaches_the_latents_of_states_alone(state):
    """With noise the states' error is that at latents moved by the step's draw."""
    noisy = dataclasses.replace(TINY, goal_noise=0.5)
    compiled = jax.jit(loss)
    _, plain = compiled(state.actor.params, state, BATCH, TINY)
    _, moved = compiled(state.actor.params, state, BATCH, noisy)
    np.testing.assert_allclose(moved["gcbc/language"], plain["gcbc/language"])
    latents = gcbc.encode_goal(model(state), BATCH.states.goals)
    noise = jax.random.normal(jax.random.fold_in(state.key, 0), latents.shape)
    predicted = gcbc.chunk(
        model(state), BATCH.states.observations, latents + 0.5 * noise
    )
    errors = ((np.asarray(BATCH.states.actions) - predicted) / 2) ** 2
    expected = errors.mean(-1)[np.asarray(BATCH.states.mask) > 0].mean()
    np.testing.assert_allclose(moved["gcbc/states"], expected, rtol=1e-5)
    assert abs(moved["gcbc/states"] / plain["gcbc/states"] - 1) > 1e-3
    later = state.replace(step=jnp.int32(1))
    assert (
        compiled(state.actor.params, later, BATCH, noisy)[1]["gcbc/states"]
        != moved["gcbc/states"]
    )


def test_objects_of_one_kind_may_be_read_alike(state):
    config = dataclasses.replace(TINY, objects=(1, 2, 1))
    made = jax.jit(lambda key: gcbc.init(key, DATA, config, {}))(jax.random.key(0))
    policy = made.actor.params["params"]["policy"]
    assert policy["Dense_0"]["kernel"].shape[0] == 1 + 1  # the rest, and one object
    assert set(state.actor.params["params"]["policy"]) == {
        "Dense_0",
        "Dense_1",
        "LayerNorm_0",
    }
    actions = gcbc.chunk(model(made, config), jnp.zeros((5, 3)), jnp.zeros((5, 4)))
    assert actions.shape == (5, 3, 2)
    _, metrics = jax.jit(lambda s: gcbc.update(s, BATCH, config, {}))(made)
    assert np.isfinite(metrics["gcbc/loss"])


def test_objects_beyond_the_observations_are_refused():
    config = dataclasses.replace(TINY, objects=(1, 3, 1))
    with pytest.raises(UserError, match="do not fit into observations of 3 columns"):
        gcbc.init(jax.random.key(0), DATA, config, {})
