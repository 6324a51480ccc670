"""Soft actor-critic: one update against PyTorch, and a problem that it must solve."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.behavior import policies, sac
from offjax.behavior.training import Replay
from offjax.networks.trained import trained

FIXTURE = Path(__file__).parents[1] / "fixtures" / "sac.npz"
CONFIG = sac.Config(
    actor_lr=3e-3,
    critic_lr=1e-3,
    temperature_lr=2e-2,
    discount=0.97,
    tau=0.1,
    policy_delay=1,
)


@pytest.fixture(scope="module")
def reference():
    with np.load(FIXTURE) as file:
        return {name: file[name] for name in file.files}


def _layers(reference, name):
    found = []
    while f"{name}/{len(found)}/w" in reference:
        start = f"{name}/{len(found)}/"
        found.append(
            {
                key.removeprefix(start): jnp.asarray(value, jnp.float32)
                for key, value in reference.items()
                if key.startswith(start)
            }
        )
    return found


def _twins(reference, name):
    """Both critics' parameters, [2, ...]."""
    pair = [_layers(reference, f"{name}{i}") for i in range(2)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *pair)


def _state(reference):
    optimizer = sac._optimizer(1.0, 100)  # its state does not depend on the rate
    return sac.State(
        trained(_layers(reference, "actor"), optimizer),
        trained(_twins(reference, "critic"), optimizer),
        _twins(reference, "target"),
        trained(jnp.float32(reference["log_temperature"]), optimizer),
        jnp.int32(0),
    )


def _batch(reference):
    fields = sac.Batch._fields
    return sac.Batch(
        *(jnp.asarray(reference[f"batch/{name}"], jnp.float32) for name in fields)
    )


def test_targets_are_those_of_torch(reference):
    targets = jax.jit(sac.targets)(
        _state(reference), _batch(reference), reference["noise"][0], CONFIG
    )
    np.testing.assert_allclose(targets, reference["targets"], rtol=1e-5, atol=1e-5)


def test_one_update_is_that_of_torch(reference):
    state, batch = _state(reference), _batch(reference)
    noise = jnp.asarray(reference["noise"], jnp.float32)
    batches = jax.tree.map(lambda x: x[None], batch)
    new, metrics = jax.jit(sac.update)(state, batches, noise, CONFIG)
    np.testing.assert_allclose(
        metrics["critic_loss"], reference["critic_loss"], rtol=1e-5
    )
    pairs = [("actor", new.actor.params)]
    for i in range(2):
        critic, target = jax.tree.map(
            lambda x, i=i: x[i], (new.critics.params, new.target_critics)
        )
        pairs += [(f"critic{i}", critic), (f"target{i}", target)]
    for name, params in pairs:
        expected = _layers(reference, f"new/{name}")
        before = _layers(reference, name)
        jax.tree.map(
            # Adam's first step has the rate's length: a tenth of it is the tolerance
            # of entries whose gradient is next to nothing.
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
            params,
            expected,
        )
        moved = jax.tree.map(lambda x, y: float(jnp.abs(x - y).max()), params, before)
        assert max(jax.tree.leaves(moved)) > 5e-4
    np.testing.assert_allclose(
        new.log_temperature.params, reference["new/log_temperature"], rtol=1e-5
    )
    assert int(new.step) == 1


def test_actor_loss_is_that_of_torch(reference):
    critics = _twins(reference, "new/critic")
    loss, _ = jax.jit(sac.actor_loss)(
        _layers(reference, "actor"),
        critics,
        jnp.exp(jnp.float32(reference["log_temperature"])),
        _batch(reference),
        jnp.asarray(reference["noise"][1], jnp.float32),
        CONFIG,
    )
    np.testing.assert_allclose(loss, reference["actor_loss"], rtol=1e-5)


def test_rounded_products_and_their_gradients():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 8)), rng.normal(size=(8, 6))
    x, w = (jnp.asarray(v, jnp.bfloat16).astype(jnp.float32) for v in (x, w))
    out = jnp.asarray(rng.normal(size=(5, 6)), jnp.bfloat16).astype(jnp.float32)
    product, pull = jax.vjp(sac._rounded_product, x, w)
    np.testing.assert_allclose(product, np.asarray(x) @ np.asarray(w), rtol=1e-5)
    to_x, to_w = pull(out)
    np.testing.assert_allclose(to_x, np.asarray(out) @ np.asarray(w).T, rtol=1e-5)
    np.testing.assert_allclose(to_w, np.asarray(x).T @ np.asarray(out), rtol=1e-5)


def test_the_actor_moves_after_every_second_update_of_the_critics(reference):
    """Two groups of two: the critics as by four single updates of frozen actors."""
    config = dataclasses.replace(CONFIG, policy_delay=2)
    state, batch = _state(reference), _batch(reference)
    batches = jax.tree.map(lambda x: jnp.stack([x, x[::-1], 2 * x, x]), batch)
    key, size = jax.random.key(4), batch.actions.shape
    expected, update = state, jax.jit(sac.update)
    for i in range(2):
        group = jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], batches)
        noise = jax.random.normal(jax.random.fold_in(key, 2 * i), (3, *size))
        single = expected
        for j in range(2):
            one = jax.tree.map(lambda x, j=j: x[j : j + 1], group)
            critics = update(single, one, noise[jnp.array([j, 2])], CONFIG)[0].critics
            single = single._replace(critics=critics)
        expected, _ = update(expected, group, noise, config)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5),
            expected.critics.params,
            single.critics.params,
        )
    found, _ = sac.update_many(state, batches, key, config)
    assert int(found.step) == 4
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), found, expected
    )


def test_rates_fall_to_a_tenth():
    optimizer = sac._optimizer(1e-2, 100)
    params, gradient = jnp.zeros(()), jnp.ones(())
    state, steps = optimizer.init(params), []
    for _ in range(100):
        step, state = optimizer.update(gradient, state)
        steps.append(-float(step))
    np.testing.assert_allclose(steps[:50], 1e-2, rtol=1e-3)
    np.testing.assert_allclose(steps[75], 0.55e-2, rtol=1e-2)
    np.testing.assert_allclose(steps[99], 0.1e-2, rtol=0.2)


def test_learns_to_take_the_rewarded_action():
    """Episodes of one step, reward −(a − s/2)²: the mode must be near s/2."""
    rng = np.random.default_rng(0)
    s = rng.uniform(-1, 1, (512, 1)).astype(np.float32)
    a = rng.uniform(-1, 1, (512, 1)).astype(np.float32)
    replay = Replay(512, 1, 1)
    replay.add(s, a, -10 * (a - s / 2)[:, 0] ** 2, s, np.ones(512))
    config = sac.Config(
        actor_lr=3e-3,
        critic_lr=1e-2,
        temperature_lr=1e-2,
        hidden_dims=(32, 32),
        batch_size=64,
        num_updates=600,
    )
    state = sac.init(jax.random.key(0), 1, 1, config)
    for _ in range(2):
        batches = replay.sample(rng, 300, 64)
        state, _ = sac.update_many(state, batches, jax.random.key(1), config)
    actor = policies.from_params(jax.device_get(state.actor.params))
    tests = np.linspace(-0.8, 0.8, 9, dtype=np.float32)[:, None]
    assert np.abs(actor.mode(tests) - tests / 2).max() < 0.12


def test_numpy_policy_is_the_jax_one(tmp_path, reference):
    params = _layers(reference, "actor")
    actor = policies.from_params(jax.device_get(params))
    observations = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    mean, std = actor.gaussian(observations)
    expected, log_std = jax.jit(sac.gaussian)(params, observations)
    np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.log(std), log_std, rtol=1e-4, atol=1e-5)
    noise = np.ones((6, 2))
    sampled = np.tanh(np.asarray(expected) + np.exp(np.asarray(log_std)))
    np.testing.assert_allclose(actor.sample(observations, noise), sampled, atol=1e-5)
    policies.save(tmp_path / "x" / "p.npz", {"a": actor, "b": actor})
    again = policies.load(tmp_path / "x" / "p.npz")
    assert list(again) == ["a", "b"]
    np.testing.assert_allclose(again["b"].mode(observations), np.tanh(mean), atol=2e-2)
    assert again["a"].weights[0].dtype == np.float32
    np.testing.assert_array_equal(
        again["a"].weights[1], actor.weights[1].astype(np.float16).astype(np.float32)
    )


def test_replay_is_a_ring():
    replay = Replay(5, 1, 1)
    for i in range(7):
        one = np.full((1, 1), i, np.float32)
        replay.add(one, one, one[0], one + 1, one[0] == 3)
    assert len(replay) == 5
    batch = replay.sample(np.random.default_rng(0), 3, 100)
    assert batch.rewards.shape == (3, 100) and batch.actions.shape == (3, 100, 1)
    assert sorted(set(batch.rewards.ravel())) == [2, 3, 4, 5, 6]
    np.testing.assert_array_equal(batch.next_observations, batch.observations + 1)
    np.testing.assert_array_equal(batch.terminals, batch.rewards == 3)
    other = Replay(5, 1, 1)
    other.restore(replay.arrays())
    again = other.sample(np.random.default_rng(0), 3, 100)
    np.testing.assert_array_equal(again.observations, batch.observations)
