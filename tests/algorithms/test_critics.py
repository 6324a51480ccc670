"""SARSA, the improved critic and rev-KL: values of known problems, joining, steps."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.algorithms import bc, cfpi_critic, common, iql, rev_kl, sarsa
from offjax.errors import UserError
from offjax.types import Statistics, Transitions

KEY = jax.random.PRNGKey(0)
STATISTICS = Statistics(np.zeros(1), np.ones(1), -np.ones(1), np.ones(1))
DATA = SimpleNamespace(statistics=STATISTICS)


def chain(rows=256, seed=0):
    """Two states 0 → 1 → end; rewards a, then 2a. Recorded actions are ±0.5."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(size=(rows, 1)) < 0.5
    actions = rng.choice([-0.5, 0.5], size=(rows, 1))
    following = rng.choice([-0.5, 0.5], size=(rows, 1))
    rewards = np.where(first, actions, 2 * actions)[:, 0]
    arrays = (
        np.where(first, 0.0, 1.0),
        actions,
        rewards,
        np.ones((rows, 1)),
        following,
        (~first)[:, 0],
    )
    floats = [jnp.asarray(x, jnp.float32) for x in arrays]
    return Transitions(*floats, has_next_action=jnp.asarray(first[:, 0]))


def fit(algorithm, config, batch, updates, context=None):
    context = context or {}
    state = algorithm.init(KEY, DATA, config, context)

    @jax.jit
    def run(state):
        def body(i, state):
            return algorithm.update(state, batch, config, context)[0]

        return jax.lax.fori_loop(0, updates, body, state)

    return run(state)


SMALL = {"hidden_dims": (32, 32), "lr": 3e-3, "polyak": 0.05, "discount": 0.9}


@pytest.mark.parametrize("network", ["iqn", "mlp"])
def test_sarsa_learns_the_behaviours_value(network):
    """Q(0, a) = a + 0.9 E[2a'] = a, since a' is ±½ alike; Q(1, a) = 2a."""
    config = sarsa.Config(network=network, **SMALL)
    batch = chain()
    state = fit(sarsa, config, batch, 400)
    first = np.asarray(batch.terminals) == 0
    bias = 0.9 * 2 * np.asarray(batch.next_actions)[first].mean()
    for observation, factor, offset in ((0.0, 1.0, bias), (1.0, 2.0, 0.0)):
        for action in (-0.5, 0.5):
            values = sarsa.member_values(
                state, jnp.array([observation]), jnp.array([action]), config
            )
            np.testing.assert_allclose(values, factor * action + offset, atol=0.25)


def test_each_member_learns_from_its_own_target(monkeypatch):
    """Pessimism enters when acting, not in training."""
    seen = {}
    own = jnp.array([[1.0], [-2.0]]) * jnp.ones(8)
    monkeypatch.setattr(sarsa, "next_values", lambda *_: own)
    monkeypatch.setattr(sarsa, "step", lambda state, y, *_: seen.update(y=y))
    batch = jax.tree.map(lambda x: x[:8], chain())
    config = sarsa.Config(network="mlp", discount=0.9)
    sarsa.update(None, batch, config, {})
    expected = batch.rewards + 0.9 * (1 - batch.terminals) * np.array(own)
    np.testing.assert_allclose(seen["y"], expected, rtol=1e-6)


def test_joining_of_members():
    values = jnp.array([1.0, 3.0, 5.0])
    for settings, expected in (
        ({"aggregate": "min"}, 1.0),
        ({"aggregate": "mean"}, 3.0),
        ({"aggregate": "mean_std"}, 3 - np.sqrt(8 / 3)),
        ({"aggregate": "mean_std", "lower_bound_ddof": 1}, 3 - 2.0),
        ({"aggregate": "mean_std", "lower_bound_beta": 0.5}, 3 - 0.5 * np.sqrt(8 / 3)),
        ({"aggregate": "mean_std", "active_size": 2.0}, 2 - 1.0),
        ({"aggregate": "min", "active_size": 2.0}, 1.0),
        ({"aggregate": "mean_std", "active_size": 1.0, "lower_bound_ddof": 1}, 1.0),
    ):
        config = sarsa.Config(**settings)
        np.testing.assert_allclose(sarsa.aggregate(values, config), expected, rtol=1e-6)
    equal = jax.grad(
        lambda x: sarsa.aggregate(jnp.stack([x, x]), sarsa.Config(aggregate="mean_std"))
    )(1.0)
    assert equal == 1.0  # no NaN where members agree
    with pytest.raises(UserError, match="aggregate"):
        sarsa.aggregate(values, sarsa.Config(aggregate="median"))
    with pytest.raises(UserError, match="network"):
        sarsa.init(KEY, DATA, sarsa.Config(network="cnn"), {})


def test_fractions_partition_the_unit_interval():
    fractions = sarsa.random_fractions(KEY, (1000, 8))
    np.testing.assert_allclose(fractions.increments.sum(-1), 1.0, rtol=1e-5)
    assert fractions.increments.min() > 0.0127 and fractions.increments.max() < 0.612
    starts = fractions.midpoints - fractions.increments / 2
    ends = fractions.midpoints + fractions.increments / 2
    np.testing.assert_allclose(starts[:, 1:], ends[:, :-1], atol=1e-6)
    np.testing.assert_allclose(starts[:, 0], 0.0, atol=1e-6)


def test_warm_start_continues_the_earlier_critic():
    config = sarsa.Config(**SMALL)
    earlier = fit(sarsa, config, chain(), 3)
    later = sarsa.Config(warm_start="sarsa", **SMALL)
    state = sarsa.init(jax.random.PRNGKey(1), DATA, later, {"sarsa": earlier})
    for a, b in zip(
        jax.tree.leaves((earlier.params, earlier.target_params)),
        jax.tree.leaves((state.params, state.target_params)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert state.step == 0


@pytest.fixture(scope="module")
def cloned():
    config = bc.Config(
        head="mixture", squashed=True, num_components=2, hidden_dims=(16, 16), lr=5e-3
    )
    return config, fit(bc, config, chain(), 300)


def test_mixture_cloning_finds_both_modes(cloned):
    config, state = cloned
    policy = bc.distribution(state, jnp.ones(1), config)
    modes = np.sort(np.tanh(np.asarray(policy.means))[:, 0])
    np.testing.assert_allclose(modes, [-0.5, 0.5], atol=0.05)
    weights = jax.nn.softmax(policy.logits)
    np.testing.assert_allclose(weights, [0.5, 0.5], atol=0.15)


def test_squashed_likelihood_is_that_of_the_distribution(cloned):
    """The loss is −log density but for the change of variables, a constant."""
    config, state = cloned
    batch = jax.tree.map(lambda x: x[:64], chain(seed=3))
    loss = bc.loss_fn(state.params, state, batch, config)
    log_prob = jax.vmap(lambda o, a: bc.distribution(state, o, config).log_prob(a))(
        batch.observations, batch.actions
    )
    log_jacobian = np.log(1 - np.asarray(batch.actions) ** 2).sum(-1).mean()
    constant = 0.5 * np.log(2 * np.pi)
    expected = -log_prob.mean() - log_jacobian - constant
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_improved_critic_prefers_the_better_mode(cloned):
    """Improved actions at state 1 are near +½ or above, so Q(0, a) ≈ a + 0.9·2·½."""
    _, behavior = cloned
    config = cfpi_critic.Config(
        network="mlp", log_tau=0.05, warmup_steps=50.0, target_noise=0.0, **SMALL
    )
    batch = chain(rows=64)
    state = fit(cfpi_critic, config, batch, 300, {"bc": behavior})
    value = cfpi_critic.q_value(state, jnp.zeros(1), jnp.array([0.5]), config)
    assert 1.15 < value < 1.9
    plain = dataclasses.replace(config, warmup_steps=1e9)
    state = fit(cfpi_critic, plain, batch, 300, {"bc": behavior})
    value = cfpi_critic.q_value(state, jnp.zeros(1), jnp.array([0.5]), plain)
    assert value < 0.9  # recorded next actions are ±½ alike


def test_improved_target_is_noisy_and_takes_the_lower_critic(cloned, monkeypatch):
    """Noise of any size moves by c at most; both critics regress on the lower one."""
    _, behavior = cloned
    seen = {}

    def next_values(state, batch, next_actions, noise, config):
        seen["actions"] = next_actions
        return jnp.array([[1.0], [-2.0]]) * jnp.ones(batch.rewards.shape)

    def step(state, targets, batch, noise, config):
        seen["targets"] = targets
        return state, {}

    monkeypatch.setattr(sarsa, "next_values", next_values)
    monkeypatch.setattr(sarsa, "step", step)
    batch = chain(rows=16)
    config = cfpi_critic.Config(
        network="mlp", warmup_steps=0.0, target_noise=1e4, noise_clip=0.3, log_tau=0.0,
        **SMALL,
    )  # fmt: skip

    @jax.jit
    def run(state):
        cfpi_critic.update(state, batch, config, {"bc": behavior})
        return seen["actions"], seen["targets"]

    actions, targets = run(cfpi_critic.init(KEY, DATA, config, {}))
    policy = bc.distribution(behavior, jnp.ones(1), behavior.config)
    modes = np.tanh(np.asarray(policy.means))[:, 0]  # log τ = 0 selects one of them
    moved = np.abs(np.asarray(actions) - modes).min(1)
    np.testing.assert_allclose(moved, 0.3, atol=1e-3)
    expected = batch.rewards - 0.9 * 2.0 * (1 - batch.terminals)
    np.testing.assert_allclose(targets, [expected] * 2, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 100.0])
def test_rev_kl_trades_value_for_divergence(cloned, alpha):
    config, behavior = cloned
    critic_config = sarsa.Config(network="mlp", **SMALL)
    critic = fit(sarsa, critic_config, chain(), 200)
    context = {"bc": behavior, "sarsa": critic}
    settings = rev_kl.Config(lr=3e-3, alpha=alpha, num_samples=4)
    batch = jax.tree.map(lambda x: x[:32], chain())
    state = fit(rev_kl, settings, batch, 150, context)
    before = bc.distribution(behavior, jnp.ones(1), config)
    after = rev_kl.distribution(state, jnp.ones(1), settings)
    upper = int(np.argmax(before.means[:, 0]))
    weight = [jax.nn.softmax(d.logits)[upper] for d in (before, after)]
    if alpha < 1:
        assert weight[1] > weight[0] + 0.2
    else:
        assert abs(weight[1] - weight[0]) < 0.1


def test_dropout_is_of_the_policy_and_of_training_alone():
    plain = iql.Config(hidden_dims=(64,))
    config = dataclasses.replace(plain, dropout=0.5)
    batch = chain(rows=32)
    state = iql.init(KEY, DATA, config, {})
    (after, mine), (bare, other) = (
        jax.jit(lambda state, c=c: iql.update(state, batch, c, {}))(state)
        for c in (config, plain)
    )
    assert abs(mine["iql/actor_loss"] - other["iql/actor_loss"]) > 1e-4
    for part in ("critic", "value"):
        leaves = [jax.tree.leaves(getattr(s, part).params) for s in (after, bare)]
        for a, b in zip(*leaves, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    acted = [iql.distribution(after, jnp.ones(1), c) for c in (config, plain)]
    np.testing.assert_array_equal(acted[0].means, acted[1].means)


def test_rev_kl_refuses_a_deterministic_policy():
    config = bc.Config(head="deterministic", hidden_dims=(8,))
    behavior = bc.init(KEY, DATA, config, {})
    with pytest.raises(UserError, match="no density"):
        rev_kl.init(KEY, DATA, rev_kl.Config(), {"bc": behavior})
    with pytest.raises(UserError, match="head"):
        bc.init(KEY, DATA, bc.Config(head="softmax"), {})


def test_the_first_critic_alone_is_the_first_of_both():
    rng = np.random.default_rng(0)
    observations = jnp.asarray(rng.normal(size=(7, 3)), jnp.float32)
    actions = jnp.asarray(rng.normal(size=(7, 2)), jnp.float32)
    both = common.critics((8, 8))
    params = both.init(jax.random.PRNGKey(0), observations, actions)

    def values(f):
        return jax.value_and_grad(lambda p, a: jnp.sum(jnp.sin(f(p, a))), (0, 1))

    alone, alone_grads = values(
        lambda p, a: common.first_critic(p, (8, 8), observations, a)
    )(params, actions)
    first, first_grads = values(lambda p, a: both.apply(p, observations, a)[0])(
        params, actions
    )
    np.testing.assert_allclose(alone, first, rtol=1e-6)
    chex.assert_trees_all_close(alone_grads, first_grads, rtol=1e-5, atol=1e-7)
