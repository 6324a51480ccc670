"""Decision Transformer against PyTorch, against itself padded, and on toy data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.methods import decision_transformer as dt
from offjax.methods.sequence import steps_of
from offjax.networks.trained import trained
from offjax.networks.transformer import empty_window, push
from offjax.types import Model
from tests.methods.sequence_reference import (
    FIXTURES,
    assert_close,
    assert_same_step,
    example,
    load,
    sample,
    segments,
    small_data,
)

CONFIG = dt.Config(
    lr=1e-2,
    weight_decay=0.01,
    warmup_steps=10.0,
    context_length=5,
    max_timesteps=12,
    num_layers=2,
    width=8,
    dropout=0.0,
)


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(FIXTURES / "sequence_decision_transformer.npz"))


def reference_state(reference, config):
    """With the fixture's parameters; its data are in units of the network's."""
    batch = segments(reference)
    state = dt.init(jax.random.key(0), example(batch), config, {})
    params = jax.tree.map(jnp.asarray, load("params/", reference))
    return state.replace(network=trained(params, dt.optimizer(config)))


@pytest.mark.parametrize(
    ("case", "changes"), [("", {}), ("corl_", {"activation": "gelu"})]
)
def test_loss_and_gradients_equal_pytorch(reference, case, changes):
    config = dataclasses.replace(CONFIG, **changes)
    with jax.enable_x64(True):
        batch = segments(reference)
        # CORL's mean counts padded steps, too.
        share = batch.mask.mean() if case else 1.0

        @jax.jit
        def run():
            state = reference_state(reference, config)
            return jax.value_and_grad(dt.loss, has_aux=True)(
                state.network.params, state, batch, jax.random.key(0), config
            )

        (loss, _), grads = run()
        np.testing.assert_allclose(share * loss, reference[f"{case}loss"], rtol=1e-6)
        grads = jax.tree.map(lambda x: share * x, grads)
        assert_close(grads, load(f"{case}grads/", reference))


def test_update_equals_pytorch(reference):
    with jax.enable_x64(True):
        state, metrics = jax.jit(
            lambda: dt.update(
                reference_state(reference, CONFIG), segments(reference), CONFIG, {}
            )
        )()
        np.testing.assert_allclose(
            metrics["decision_transformer/loss"], reference["loss"], rtol=1e-6
        )
        assert_same_step(state.network.params, load("updated/", reference))


TINY = dt.Config(
    lr=3e-3,
    warmup_steps=20.0,
    context_length=4,
    max_timesteps=6,
    num_layers=1,
    width=16,
    dropout=0.05,
    batch_size=32,
)


def act(state, window, config):
    return Model(dt.METHOD, config, state).act(window, jax.random.PRNGKey(9))


def train(data, config, updates, key=0):
    def step(state, i):
        batch = sample(
            data,
            jax.random.fold_in(state.key, i),
            config.batch_size,
            config.context_length,
            config.weighting,
        )
        state, metrics = dt.update(state, batch, config, {})
        return state, metrics["decision_transformer/loss"]

    @jax.jit
    def run(config):
        state = dt.init(jax.random.PRNGKey(key), data, config, {})
        return jax.lax.scan(step, state, jnp.arange(updates))

    return run(config)


def test_action_follows_the_return_that_is_asked_for():
    data = small_data(np.random.default_rng(0))
    state, losses = train(data, TINY, 250)
    assert losses[-1] < 0.05 * losses[0]

    @jax.jit
    @jax.vmap
    def first_action(target):  # several targets in one batch
        window = push(empty_window(4, 2, 1), jnp.zeros(2), target, jnp.int32(0))
        return act(state, window, TINY).mode()[0]

    low, high = first_action(jnp.array([0.0, 1.0]))
    assert low == pytest.approx(-0.8, abs=0.15)
    assert high == pytest.approx(0.8, abs=0.15)


def test_dropout_is_random_in_training_only_and_reproducible():
    data = small_data(np.random.default_rng(0))
    config = dataclasses.replace(TINY, dropout=0.5)
    state = jax.jit(lambda: dt.init(jax.random.PRNGKey(0), data, config, {}))()
    batch = sample(data, jax.random.key(3), 8, 4, "length")
    steps = steps_of(batch)

    @jax.jit
    @jax.vmap
    def loss(key):
        return dt.loss(state.network.params, state, batch, key, config)[0]

    losses = loss(jax.vmap(jax.random.key)(jnp.array([0, 0, 1])))
    assert losses[0] == losses[1] != losses[2]
    window = jax.tree.map(lambda x: x[0], steps._replace(mask=batch.mask > 0))
    acting = jax.jit(lambda: act(state, window, config).mode())
    np.testing.assert_array_equal(acting(), acting())


def test_actions_keep_the_box_of_the_environment():
    data = small_data(np.random.default_rng(0))
    box = data.statistics._replace(
        action_low=np.array([2.0]), action_high=np.array([6.0])
    )
    data = data._replace(statistics=box)
    state = jax.jit(lambda: dt.init(jax.random.PRNGKey(0), data, TINY, {}))()
    window = push(empty_window(4, 2, 1), jnp.zeros(2), 0.0, jnp.int32(0))
    dist = jax.jit(lambda: act(state, window, TINY))()
    assert dist.kind == "point"
    assert float(dist.mode()[0]) == pytest.approx(4.0 + 2.0 * float(dist.means[0, 0]))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"context_length": 13}, "1 to 12"),
        ({"context_length": 0}, "context_length is 0"),
        ({"num_heads": 3}, "multiple"),
        ({"weighting": "sum"}, "uniform"),
        ({"activation": "swish"}, "gelu"),
        ({"initialization": "zeros"}, "official"),
        ({"attention_dropout": "none"}, "weights"),
        ({"history": "none"}, "executed"),
    ],
)
def test_bad_settings(changes, word):
    with pytest.raises(UserError, match=word):
        dataclasses.replace(CONFIG, **changes).validate()
    CONFIG.validate()
