"""Reinformer's losses and updates against PyTorch; its context rule by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.methods import iql, reinformer, reinformer_original
from offjax.methods.sequence import steps_of
from offjax.networks.trained import trained
from offjax.networks.transformer import empty_window, push
from offjax.types import Method, Model
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
    "awac_lambda": 0.5,
}
CONFIG = reinformer.Config(**SIZES)
JOINT = reinformer_original.Config(**SIZES)


@pytest.fixture(scope="module")
def reference():
    return dict(np.load(FIXTURES / "sequence_reinformer.npz"))


def reference_state(reference):
    """With the fixture's parameters; its data are in units of the networks'."""
    state = reinformer.init(jax.random.key(0), example(segments(reference)), CONFIG, {})
    return state.replace(
        returns=fresh(load("return/params/", reference), CONFIG),
        actions=fresh(load("action/params/", reference), CONFIG),
    )


def joint_state(reference):
    state = reinformer_original.init(
        jax.random.key(0), example(segments(reference)), JOINT, {}
    )
    return state.replace(network=fresh(load("joint/params/", reference), JOINT))


def fresh(params, config):
    return trained(jax.tree.map(jnp.asarray, params), reinformer.optimizer(config))


def gradients(loss, params, *args):
    (value, _), grads = jax.value_and_grad(loss, has_aux=True)(params, *args)
    return value, grads


def test_return_loss_equals_pytorch(reference):
    with jax.enable_x64(True):

        @jax.jit
        def run():
            state = reference_state(reference)
            args = state, segments(reference), jax.random.key(0), CONFIG
            return gradients(reinformer.return_loss, state.returns.params, *args)

        loss, grads = run()
        np.testing.assert_allclose(loss, reference["return/loss"], rtol=1e-6)
        assert_close(grads, load("return/grads/", reference))


@pytest.mark.parametrize("case", ["action", "pg", "awac"])
def test_action_losses_equal_pytorch(reference, case):
    extra = "none" if case == "action" else case
    config = dataclasses.replace(CONFIG, extra=extra)
    with jax.enable_x64(True):
        w1, w2 = (jnp.asarray(reference[f"critic/{n}"]) for n in ("w1", "w2"))

        def q_value(model, observations, actions):
            both = jnp.concatenate([observations, actions], -1)
            return jnp.tanh(both @ w1) @ w2

        critic = Model(Method("toy", 1, None, None, None, q_value), None, None)
        upstream = {} if case == "action" else {"critic": critic}

        @jax.jit
        def run():
            state = reference_state(reference)
            args = state, segments(reference), jax.random.key(0), config, upstream
            return gradients(reinformer.action_loss, state.actions.params, *args)

        loss, grads = run()
        np.testing.assert_allclose(loss, reference[f"{case}/loss"], rtol=1e-6)
        assert_close(grads, load(f"{case}/grads/", reference))


def test_joint_loss_equals_pytorch(reference):
    with jax.enable_x64(True):

        @jax.jit
        def run():
            state = joint_state(reference)
            args = state, segments(reference), jax.random.key(0), JOINT
            return gradients(reinformer_original.loss, state.network.params, *args)

        loss, grads = run()
        np.testing.assert_allclose(loss, reference["joint/loss"], rtol=1e-6)
        assert_close(grads, load("joint/grads/", reference))


def test_update_equals_pytorch(reference):
    with jax.enable_x64(True):
        state, metrics = jax.jit(
            lambda: reinformer.update(
                reference_state(reference), segments(reference), CONFIG, {}
            )
        )()
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
        state, metrics = jax.jit(
            lambda: reinformer_original.update(
                joint_state(reference), segments(reference), JOINT, {}
            )
        )()
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
        model = Model(module.METHOD, config, state)
        predicted = module.predict_return(model, window)
        window = window._replace(returns=window.returns.at[-1].set(predicted))
        return predicted, model.act(window, jax.random.PRNGKey(9)).mode()[0]

    predicted, action = run()
    assert float(predicted) == pytest.approx(1.0, abs=0.15)  # the data's mean is 0.5
    assert float(action) == pytest.approx(0.8, abs=0.2)  # and of the actions 0


def test_extra_losses_read_the_critic_of_an_earlier_stage():
    data = small_data(np.random.default_rng(0))
    settings = iql.Config(hidden_dims=(8,))
    config = reinformer.Config(**TINY, extra="pg")
    config = dataclasses.replace(config, dropout=0.0)
    batch = sample(data, jax.random.key(1), 8, 4, "uniform")

    @jax.jit
    def run():
        critic = iql.init(jax.random.PRNGKey(1), data, settings, {})
        critic = Model(iql.METHOD, settings, critic)
        state = reinformer.init(jax.random.PRNGKey(0), data, config, {})
        _, metrics = reinformer.update(state, batch, config, {"critic": critic})
        steps = steps_of(batch)
        network = reinformer.ActionNetwork(config, 1)
        means, _ = network.apply(state.actions.params, steps)
        q = critic.q_value(batch.observations, means)
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
    for config in (CONFIG, JOINT):
        config.validate()
        with pytest.raises(UserError, match=word):
            dataclasses.replace(config, **changes).validate()


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
        def prediction(batch, config=config):
            state = reinformer.init(jax.random.PRNGKey(0), data, config, {})
            network = reinformer.ReturnNetwork(config)
            return network.apply(state.returns.params, steps_of(batch))

        first, second = prediction(batch), prediction(more)
        assert np.array_equal(first, second) == same
        np.testing.assert_array_equal(first[:, 0], second[:, 0])  # causality


def test_adamw_moves_by_the_step_size():
    settings = dataclasses.replace(CONFIG, optimizer="adamw", weight_decay=0.0)
    optimizer = reinformer.optimizer(settings)
    params = {"w": jnp.array([3.0, -4.0])}
    gradient = {"w": jnp.array([5.0, -0.1])}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(updates["w"], [-1e-2, 1e-2], rtol=1e-4)


def test_one_network_reads_neither_a_critic_nor_half_the_history():
    for changes in ({"extra": "pg"}, {"return_history": "none"}):
        with pytest.raises(UserError, match="choose one of"):
            dataclasses.replace(JOINT, **changes).validate()
