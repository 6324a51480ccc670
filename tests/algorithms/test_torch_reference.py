"""One update of each value-based algorithm against PyTorch, in float64.

The fixtures hold weights, batch, noise, losses and gradients; they are made by
tests/fixtures/make_torch_reference.py. Losses agree to 1e-5 relative, gradients to
1e-5 of their largest entry.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.algorithms import awac, bc_vae, bcq, cql, iql, sarsa, td3_bc
from offjax.algorithms.common import trained
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.types import Statistics, Transitions

FIXTURES = Path(__file__).parents[1] / "fixtures"
KEY = np.array([0, 0], np.uint32)


class Data:
    """What `init` reads: the prepared data's statistics."""

    def __init__(self, statistics):
        self.statistics = statistics


class Reference:
    """One fixture, as trees."""

    def __init__(self, name):
        self.flat = dict(np.load(FIXTURES / f"{name}.npz"))
        low, high = self.flat["low"], self.flat["high"]
        self.normalizer = Normalizer(self.flat["mean"], self.flat["std"])
        self.box = ActionBox(low, high)
        rows = self.flat_tree("batch")
        self.batch = Transitions(**rows, has_next_action=rows["rewards"] == 0)
        self.observations = self.normalizer(self.batch.observations)
        self.actions = self.box.to_unit(self.batch.actions)
        self.data = Data(Statistics(self.flat["mean"], self.flat["std"], low, high))

    def flat_tree(self, prefix):
        start = prefix + "/"
        names = [name for name in self.flat if name.startswith(start)]
        return {name[len(start) :]: self.flat[name] for name in names}

    def tree(self, prefix):
        result = {}
        for path, value in self.flat_tree(prefix).items():
            *parents, leaf = path.split("/")
            node = result
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = jnp.asarray(value)
        return result

    def check(self, name, loss, grads):
        np.testing.assert_allclose(loss, self.flat[f"loss/{name}"], rtol=1e-5)
        expected = self.tree(f"grad/{name}")
        assert jax.tree.structure(grads) == jax.tree.structure(expected)
        largest = max(np.abs(x).max() for x in jax.tree.leaves(expected))
        assert largest > 0
        for got, want in zip(
            jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True
        ):
            np.testing.assert_allclose(got, want, atol=1e-5 * largest, rtol=0)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def value_and_grad(fn, *args, has_aux=True):
    out, grads = jax.jit(jax.value_and_grad(fn, has_aux=has_aux), static_argnums=())(
        *args
    )
    return (*out, grads) if has_aux else (out, grads)


def same_structure(init_tree, tree):
    """The fixture's weights fit the network that `init` makes."""
    shapes = jax.tree.map(np.shape, init_tree)
    assert shapes == jax.tree.map(np.shape, tree)


def test_sarsa_iqn():
    ref = Reference("sarsa")
    config = sarsa.Config(hidden_dims=(8, 6))
    params, noise = ref.tree("params"), ref.flat_tree("noise")
    state = sarsa.init(KEY, ref.data, config, {})
    same_structure(state.params, params)
    state = state.replace(
        target_params=ref.tree("target"), normalizer=ref.normalizer, action_box=ref.box
    )
    fractions = tuple(
        sarsa.Fractions(noise[f"{place}_mid"], noise[f"{place}_inc"])
        for place in ("here", "there")
    )
    batch = ref.batch
    values = sarsa.next_values(state, batch, batch.next_actions, fractions, config)
    targets = sarsa.bootstrap(batch, values, config)
    np.testing.assert_allclose(targets, ref.flat["targets"], rtol=1e-6)
    loss, grads = value_and_grad(
        sarsa.loss_fn, params, targets, state, batch, fractions, config, has_aux=False
    )
    ref.check("critic", loss, grads)


def test_iql():
    ref = Reference("iql")
    config = iql.Config(hidden_dims=(8, 6))
    value, actor = ref.tree("value"), ref.tree("actor")
    critic, target = ref.tree("critic"), ref.tree("target")
    state = iql.init(KEY, ref.data, config, {})
    for mine, theirs in ((state.value, value), (state.actor, actor)):
        same_structure(mine.params, theirs)
    same_structure(state.critic.params, critic)
    adam = iql.optax.adam(config.lr)
    state = state.replace(
        value=trained(value, adam),
        actor=state.actor.replace(params=actor),
        critic=trained(critic, adam),
        target_params=target,
        normalizer=ref.normalizer,
        action_box=ref.box,
    )
    # The whole update reports each loss at the weights that it reads.
    new, metrics = jax.jit(iql.update)(state, ref.batch, config, {})
    for name in ("value", "actor", "critic"):
        expected = ref.flat[f"loss/{name}"]
        np.testing.assert_allclose(metrics[f"iql/{name}_loss"], expected, rtol=1e-5)
    stale = dataclasses.replace(config, stale_value=True)
    _, metrics = jax.jit(iql.update)(state, ref.batch, stale, {})
    for name in ("actor", "critic"):
        expected = ref.flat[f"loss/{name}_stale"]
        np.testing.assert_allclose(metrics[f"iql/{name}_loss"], expected, rtol=1e-5)
        assert abs(expected / ref.flat[f"loss/{name}"] - 1) > 1e-4
    twin = iql.critics(config.hidden_dims)
    q = twin.apply(target, ref.observations, ref.actions).min(0)
    loss, _, grads = value_and_grad(iql.value_loss, value, ref.observations, q, config)
    ref.check("value", loss, grads)
    network = iql._value(config)
    v = network.apply(new.value.params, ref.observations)[..., 0]
    loss, _, grads = value_and_grad(
        iql.actor_loss, actor, ref.observations, ref.actions, q - v, config
    )
    ref.check("actor", loss, grads)
    following = ref.normalizer(ref.batch.next_observations)
    next_v = network.apply(new.value.params, following)[..., 0]
    targets = ref.batch.rewards + 0.99 * (1 - ref.batch.terminals) * next_v
    loss, _, grads = value_and_grad(
        iql.critic_loss, critic, ref.observations, ref.actions, targets, config
    )
    ref.check("critic", loss, grads)


@pytest.mark.parametrize("label", ["plain", "lagrange"])
def test_cql(label):
    ref = Reference("cql")
    lagrange = label == "lagrange"
    config = cql.Config(
        hidden_dims=(8, 6),
        num_actions=4,
        lagrange=lagrange,
        max_target=lagrange,
        gap_min=1.0 if lagrange else -np.inf,
    )
    actor, critic = ref.tree("actor"), ref.tree("critic")
    state = cql.init(KEY, ref.data, config, {})
    same_structure(state.actor.params, actor)
    same_structure(state.critic.params, critic)
    state = state.replace(
        actor=state.actor.replace(params=actor),
        target_params=ref.tree("target"),
        log_multiplier=state.log_multiplier.replace(params=0.4),
    )
    noise = ref.flat_tree("noise")
    many = noise.pop("target_many")
    noise = cql.Noise(**(noise | ({"target": many} if lagrange else {})))
    rows = cql.Rows(
        ref.observations,
        ref.actions,
        ref.batch.rewards,
        ref.normalizer(ref.batch.next_observations),
        1 - ref.batch.terminals,
    )
    loss, log_prob, grads = value_and_grad(
        cql.actor_loss, actor, critic, 0.3, rows, noise, config
    )
    ref.check("actor", loss, grads)
    np.testing.assert_allclose(log_prob, ref.flat["log_prob"], rtol=1e-5)
    loss, gaps, grads = value_and_grad(
        cql.critic_loss, critic, state, rows, noise, config
    )
    ref.check(f"critic_{label}", loss, grads)
    if lagrange:
        _, _, grad = value_and_grad(cql.multiplier_loss, 0.4, gaps, config)
        np.testing.assert_allclose(grad, ref.flat["multiplier_grad"], rtol=1e-5)


def test_td3_bc():
    ref = Reference("td3_bc")
    config = td3_bc.Config(hidden_dims=(8, 6))
    actor, critic = ref.tree("actor"), ref.tree("critic")
    state = td3_bc.init(KEY, ref.data, config, {})
    same_structure(state.actor.params, actor)
    same_structure(state.critic.params, critic)
    state = state.replace(
        target_actor=ref.tree("t_actor"), target_critic=ref.tree("t_critic")
    )
    noise = ref.flat["noise/policy"]
    assert (np.abs(0.2 * noise) > 0.5).any()  # some of it is clipped
    loss, _, grads = value_and_grad(
        td3_bc.critic_loss, critic, state, ref.batch, noise, config
    )
    ref.check("critic", loss, grads)
    loss, _, grads = value_and_grad(
        td3_bc.actor_loss, actor, critic, ref.observations, ref.actions, config
    )
    ref.check("actor", loss, grads)


def test_awac():
    ref = Reference("awac")
    config = awac.Config(hidden_dims=(8, 6))
    actor, critic = ref.tree("actor"), ref.tree("critic")
    state = awac.init(KEY, ref.data, config, {})
    same_structure(state.actor.params, actor)
    state = state.replace(
        actor=state.actor.replace(params=actor), target_params=ref.tree("target")
    )
    noise = ref.flat_tree("noise")
    loss, _, grads = value_and_grad(
        awac.critic_loss, critic, state, ref.batch, noise["target"], config
    )
    ref.check("critic", loss, grads)
    loss, _, grads = value_and_grad(
        awac.actor_loss, actor, critic, state, ref.batch, noise["policy"], config
    )
    ref.check("actor", loss, grads)


def test_bcq():
    ref = Reference("bcq")
    config = bcq.Config(hidden_dims=(8, 6), vae_hidden_dims=(8, 6), num_samples=4)
    vae, actor, critic = ref.tree("vae"), ref.tree("actor"), ref.tree("critic")
    state = bcq.init(KEY, ref.data, config, {})
    same_structure(state.vae.params, vae)
    same_structure(state.actor.params, actor)
    state = state.replace(
        target_actor=ref.tree("t_actor"), target_critic=ref.tree("t_critic")
    )
    noise = ref.flat_tree("noise")
    settings = bc_vae.Config(hidden_dims=(8, 6))
    loss, _, grads = value_and_grad(
        bc_vae.loss_fn, vae, ref.observations, ref.actions, noise["vae"], settings
    )
    ref.check("vae", loss, grads)
    candidates = noise["candidates"]
    loss, _, grads = value_and_grad(
        bcq.critic_loss, critic, state, ref.batch, candidates, config
    )
    ref.check("critic", loss, grads)
    loss, _, grads = value_and_grad(
        bcq.actor_loss, actor, critic, ref.observations, candidates[:, 0], config
    )
    ref.check("actor", loss, grads)
