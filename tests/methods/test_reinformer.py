"""Reinformer's losses and updates against PyTorch; its context rule by hand."""

import dataclasses
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.algorithms import iql, reinformer, reinformer_original
from offjax.algorithms.common import trained
from offjax.datasets.trajectories import Segments, Trajectories, sample
from offjax.errors import UserError
from offjax.networks.transformer import Steps, empty_window, push

SHARED = runpy.run_path(str(pathlib.Path(__file__).with_name("sequence_reference.py")))
FIXTURES, load = SHARED["FIXTURES"], SHARED["load"]
assert_close, assert_same_step = SHARED["assert_close"], SHARED["assert_same_step"]
small_data, statistics = SHARED["small_data"], SHARED["statistics"]

SIZES = {
    "lr": 1e-2,
    "weight_decay": 0.01,
    "warmup_steps": 1.0,
    "expectile": 0.9,
    "context_length": 5,
    "max_timesteps": 12,
    "num_layers": 2,
    "num_heads": 2,
    "width": 8,
    "dropout": 0.0,
    "extra_weight": 0.7,
    "extra_temperature": 0.5,
}
CONFIG = reinformer.Config(**SIZES)
JOINT = reinformer_original.Config(**SIZES)


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(FIXTURES / "sequence_reinformer.npz"))


def segments(reference):
    return Segments(*(jnp.asarray(reference[f"batch/{n}"]) for n in Segments._fields))


def steps_of(batch):
    return Steps(batch.observations, batch.actions, batch.returns, batch.timesteps)


def gradients(loss_fn, params):
    (loss, _), grads = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))(
        jax.tree.map(jnp.asarray, params)
    )
    return loss, grads


def test_return_loss_equals_pytorch(reference):
    with jax.enable_x64(True):
        batch = segments(reference)
        loss, grads = gradients(
            lambda p: reinformer.return_loss_fn(
                p, steps_of(batch), batch.mask, jax.random.key(0), CONFIG
            ),
            load("return/params/", reference),
        )
        np.testing.assert_allclose(loss, reference["return/loss"], rtol=1e-6)
        assert_close(grads, load("return/grads/", reference))


@pytest.mark.parametrize("case", ["action", "pg", "awac"])
def test_action_losses_equal_pytorch(reference, case):
    extra = "none" if case == "action" else case
    config = dataclasses.replace(CONFIG, extra=extra)
    with jax.enable_x64(True):
        batch = segments(reference)
        w1, w2 = (jnp.asarray(reference[f"critic/{n}"]) for n in ("w1", "w2"))

        def q(observations, actions):
            inputs = jnp.concatenate([observations, actions], -1)
            return jnp.tanh(inputs @ w1) @ w2

        loss, grads = gradients(
            lambda p: reinformer.action_loss_fn(
                p, steps_of(batch), batch.mask, 0.1, q, jax.random.key(0), config
            ),
            load("action/params/", reference),
        )
        np.testing.assert_allclose(loss, reference[f"{case}/loss"], rtol=1e-6)
        assert_close(grads, load(f"{case}/grads/", reference))


def test_joint_loss_equals_pytorch(reference):
    with jax.enable_x64(True):
        batch = segments(reference)
        loss, grads = gradients(
            lambda p: reinformer_original.loss_fn(
                p, steps_of(batch), batch.mask, 0.1, jax.random.key(0), JOINT
            ),
            load("joint/params/", reference),
        )
        np.testing.assert_allclose(loss, reference["joint/loss"], rtol=1e-6)
        assert_close(grads, load("joint/grads/", reference))


def example(reference):
    batch = segments(reference)
    shapes = batch.observations.shape[-1], batch.actions.shape[-1]
    return Trajectories(
        *[None] * 3, np.arange(5), *[None] * 3, np.float64(1.0), statistics(*shapes)
    )


def with_params(trained_before, params, config):
    del trained_before
    return trained(jax.tree.map(jnp.asarray, params), reinformer.optimizer(config))


def test_update_equals_pytorch(reference):
    with jax.enable_x64(True):

        @jax.jit
        def run():
            state = reinformer.init(jax.random.key(0), example(reference), CONFIG, {})
            state = state.replace(
                returns=with_params(
                    state.returns, load("return/params/", reference), CONFIG
                ),
                actions=with_params(
                    state.actions, load("action/params/", reference), CONFIG
                ),
            )
            return reinformer.update(state, segments(reference), CONFIG, {})

        state, metrics = run()
        np.testing.assert_allclose(
            metrics["reinformer/action_loss"], reference["action/loss"], rtol=1e-6
        )
        for case, found in (("return", state.returns), ("action", state.actions)):
            expected = load(f"{case}/updated/", reference)
            assert_same_step(found.params, expected)
        # The entropy is above -A, so that α falls by Adam's first step.
        np.testing.assert_allclose(
            state.log_alpha.params, np.log(0.1) - 1e-4, rtol=1e-6
        )


def test_joint_update_equals_pytorch(reference):
    with jax.enable_x64(True):

        @jax.jit
        def run():
            state = reinformer_original.init(
                jax.random.key(0), example(reference), JOINT, {}
            )
            params = load("joint/params/", reference)
            state = state.replace(network=with_params(state.network, params, JOINT))
            return reinformer_original.update(state, segments(reference), JOINT, {})

        state, metrics = run()
        np.testing.assert_allclose(
            metrics["reinformer_original/loss"], reference["joint/loss"], rtol=1e-6
        )
        expected = load("joint/updated/", reference)
        assert_same_step(state.network.params, expected)


def test_expectile_loss_by_hand():
    predictions = jnp.array([[0.0, 4.0, 9.0]])
    returns, mask = jnp.array([[1.0, 3.0, 50.0]]), jnp.array([[1.0, 1.0, 0.0]])
    # |R| has mean 2 on the recorded steps: errors 0.5 and -0.5.
    loss = reinformer.expectile_loss(predictions, returns, mask, 0.9)
    assert float(loss) == pytest.approx((0.9 * 0.25 + 0.1 * 0.25) / 2)
    # Sparse rewards: no return in the whole batch.
    nothing = jnp.zeros_like(returns)
    loss = jax.value_and_grad(reinformer.expectile_loss)(
        predictions, nothing, mask, 0.9
    )
    assert all(np.all(np.isfinite(x)) for x in loss)


def test_context_rules_by_hand():
    mask = jnp.array([False, True, True, True, True, True])
    #      t-4 is above t-3, which is not above t-2.
    returns = jnp.array([9.0, 6.0, 4.0, 5.0, 3.0, 2.0])

    def seen(rule, returns=returns, mask=mask):
        return np.asarray(reinformer.context_mask(returns, mask, rule)).astype(int)

    np.testing.assert_array_equal(seen("none"), [0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(seen("chain"), [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(seen("every"), [0, 1, 1, 1, 1, 1])
    level = jnp.array([9.0, 9.0, 1.0, 9.0, 2.0, 2.0])  # strictly above, or it ends
    np.testing.assert_array_equal(seen("chain", level), [0, 0, 0, 0, 0, 1])
    level = jnp.array([9.0, 9.0, 1.0, 9.0, 3.0, 2.0])
    np.testing.assert_array_equal(seen("every", level), [0, 0, 0, 1, 1, 1])
    first = jnp.arange(6) == 5
    np.testing.assert_array_equal(seen("chain", returns, first), [0, 0, 0, 0, 0, 1])


TINY = {
    "lr": 1e-2,
    "warmup_steps": 20.0,
    "context_length": 4,
    "max_timesteps": 6,
    "num_layers": 1,
    "num_heads": 2,
    "width": 16,
    "dropout": 0.05,
    "batch_size": 32,
}


@pytest.mark.parametrize(
    "module",
    [reinformer, pytest.param(reinformer_original, marks=pytest.mark.long)],
)
def test_seeks_the_greatest_return_of_the_data(module):
    data = small_data(np.random.default_rng(0))
    config = module.Config(**TINY)

    @jax.jit
    def run():
        state = module.init(jax.random.PRNGKey(0), data, config, {})

        def step(state, i):
            key = jax.random.fold_in(state.key, i)
            batch = sample(data, key, 32, config.context_length, config.weighting)
            return module.update(state, batch, config, {})[0], None

        state, _ = jax.lax.scan(step, state, jnp.arange(400))
        window = push(empty_window(4, 2, 1), jnp.zeros(2), 0.0, jnp.int32(0))
        predicted = module.predict_return(state, window, config)
        window = window._replace(returns=window.returns.at[-1].set(predicted))
        return predicted, module.distribution(state, window, config).mode()[0]

    predicted, action = run()
    assert float(predicted) == pytest.approx(1.0, abs=0.15)  # the data's mean is 0.5
    assert float(action) == pytest.approx(0.8, abs=0.2)  # and of the actions 0


def test_extra_losses_read_the_critic_of_an_earlier_stage():
    data = small_data(np.random.default_rng(0))
    settings = iql.Config(hidden_dims=(8,))
    config = reinformer.Config(**TINY, extra="pg", critic=settings)
    config = dataclasses.replace(config, dropout=0.0)
    batch = sample(data, jax.random.key(1), 8, 4, "uniform")

    @jax.jit
    def run():
        critic = iql.init(jax.random.PRNGKey(1), data, settings, {})
        state = reinformer.init(jax.random.PRNGKey(0), data, config, {})
        context = {"critic": critic}
        _, metrics = reinformer.update(state, batch, config, context)
        steps = reinformer.normalize(state, batch)
        network = reinformer.ActionNetwork(config, 1)
        means, _ = network.apply(state.actions.params, steps)
        q = iql.q_value(critic, batch.observations, means, settings)
        return metrics["reinformer/extra"], q

    extra, q = (np.asarray(x) for x in run())
    q = q[np.asarray(batch.mask) > 0]
    assert float(extra) == pytest.approx(-q.mean() / np.abs(q).mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"context_length": 13}, "1 to 12"),
        ({"num_heads": 3}, "multiple"),
        ({"adaptive_context": "longest"}, "chain"),
        ({"extra": "td3"}, "awac"),
        ({"history": "none"}, "executed"),
        ({"optimizer": "sgd"}, "adamw"),
        ({"return_history": "all"}, "returns"),
    ],
)
def test_bad_settings(changes, word):
    for module, config in ((reinformer, CONFIG), (reinformer_original, JOINT)):
        with pytest.raises(UserError, match=word):
            module.validate(dataclasses.replace(config, **changes))


def test_returns_network_may_be_kept_from_repeating_returns():
    data = small_data(np.random.default_rng(0))
    batch = sample(data, jax.random.key(1), 4, 4, "uniform")
    more = batch._replace(returns=batch.returns + 1.0)
    known = dataclasses.replace(CONFIG, context_length=4)
    for config, same in (
        (known, False),
        (dataclasses.replace(known, return_history="none"), True),
    ):

        @jax.jit
        def predictions(config=config):
            state = reinformer.init(jax.random.PRNGKey(0), data, config, {})
            network = reinformer.ReturnNetwork(config)
            return [
                network.apply(state.returns.params, reinformer.normalize(state, b))
                for b in (batch, more)
            ]

        first, second = predictions()
        assert np.array_equal(first, second) == same
        np.testing.assert_array_equal(first[:, 0], second[:, 0])  # causality


def test_adamw_moves_by_the_step_size():
    settings = dataclasses.replace(CONFIG, optimizer="adamw", weight_decay=0.0)
    optimizer = reinformer.optimizer(settings)
    params = {"w": jnp.array([3.0, -4.0])}
    gradient = {"w": jnp.array([5.0, -0.1])}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-1e-2, 1e-2], rtol=1e-4)


def test_one_network_has_neither_a_critic_nor_blinkers():
    for changes in ({"extra": "pg"}, {"return_history": "none"}):
        with pytest.raises(UserError, match="choose one of"):
            reinformer_original.validate(dataclasses.replace(JOINT, **changes))
