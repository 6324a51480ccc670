"""HULC against PyTorch, its losses by hand, its sizes, and that it learns."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.play import WindowBatch, Windows
from offjax.errors import UserError
from offjax.methods import hulc, mcil
from offjax.methods.imitation import contrastive_loss
from offjax.networks.hulc import EncoderLayer, LatentPlanModel
from offjax.networks.plans import plan_of
from offjax.types import Camera, Model, Statistics
from tests.methods.hulc_reference import SIZES, Reference, example

TINY = hulc.Config(**SIZES, plan_classes=3, recognition_layers=1)


@pytest.fixture(scope="module")
def reference():
    return Reference("hulc", TINY)


@pytest.fixture(scope="module")
def gradients():
    def gradient(params, state, batch, noise, config):
        return jax.grad(hulc.loss_at, has_aux=True)(
            params, state, batch, noise, jax.random.key(1), config
        )

    return jax.jit(gradient)


def test_loss_and_gradients_equal_pytorchs(reference, gradients):
    grads, metrics = gradients(
        reference.params, reference.state, reference.batch, reference.noise, TINY
    )
    reference.check("masked", grads, metrics)


def test_published_padding_counts_and_equals_pytorchs(reference):
    config = dataclasses.replace(TINY, padding="repeated")
    _, metrics = jax.jit(hulc.loss_at)(
        reference.params,
        reference.state,
        reference.batch,
        reference.noise,
        jax.random.key(1),
        config,
    )
    reference.check_parts("repeated", metrics)


def test_padded_steps_have_no_effect(reference, gradients):
    def spoil(windows):
        padded = windows.mask[..., None] == 0
        other = jnp.where(padded, -0.7, windows.actions)
        last = jnp.arange(windows.mask.shape[1]) == windows.mask.shape[1] - 1
        # The last place is where the goal is read: it repeats the last recorded step.
        seen = jnp.where(padded & ~last[:, None], 3.3, windows.observations)
        return windows._replace(observations=seen, actions=other)

    batch = reference.batch
    spoilt = batch._replace(play=spoil(batch.play), language=spoil(batch.language))
    args = reference.params, reference.state
    grads, metrics = gradients(*args, batch, reference.noise, TINY)
    others, found = gradients(*args, spoilt, reference.noise, TINY)
    assert found == metrics
    jax.tree.map(np.testing.assert_array_equal, grads, others)


def test_published_sizes_have_the_published_number_of_parameters():
    cameras = Camera("rgb_static", 200, 200), Camera("rgb_gripper", 84, 84)
    zero = np.zeros(3 * (200 * 200 + 84 * 84))
    data = SimpleNamespace(
        observations=zero[None],
        sentences=np.zeros((1, 384)),
        statistics=Statistics(zero, zero + 1, -np.ones(7), np.ones(7)),
    )

    def count(module):
        state = jax.eval_shape(
            lambda key: hulc.init(key, data, module.Config(cameras=cameras), {}),
            jax.random.key(0),
        )
        return sum(x.size for x in jax.tree.leaves(state.actor.params))

    assert count(hulc) == 47_053_558 + 1
    assert count(mcil) == 74_362_066


def test_contrastive_loss_by_hand():
    rng = np.random.default_rng(0)
    v, t = rng.normal(size=(2, 4, 3))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    rows = np.array([True, False, True, True])
    logits = np.exp(0.9) * v[rows] @ t[rows].T
    weights = np.exp(logits)
    expected = -np.mean(np.log(np.diag(weights) / weights.sum(0))) / 2
    expected -= np.mean(np.log(np.diag(weights) / weights.sum(1))) / 2
    found = jax.jit(contrastive_loss)(v, t, 0.9, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_without_contrasted_windows_the_loss_is_zero_and_so_its_gradient():
    vectors = jnp.eye(3)
    value, grad = jax.jit(jax.value_and_grad(contrastive_loss))(
        vectors, vectors, jnp.float32(0.5), jnp.zeros(3, bool)
    )
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


PARTS = ("play/states", "play/language", "play/kl", "play/loss")


def task(rng, size):
    """Windows whose actions are a fixed function of the goal or the sentence."""
    sentences = jnp.eye(4)[rng.integers(0, 2, size)]
    observations = jnp.asarray(rng.normal(size=(2 * size, 5, 3)), jnp.float32)
    goals = observations[:size, -1, :2]
    goals = jnp.concatenate([goals, sentences[:, :2]])
    actions = jnp.concatenate(
        [0.5 * jnp.tanh(goals), jnp.where(goals[:, :1] > 0.5, 1.0, -1.0)], axis=-1
    )
    actions = jnp.repeat(actions[:, None], 5, axis=1)
    windows = Windows(observations, actions, jnp.ones((2 * size, 5)))
    halves = (
        jax.tree.map(lambda x: x[:size], windows),
        jax.tree.map(lambda x: x[size:], windows),
    )
    return WindowBatch(*halves, sentences, jnp.ones(size, bool))


@pytest.mark.long
def test_overfits_one_batch_and_acts_as_it_learned():
    config = dataclasses.replace(
        TINY, lr=1e-2, kl_weight=1e-3, acting="mode", num_classes=64, contrast=False
    )
    batch = task(np.random.default_rng(0), 6)
    state = jax.jit(lambda key: hulc.init(key, example(), config, {}))(
        jax.random.key(0)
    )

    @jax.jit
    def train(state, count):
        def step(_, carry):
            return hulc.update(carry[0], batch, config, {})

        metrics = dict.fromkeys(PARTS, jnp.float32(0))
        return jax.lax.fori_loop(0, count, step, (state, metrics))

    state, first = train(state, 1)
    state, last = train(state, 600)
    assert last["play/language"] < first["play/language"] - 3
    assert last["play/states"] < first["play/states"] - 2
    model = Model(hulc.METHOD, config, state)

    def act(i, key):
        begin_key, key = jax.random.split(key)
        observations = batch.language.observations[i]
        latent = hulc.encode_text(model, batch.sentences[i])
        carry = hulc.begin(model, observations[0], latent, begin_key)

        def step(carry, observation):
            distribution, carry = hulc.act_towards(
                model, carry, observation, latent, key
            )
            return carry, distribution.mode()

        return jax.lax.scan(step, carry, observations)[1]

    keys = jax.random.split(jax.random.key(5), 6)
    actions = jax.jit(jax.vmap(act))(jnp.arange(6), keys)
    errors = np.abs(actions - batch.language.actions)
    assert np.median(errors) < 0.1
    assert set(np.unique(actions[..., -1])) <= {-1.0, 1.0}


def test_acting_step_by_step_is_the_decoder_over_the_window(reference):
    config = dataclasses.replace(TINY, acting="mode")
    observations = reference.batch.play.observations[0]

    @jax.jit
    def both(state):
        model = Model(hulc.METHOD, config, state)
        latent = hulc.encode_goal(model, observations[-1])
        carry = hulc.begin(model, observations[0], latent, jax.random.key(2))
        network = LatentPlanModel(config, plan_of(config), 3)
        clipped = jnp.clip(observations, -5, 5)
        features = network.apply(state.ema, clipped, method="encode")
        whole = network.apply(state.ema, carry.plan, features, latent, method="decode")

        def step(carry, observation):
            distribution, carry = hulc.act_towards(
                model, carry, observation, latent, jax.random.key(0)
            )
            return carry, distribution.mode()

        return carry.plan, whole, jax.lax.scan(step, carry, observations)

    plan, (heads, hidden), (carry, actions) = both(reference.state)
    assert plan.reshape(3, 3).sum(-1).tolist() == [1, 1, 1]
    np.testing.assert_allclose(carry.hidden, hidden, rtol=1e-5, atol=1e-6)
    which = np.argmax(heads.mixture.logits, axis=-1)[..., None]
    means = np.take_along_axis(np.asarray(heads.mixture.means), which, -1)[..., 0]
    np.testing.assert_allclose(actions[:, :2], means, rtol=1e-5, atol=1e-6)
    opened = np.argmax(heads.gripper, axis=-1)
    np.testing.assert_array_equal(actions[:, 2], 2 * opened - 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"plan": "none"}, "plan"),
        ({"features": 9}, "recognition_heads"),
        ({"min_window": 6}, "min_window=6"),
        ({"decoder_sees": "gripper"}, "decoder_sees"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TINY, **settings).validate()


def test_attention_drops_out_for_each_window_by_itself():
    """As PyTorch's does; what attention gives is seen before any other dropout."""
    layer = EncoderLayer(num_heads=2, hidden_dim=8, dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (1, 6, 8)).repeat(3, axis=0)
    mask, keys = jnp.ones((3, 6)), {"dropout": jax.random.key(2)}
    params = layer.init(jax.random.key(1), x, mask, False)

    def attended(train):
        _, found = layer.apply(
            params, x, mask, train, rngs=keys, capture_intermediates=True
        )
        return found["intermediates"]["attention"]["__call__"][0]

    assert np.abs(np.diff(attended(True), axis=0)).max(axis=(1, 2)).min() > 1e-3
    still = attended(False)
    np.testing.assert_allclose(still[0], still[1], rtol=1e-6)


def test_an_update_draws_plans_and_shifts_from_the_step(reference):
    """Its metrics are the loss for the noise of that step's key, and it descends."""
    state = jax.jit(lambda key: hulc.init(key, example(), TINY, {}))(jax.random.key(0))
    state = state.replace(step=jnp.int32(7))
    after, metrics = jax.jit(hulc.update)(state, reference.batch, TINY, {})
    key, noise_key = jax.random.split(jax.random.fold_in(state.key, 7))
    noise = plan_of(TINY).noise(noise_key, reference.noise.shape[:1])
    _, expected = jax.jit(hulc.loss_at)(
        state.actor.params, state, reference.batch, noise, key, TINY
    )
    np.testing.assert_allclose(metrics["play/loss"], expected["play/loss"], rtol=1e-6)
    assert after.step == 8
    # Adam's first step moves every parameter with a gradient by its step size.
    moved = after.actor.params["params"]["decoder"]["in0"]["kernel"]
    before = state.actor.params["params"]["decoder"]["in0"]["kernel"]
    np.testing.assert_allclose(np.abs(moved - before).max(), TINY.lr, rtol=1e-2)
    # ema_decay is 0: the last parameters act.
    jax.tree.map(np.testing.assert_array_equal, after.ema, after.actor.params)
