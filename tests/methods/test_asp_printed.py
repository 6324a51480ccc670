"""The recipes of ASPlanner's printed losses: one update by hand, and how they act."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.windows import Windows
from offjax.envs import budget, maze2d
from offjax.errors import UserError
from offjax.methods import asp, asp_printed, build
from offjax.types import Model, Params, Statistics

pytestmark = pytest.mark.usefixtures("double")
LOW, HIGH = -2.0, 3.0
ROWS, LENGTH, K = 4, 6, 3
STATISTICS = Statistics(
    np.float64([0.5]), np.float64([2.0]), np.float64([LOW]), np.float64([HIGH])
)


def small(name):
    """The recipe's hyperparameters, with a network of 27 weights."""
    (stage,) = build(name, budget.spec(LENGTH), "paper").stages
    sizes = {"hidden_dims": (2,), "embedding_dim": 2, "k": K, "kl_weight": 0.3}
    low = {"action_min": LOW} if name == "asp_listing" else {}
    return dataclasses.replace(stage.config, **sizes, **low)


def segments(seed=0):
    """A batch of whole episodes in two windows."""
    rng = np.random.default_rng(seed)
    shape = (ROWS, LENGTH // K, K)
    times = np.broadcast_to(np.arange(LENGTH // K) * K, shape[:2])
    returns = rng.normal(2.0, 1.0, shape)
    ones = np.ones(shape)
    return Windows(
        rng.normal(size=(*shape[:2], 1)),
        times,
        rng.uniform(LOW, HIGH, (*shape, 1)),
        returns,
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        ones,
    )


def forward(weights, batch):
    """The network in NumPy: means and deviations [rows, steps]."""
    embed, hidden, out = (weights[f"layer{i}"] for i in range(3))
    x = (batch.observations - 0.5) / 2.0 @ embed[0] + embed[1]
    x = x + np.stack([np.sin(batch.times), np.cos(batch.times)], -1)
    x = np.maximum(x @ hidden[0] + hidden[1], 0.0) @ out[0] + out[1]
    # k × [mean, raw deviation], of one action each
    x = x.reshape(ROWS, LENGTH, 2)
    return x[..., 0], 1e-3 + np.log1p(np.exp(x[..., 1]))


def listing(mean, std, batch):
    actions = batch.actions.reshape(ROWS, LENGTH)
    returns = batch.returns.reshape(ROWS, LENGTH)
    weights = (returns - returns.mean(0)) / (returns.std(0, ddof=1) + 1e-5)
    y = actions / ((actions - LOW).sum(1, keepdims=True) + 1e-5)
    log_p = mean - np.log(np.exp(mean).sum(1, keepdims=True))
    mu, sigma = mean.mean(0), std.mean(0)
    m, s = actions.mean(0), actions.std(0, ddof=1) + 1e-5
    kl = np.log(s / sigma) + (sigma**2 + (mu - m) ** 2) / (2 * s**2) - 0.5
    return -(y * weights * log_p).mean() + 0.3 * kl.mean()


def equation(mean, std, batch):
    x = (batch.actions.reshape(ROWS, LENGTH) - LOW) / (HIGH - LOW)
    returns = batch.returns.reshape(ROWS, LENGTH) * 0.999 ** np.arange(LENGTH)
    share = 1 / (1 + np.exp(-mean))
    y = x - x.min(1, keepdims=True)
    y = y / y.sum(1, keepdims=True)
    p = share / share.sum(1, keepdims=True)
    z = (x - share) / std
    log_pi = -0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    log_y = np.log(np.maximum(y, 1e-12))
    total = -(y * returns * np.log(p)).sum(1) + 0.3 * (y * (log_y - log_pi)).sum(1)
    return total.mean()


def as_numpy(params):
    """The network's layers in order: embedding, hidden, output."""
    tree = params["params"]
    mlp = tree["MLP_0"]
    layers = (tree["Dense_0"], mlp["Dense_0"], mlp["Dense_1"])
    return {
        f"layer{i}": [np.array(layer["kernel"]), np.array(layer["bias"])]
        for i, layer in enumerate(layers)
    }


@pytest.mark.parametrize(
    "name, loss", [("asp_listing", listing), ("asp_equation", equation)]
)
def test_one_update_is_adam_on_the_printed_loss(name, loss):
    """Against central differences of the loss in NumPy, and Adam's first step."""
    config, batch = small(name), segments()
    data = SimpleNamespace(statistics=STATISTICS)
    state = asp.init(jax.random.key(1), data, config, {})
    noisy = jax.tree.map(
        lambda x: x + 0.3 * np.random.default_rng(x.size).normal(size=x.shape),
        jax.tree.map(np.float64, state.planner.params),
    )
    state = state.replace(planner=state.planner.replace(params=noisy))
    before = as_numpy(noisy)
    arrays = jax.tree.map(jnp.asarray, batch)
    gradient, _ = jax.grad(asp.loss, has_aux=True)(
        state.planner.params, state, arrays, state.key, config
    )
    gradient = as_numpy(gradient)
    after, metrics = asp.update(state, arrays, config, {})
    expected = loss(*forward(before, batch), batch)
    np.testing.assert_allclose(metrics["asp/loss"], expected, rtol=1e-9)
    found = as_numpy(after.planner.params)
    for layer, arrays in before.items():
        for which, array in enumerate(arrays):
            slope = np.zeros_like(array)
            for at in np.ndindex(array.shape):
                kept = array[at]
                values = []
                for step in (1e-5, -1e-5):
                    array[at] = kept + step
                    values.append(loss(*forward(before, batch), batch))
                array[at] = kept
                slope[at] = (values[0] - values[1]) / 2e-5
            np.testing.assert_allclose(gradient[layer][which], slope, atol=1e-8)
            # Adam's first step is -lr·g/(|g| + 1e-8).
            moved = array - 1e-3 * slope / (np.abs(slope) + 1e-8)
            np.testing.assert_allclose(found[layer][which], moved, atol=2e-7)


def test_batch_weights_ignore_steps_beyond_the_episode():
    batch = segments()
    mask = np.ones(batch.mask.shape)
    mask[0, 1, 1:] = 0.0
    soiled = batch._replace(mask=mask, returns=np.where(mask > 0, batch.returns, 1e3))
    found = np.asarray(asp_printed.batch_standard(soiled)).reshape(ROWS, LENGTH)
    returns = batch.returns.reshape(ROWS, LENGTH)
    for t in range(LENGTH):
        seen = returns[1:, t] if t > K else returns[:, t]
        expected = (seen - seen.mean()) / (seen.std(ddof=1) + 1e-5)
        np.testing.assert_allclose(found[-len(seen) :, t], expected, rtol=1e-9)


def test_recipes_are_as_printed():
    for spec in (budget.spec(20), maze2d.spec("medium")):
        (one,) = build("asp_listing", spec, "paper").stages
        (other,) = build("asp_equation", spec, "paper").stages
        assert (one.config.mode, one.config.weights) == ("listing", "batch_std")
        assert one.config.discount == 0.999
        assert one.config.action_min == min(spec.action_low)
        assert (other.config.mode, other.config.weights) == ("equation", "raw")
        assert one.config.kl_weight > 0 < other.config.kl_weight
        one.config.validate()
        other.config.validate()


def first_plans(name, sample, count=4000):
    """Plans of the first window from one state, each with its own key."""
    config = small(name)
    data = SimpleNamespace(statistics=STATISTICS)
    state = asp.init(jax.random.key(1), data, config, {})
    params = Params(
        {"asp": Model(asp.METHOD, config, state)},
        {"execution": asp.Execution(sample=sample)},
    )
    actor = asp.PlanningActor(K)
    carry = actor.begin(params, None, jax.random.key(0))
    keys = jax.random.split(jax.random.key(2), count)
    seen = jnp.asarray([0.3])
    plans = jax.vmap(lambda key: actor.plan(params, carry, seen, key).actions)(keys)
    outputs = forward(
        as_numpy(jax.tree.map(np.float64, state.planner.params)),
        SimpleNamespace(
            observations=np.full((ROWS, LENGTH // K, 1), 0.3),
            times=np.zeros((ROWS, LENGTH // K)),
        ),
    )
    return np.asarray(plans)[..., 0], outputs[0][0, :K], outputs[1][0, :K]


def test_the_mean_is_executed_unless_sampling_is_asked_for():
    plans, mean, _ = first_plans("asp_listing", sample=False, count=3)
    np.testing.assert_allclose(plans, np.tile(mean, (3, 1)), rtol=1e-6)
    plans, mean, _ = first_plans("asp_equation", sample=False, count=3)
    decoded = LOW + (HIGH - LOW) / (1 + np.exp(-mean))
    np.testing.assert_allclose(plans, np.tile(decoded, (3, 1)), rtol=1e-6)


@pytest.mark.parametrize("name, scale", [("asp_listing", 1.0), ("asp_equation", 5.0)])
def test_samples_are_those_of_the_gaussian(name, scale):
    plans, _, std = first_plans(name, sample=True)
    still, _, _ = first_plans(name, sample=False, count=1)
    np.testing.assert_allclose(plans.mean(0), still[0], atol=0.1 * scale)
    np.testing.assert_allclose(plans.std(0), scale * std, rtol=0.05)


def test_an_anchored_plan_cannot_be_sampled():
    recipe = build("asp", budget.spec(20), "demo")
    acting = {"execution": asp.Execution(sample=True)}
    sampled = dataclasses.replace(recipe, acting=acting)
    with pytest.raises(UserError, match=r"execution.sample.*anchored.*listing"):
        recipe.validate(sampled, None)
