"""Decision Transformer against PyTorch, against itself padded, and on toy data."""

import dataclasses
import pathlib

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.algorithms import decision_transformer as dt
from offjax.datasets.trajectories import Segments, Trajectories, sample
from offjax.errors import UserError
from offjax.networks.transformer import Steps, empty_window, push
from offjax.types import Statistics

REFERENCE = pathlib.Path(__file__).parents[1] / "fixtures"
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


def load(prefix, arrays):
    flat = {n[len(prefix) :]: x for n, x in arrays.items() if n.startswith(prefix)}
    return {"params": flax.traverse_util.unflatten_dict(flat, sep="/")}


def flat(tree):
    return flax.traverse_util.flatten_dict(tree["params"], sep="/")


def assert_close(found, expected, skip_key_bias=False):
    """Every entry to 1e-5 of its array's largest.

    A softmax does not see the keys' bias, so that its gradient is rounding alone; it is
    held against the queries', and steps that divide by its size are not compared.
    """
    found, expected = flat(found), flat(expected)
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        if skip_key_bias and name.endswith("key/bias"):
            continue
        size = np.abs(expected[name.replace("key/bias", "query/bias")]).max()
        np.testing.assert_allclose(
            found[name], wanted, rtol=0, atol=1e-5 * size, err_msg=name
        )


def statistics(observation_dim, action_dim):
    zero, one = np.zeros(observation_dim), np.ones(observation_dim)
    return Statistics(zero, one, -np.ones(action_dim), np.ones(action_dim))


def trajectories(observations, actions, returns, timesteps, remaining, starts, lengths):
    stats = statistics(observations.shape[-1], actions.shape[-1])
    arrays = (observations, actions, returns, timesteps, remaining, starts, lengths)
    arrays = [
        jnp.asarray(x, jnp.float32 if x.dtype.kind == "f" else jnp.int32)
        for x in arrays
    ]
    return Trajectories(*arrays, jnp.float32(1.0), stats)


@pytest.mark.parametrize(
    ("case", "changes"),
    [("", {}), ("corl_", {"loss_mean": "all", "activation": "gelu"})],
)
def test_loss_and_gradients_equal_pytorch(case, changes):
    reference = np.load(REFERENCE / "sequence_decision_transformer.npz")
    config = dataclasses.replace(CONFIG, **changes)
    with jax.enable_x64(True):
        batch = {
            n.removeprefix("batch/"): jnp.asarray(x)
            for n, x in reference.items()
            if n.startswith("batch/")
        }
        mask = batch.pop("mask")
        params = jax.tree.map(jnp.asarray, load("params/", reference))
        loss, grads = jax.value_and_grad(dt.loss_fn)(
            params, Steps(**batch), mask, jax.random.key(0), config
        )
        np.testing.assert_allclose(loss, reference[f"{case}loss"], rtol=1e-6)
        assert_close(grads, load(f"{case}grads/", reference))


def test_update_equals_pytorch():
    reference = np.load(REFERENCE / "sequence_decision_transformer.npz")
    with jax.enable_x64(True):
        batch = Segments(
            *(jnp.asarray(reference[f"batch/{n}"]) for n in Segments._fields)
        )
        width, actions = batch.observations.shape[-1], batch.actions.shape[-1]
        example = Trajectories(*[None] * 7, np.float64(1.0), statistics(width, actions))
        state = dt.init(jax.random.key(0), example, CONFIG, {})
        params = jax.tree.map(jnp.asarray, load("params/", reference))
        state = state.replace(
            params=params, opt_state=dt._optimizer(CONFIG).init(params)
        )
        state, metrics = dt.update(state, batch, CONFIG, {})
        np.testing.assert_allclose(
            metrics["decision_transformer/loss"], reference["loss"], rtol=1e-6
        )
        assert_close(state.params, load("updated/", reference), skip_key_bias=True)


def small_data(rng, episodes=30, length=6):
    """The action is 0.8 in episodes that return much, -0.8 in the others."""
    good = np.arange(episodes) % 2
    rows = episodes * length
    rewards = np.repeat(good, length).astype(np.float32)
    timesteps = np.tile(np.arange(length), episodes)
    return trajectories(
        rng.normal(size=(rows, 2)),
        (1.6 * rewards - 0.8)[:, None],
        rewards * (length - timesteps) / length,
        timesteps,
        length - timesteps,
        np.arange(episodes) * length,
        np.full(episodes, length),
    )


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
        return dt.distribution(state, window, TINY).mode()[0]

    low, high = first_action(jnp.array([0.0, 1.0]))
    assert low == pytest.approx(-0.8, abs=0.15)
    assert high == pytest.approx(0.8, abs=0.15)


def test_dropout_is_random_in_training_only_and_reproducible():
    data = small_data(np.random.default_rng(0))
    config = dataclasses.replace(TINY, dropout=0.5)
    state = dt.init(jax.random.PRNGKey(0), data, config, {})
    batch = sample(data, jax.random.key(3), 8, 4, "length")
    steps = dt.normalize(state, batch)
    losses = [
        dt.loss_fn(state.params, steps, batch.mask, jax.random.key(k), config)
        for k in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    window = jax.tree.map(lambda x: x[0], steps._replace(mask=batch.mask > 0))
    a, b = (dt.distribution(state, window, config).mode() for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_actions_keep_the_box_of_the_environment():
    data = small_data(np.random.default_rng(0))
    box = data.statistics._replace(
        action_low=np.array([2.0]), action_high=np.array([6.0])
    )
    state = dt.init(jax.random.PRNGKey(0), data._replace(statistics=box), TINY, {})
    window = push(empty_window(4, 2, 1), jnp.zeros(2), 0.0, jnp.int32(0))
    dist = dt.distribution(state, window, TINY)
    assert dist.kind == "point"
    assert float(dist.mode()[0]) == pytest.approx(4.0 + 2.0 * float(dist.means[0, 0]))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"context_length": 13}, "1 to 12"),
        ({"context_length": 0}, "context_length is 0"),
        ({"num_heads": 3}, "multiple"),
        ({"loss_mean": "sum"}, "valid"),
        ({"activation": "swish"}, "gelu"),
        ({"initialization": "zeros"}, "official"),
        ({"attention_dropout": "none"}, "weights"),
        ({"history": "none"}, "executed"),
    ],
)
def test_bad_settings(changes, word):
    with pytest.raises(UserError, match=word):
        dt.validate(dataclasses.replace(CONFIG, **changes))
