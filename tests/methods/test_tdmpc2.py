"""TD-MPC2's update against PyTorch in float64, its sizes, and how it acts.

The fixture is made by tests/fixtures/make_tdmpc2_reference.py.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.datasets.slices import Slices
from offjax.errors import UserError
from offjax.methods import mppi, tdmpc2, tdmpc2_planning
from offjax.networks.tdmpc2 import SIZES, Size
from offjax.networks.trained import trained
from offjax.types import Model, Statistics

KEY = np.array([0, 0], np.uint32)


@pytest.fixture(scope="module")
def flat():
    path = Path(__file__).parents[1] / "fixtures" / "tdmpc2.npz"
    return dict(np.load(path))


@pytest.fixture(scope="module", autouse=True)
def tiny_size():
    """The fixture's widths, under a name of their own."""
    SIZES["tiny"] = Size(12, 16, 10, 4)
    yield
    del SIZES["tiny"]


def config(**changes):
    settings = {
        "size": "tiny", "num_bins": 21, "dropout": 0.0, "episodic": True,
        "discount": 0.97, "tau": 0.1, "max_grad_norm": 2.0, "batch_size": 5,
    }  # fmt: skip
    return tdmpc2.Config(**(settings | changes))


def tree(flat, prefix):
    result = {}
    for path in flat:
        if path.startswith(prefix + "/"):
            *parents, leaf = path[len(prefix) + 1 :].split("/")
            node = result
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = flat[path]
    return result


def example(observations=3, actions=2):
    zeros, ones = np.zeros, np.ones
    return SimpleNamespace(
        statistics=Statistics(
            zeros(observations), ones(observations), -ones(actions), ones(actions)
        )
    )


def reference_state(flat, settings):
    fresh = jax.eval_shape(lambda: tdmpc2.init(KEY, example(), settings, {}))
    model, policy = tree(flat, "model"), tree(flat, "policy")
    shapes = jax.tree.map(np.shape, (fresh.model.params, fresh.policy.params))
    assert shapes == jax.tree.map(np.shape, (model, policy))
    return tdmpc2.State(
        model=trained(model, tdmpc2.model_optimizer(settings)),
        policy=trained(policy, tdmpc2.policy_optimizer(settings)),
        target_critic=tree(flat, "target"),
        scale=np.ones(()),
        normalizer=Normalizer(flat["mean"], flat["std"]),
        action_box=ActionBox(flat["low"], flat["high"]),
        key=KEY,
        step=np.int32(0),
    )


def close(found, expected, tolerance):
    """Equal to `tolerance` of the largest entry."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(expected))
    assert largest > 0
    for got, want in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=tolerance * largest, rtol=0)


@pytest.fixture(scope="module")
def outcome(flat):
    """One update, and the gradients that it takes, in one program."""
    settings = config()
    with jax.enable_x64(True):
        state = reference_state(flat, settings)
        batch = Slices(**tree(flat, "batch"))
        noise = tdmpc2.Noise(**tree(flat, "noise"))

        @jax.jit
        def run(state):
            rows = tdmpc2.time_major(state, batch)
            new, metrics = tdmpc2.update_with(state, rows, noise, settings)
            _, targets = tdmpc2.td_targets(state, rows, noise, settings)
            model, (latents, _) = jax.grad(tdmpc2.model_loss, has_aux=True)(
                state.model.params, state, rows, noise, settings
            )
            policy, _ = jax.grad(tdmpc2.policy_loss, has_aux=True)(
                state.policy.params,
                state.replace(model=new.model),
                latents,
                noise,
                settings,
            )
            return new, metrics, targets, model, policy

        return jax.tree.map(np.asarray, run(state))


def test_an_update_draws_its_noise_from_the_key_and_the_step(flat):
    """Shapes are the reference's, critics' pairs differ, and steps draw anew."""
    settings = config(dropout=0.3)
    state = jax.tree.map(np.float32, reference_state(flat, settings))
    state = state.replace(key=KEY, step=np.int32(4))
    batch = Slices(**jax.tree.map(np.float32, tree(flat, "batch")))
    expected = jax.tree.map(np.shape, tdmpc2.Noise(**tree(flat, "noise")))

    @jax.jit
    def run(state):
        rows = tdmpc2.time_major(state, batch)
        noise = tdmpc2.draw(jax.random.fold_in(state.key, state.step), rows, settings)
        given = tdmpc2.update_with(state, rows, noise, settings)
        later = tdmpc2.update(state.replace(step=5), batch, settings, {})
        return noise, given, tdmpc2.update(state, batch, settings, {}), later

    noise, given, own, later = jax.tree.map(np.asarray, run(state))
    drawn = noise._replace(model_dropout=None, policy_dropout=None)
    assert jax.tree.map(np.shape, drawn) == expected
    for pair in (noise.target_pair, noise.policy_pair):
        assert pair[0] != pair[1] and set(pair) <= set(range(4))
    assert not np.array_equal(noise.target[0], noise.policy[0])
    assert not np.array_equal(noise.model_dropout, noise.policy_dropout)
    for got, want in zip(jax.tree.leaves(own), jax.tree.leaves(given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    assert own[1]["tdmpc2/policy_loss"] != later[1]["tdmpc2/policy_loss"]


def test_losses_equal_pytorchs(flat, outcome):
    _, metrics, targets, *_ = outcome
    np.testing.assert_allclose(targets, flat["targets"], rtol=1e-6)
    for name in ("consistency", "reward", "value", "termination", "policy"):
        found = metrics[f"tdmpc2/{name}_loss"]
        np.testing.assert_allclose(found, flat[f"loss/{name}"], rtol=1e-5)
    np.testing.assert_allclose(metrics["tdmpc2/loss"], flat["loss/model"], rtol=1e-5)


def test_gradients_equal_pytorchs(flat, outcome):
    *_, model, policy = outcome
    close(model, tree(flat, "grad/model"), 1e-5)
    close(policy, tree(flat, "grad/policy"), 1e-5)


def test_what_an_update_leaves_equals_pytorchs(flat, outcome):
    new = outcome[0]
    np.testing.assert_allclose(new.scale, flat["scale"], rtol=1e-6)
    close(new.target_critic, tree(flat, "after/target"), 1e-6)
    # Weights move by 3e-4, the encoder's by a third of it.
    close(new.model.params, tree(flat, "after/model"), 1e-6)
    close(new.policy.params, tree(flat, "after/policy"), 1e-6)


def count(size, observations=24, actions=6):
    """Parameters by hand: products of widths, biases, and LayerNorm's pairs."""

    def mlp(*widths, norm_last=False):
        linear = sum(a * b + b for a, b in itertools.pairwise(widths))
        return linear + 2 * sum(widths[1:-1]) + 2 * widths[-1] * norm_last

    encoder, latent, width, num_q = SIZES[size]
    both = (latent + actions, width, width)
    return (
        mlp(observations, encoder, latent, norm_last=True)
        + mlp(*both, latent, norm_last=True)
        + mlp(*both, 101)
        + mlp(latent, width, width, 2 * actions)
        + num_q * mlp(*both, 101)
    )


@pytest.mark.parametrize("size, millions", [("1M", 1), ("5M", 5)])
def test_published_sizes(size, millions):
    state = jax.eval_shape(
        lambda: tdmpc2.init(
            jax.random.PRNGKey(0), example(24, 6), tdmpc2.Config(size=size), {}
        )
    )
    leaves = jax.tree.leaves((state.model.params, state.policy.params))
    found = sum(x.size for x in leaves)
    assert found == count(size)
    assert 0.75 < found / (millions * 1e6) < 1.5


def test_settings_that_make_no_sense_are_told():
    for changes, match in (({"size": "7M"}, "'7M'"), ({"horizon": 0}, "horizon is 0")):
        with pytest.raises(UserError, match=match):
            config(**changes).validate()


@pytest.fixture(scope="module")
def acting(flat):
    """The reference weights in float32, and a program that plans with them."""
    settings = config(discount=0.9)
    state = jax.tree.map(np.float32, reference_state(flat, settings))
    state = state.replace(key=KEY)
    model = Model(tdmpc2.METHOD, settings, state)
    search = mppi.Config(num_samples=24, num_elites=6, num_proposals=4, iterations=2)

    @jax.jit
    def plan(observation, last, key):
        return tdmpc2_planning.plan(model, observation, last, key, search)

    return settings, state, plan


def numbers(params, x, part):
    """One part of the model in NumPy: rows [N, in] → outputs."""
    params = params["params"]
    layers = sum(name.startswith("Dense") for name in params)
    for i in range(layers):
        x = x @ np.float64(params[f"Dense_{i}"]["kernel"])
        x = x + np.float64(params[f"Dense_{i}"]["bias"])
        if f"LayerNorm_{i}" in params:
            norm = params[f"LayerNorm_{i}"]
            x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
                x.var(-1, keepdims=True) + 1e-5
            )
            x = x * np.float64(norm["scale"]) + np.float64(norm["bias"])
        if i < layers - 1:
            x = x * np.tanh(np.log1p(np.exp(x)))
    if part in ("encoder", "dynamics"):
        x = np.exp(x).reshape(len(x), -1, 8)
        x = (x / x.sum(-1, keepdims=True)).reshape(len(x), -1)
    return x


def scalar(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    y = (p / p.sum(-1, keepdims=True)) @ np.linspace(-10, 10, 21)
    return np.sign(y) * (np.exp(np.abs(y)) - 1)


def test_values_of_sequences_equal_a_loops_and_stop_at_an_end(acting):
    settings, state, _ = acting
    rng = np.random.default_rng(3)
    observation = np.float32([0.3, -1.0, 0.5])
    actions = rng.uniform(-1, 1, size=(3, 9, 2)).astype(np.float32)
    noise, pair = rng.normal(size=(9, 2)).astype(np.float32), np.array([3, 1])
    params = jax.tree.map(np.copy, state.model.params)
    state = state.replace(model=state.model.replace(params=params))
    policy = state.policy.params
    # The median state is not an end, so that some sequences are cut short.
    z = (observation - state.normalizer.mean) / state.normalizer.std
    first = np.repeat(numbers(params["encoder"], np.float64(z)[None], "encoder"), 9, 0)
    z, latents, total = first, [], np.zeros(9)
    for t in range(3):
        z = numbers(params["dynamics"], np.append(z, actions[t], 1), "dynamics")
        latents.append(z)
    ends = np.stack([numbers(params["termination"], z, "") for z in latents])[..., 0]
    final = params["termination"]["params"]["Dense_2"]
    final["bias"] = final["bias"] - np.float32(np.quantile(ends, 0.8))
    ends -= np.quantile(ends, 0.8)
    model = Model(tdmpc2.METHOD, settings, state)
    found = jax.jit(
        lambda: tdmpc2_planning.sequence_values(
            model, tdmpc2_planning.encode(model, observation), actions, noise, pair
        )
    )()
    factor = np.ones(9)
    for t in range(3):
        x = np.append(latents[t - 1] if t else first, actions[t], 1)
        total += factor * scalar(numbers(params["reward"], x, "reward"))
        factor *= 0.9 * (ends[t] <= 0)
    assert 0 < (factor > 0).sum() < 9
    mean, raw = np.split(numbers(policy, latents[2], "policy"), 2, axis=1)
    last = np.tanh(mean + np.exp(-10 + 6 * (np.tanh(raw) + 1)) * noise)
    x = np.append(latents[2], last, 1)
    for k in pair:
        member = jax.tree.map(lambda w, k=k: w[k], params["q"]["params"])
        q = numbers({"params": member["VmapNormedMLP_0"]}, x, "q")
        total += factor * scalar(q) / 2
    np.testing.assert_allclose(found, total, rtol=1e-3, atol=1e-4)


def test_acting_is_fixed_by_the_key_and_stays_in_the_box(acting):
    settings, state, plan = acting
    observation, last = np.float32([0.3, -1.0, 0.5]), np.zeros((3, 2), np.float32)
    action, mean = plan(observation, last, jax.random.PRNGKey(5))
    again = plan(observation, last, jax.random.PRNGKey(5))
    np.testing.assert_array_equal(action, again[0])
    np.testing.assert_array_equal(mean, again[1])
    other, _ = plan(observation, last, jax.random.PRNGKey(6))
    assert not np.array_equal(action, other)
    low, high = state.action_box.low, state.action_box.high
    assert (action >= low - 1e-5).all() and (action <= high + 1e-5).all()
    model = Model(tdmpc2.METHOD, settings, state)
    found = model.act(observation, jax.random.PRNGKey(0))
    z = numbers(
        state.model.params["encoder"],
        np.float64((observation - state.normalizer.mean) / state.normalizer.std)[None],
        "encoder",
    )
    mean = np.split(numbers(state.policy.params, z, "policy"), 2, axis=1)[0][0]
    expected = (low + high) / 2 + (high - low) / 2 * np.tanh(mean)
    np.testing.assert_allclose(found.mode(), expected, rtol=1e-4, atol=1e-5)
