"""SARSA, the improved critic and rev-KL: values of known problems, joining, steps."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.improvement import operators
from offjax.methods import (
    bc,
    common,
    iql,
    iterative_cfpi,
    multistep_cfpi,
    rev_kl,
    sarsa,
)
from offjax.types import Model, Params, Statistics, Transitions

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


def fit(module, config, batch, updates, upstream=None):
    """The model after that many updates on one batch."""
    upstream = upstream or {}
    state = module.init(KEY, DATA, config, upstream)

    @jax.jit
    def run(state, upstream):
        def body(i, state):
            return module.update(state, batch, config, upstream)[0]

        return jax.lax.fori_loop(0, updates, body, state)

    return Model(module.METHOD, config, run(state, upstream))


SMALL = {"hidden_dims": (32, 32), "critic_lr": 3e-3, "tau": 0.05, "discount": 0.9}


@pytest.mark.parametrize("network", ["iqn", "mlp"])
def test_sarsa_learns_the_behaviors_value(network):
    """Q(0, a) = a + 0.9 E[2a'] = a, since a' is ±½ alike; Q(1, a) = 2a."""
    config = sarsa.Config(network=network, **SMALL)
    batch = chain()
    model = fit(sarsa, config, batch, 400)
    first = np.asarray(batch.terminals) == 0
    bias = 0.9 * 2 * np.asarray(batch.next_actions)[first].mean()
    for observation, factor, offset in ((0.0, 1.0, bias), (1.0, 2.0, 0.0)):
        for action in (-0.5, 0.5):
            values = sarsa.member_values(
                model.state, config, jnp.array([observation]), jnp.array([action])
            )
            np.testing.assert_allclose(values, factor * action + offset, atol=0.25)


def next_q(state, batch, actions, config):
    """Both target critics of an MLP at the next states, [2, B]."""
    network = sarsa.network(config)
    return network.apply(state.target_critic, batch.next_observations, actions)


def test_each_member_learns_from_its_own_target():
    """Pessimism enters when acting, not in training."""
    batch = jax.tree.map(lambda x: x[:8], chain())
    config = sarsa.Config(network="mlp", **SMALL)
    state = sarsa.init(KEY, DATA, config, {})
    _, targets = sarsa.critic_loss(state.critic.params, state, batch, KEY, config)
    own = next_q(state, batch, batch.next_actions, config)
    expected = batch.rewards + 0.9 * (1 - batch.terminals) * np.array(own)
    assert np.abs(own[0] - own[1]).max() > 1e-3
    np.testing.assert_allclose(targets, expected, rtol=1e-6)


def test_joining_of_members():
    values = jnp.array([1.0, 3.0, 5.0])
    spread = {"aggregate": "mean_std"}
    unbiased = spread | {"lower_bound_ddof": 1}
    for settings, acting, expected in (
        ({"aggregate": "min"}, {}, 1.0),
        ({"aggregate": "mean"}, {}, 3.0),
        (spread, {}, 3 - np.sqrt(8 / 3)),
        (unbiased, {}, 3 - 2.0),
        (spread, {"lower_bound_beta": 0.5}, 3 - 0.5 * np.sqrt(8 / 3)),
        (spread, {"active_size": 2.0}, 2 - 1.0),
        ({"aggregate": "min"}, {"active_size": 2.0}, 1.0),
        (unbiased, {"active_size": 1.0}, 1.0),
    ):
        joined = sarsa.aggregate(
            values, sarsa.Config(**settings), sarsa.Ensemble(**acting)
        )
        np.testing.assert_allclose(joined, expected, rtol=1e-6)
    equal = jax.grad(
        lambda x: sarsa.aggregate(jnp.stack([x, x]), sarsa.Config(**spread))
    )(1.0)
    assert equal == 1.0  # no NaN where members agree
    for name, value in (("aggregate", "median"), ("network", "cnn")):
        with pytest.raises(UserError, match=name):
            sarsa.Config(**{name: value}).validate()


def test_acting_reads_the_ensemble_and_other_stages_the_defaults():
    config = sarsa.Config(network="mlp", aggregate="mean_std", **SMALL)
    model = fit(sarsa, config, chain(), 3)
    point = (jnp.ones(1), jnp.array([0.5]))
    lower, upper = np.sort(sarsa.member_values(model.state, config, *point))
    assert upper > lower
    for beta, expected in ((0.0, (lower + upper) / 2), (1.0, lower)):
        ensemble = sarsa.Ensemble(lower_bound_beta=beta)
        params = Params({"sarsa": model}, {"ensemble": ensemble})
        value = sarsa.critic("sarsa")(params)(*point)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(model.q_value(*point), lower, rtol=1e-5)


def test_fractions_partition_the_unit_interval():
    fractions = sarsa.random_fractions(KEY, (1000, 8))
    np.testing.assert_allclose(fractions.increments.sum(-1), 1.0, rtol=1e-5)
    assert fractions.increments.min() > 0.0127 and fractions.increments.max() < 0.612
    starts = fractions.midpoints - fractions.increments / 2
    ends = fractions.midpoints + fractions.increments / 2
    np.testing.assert_allclose(starts[:, 1:], ends[:, :-1], atol=1e-6)
    np.testing.assert_allclose(starts[:, 0], 0.0, atol=1e-6)


def test_a_block_continues_the_critic_of_the_block_before():
    earlier = fit(sarsa, sarsa.Config(**SMALL), chain(), 3)
    upstream = {"bc": None, "block_1": earlier}
    settings = multistep_cfpi.Config(**SMALL)
    state = multistep_cfpi.init(jax.random.PRNGKey(1), DATA, settings, upstream)
    for a, b in zip(
        jax.tree.leaves((earlier.state.critic.params, earlier.state.target_critic)),
        jax.tree.leaves((state.critic.params, state.target_critic)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    fresh = [np.abs(x).max() for x in jax.tree.leaves(state.critic.opt_state)]
    assert state.step == 0 and max(fresh) == 0
    np.testing.assert_array_equal(state.key, jax.random.PRNGKey(1))


def test_blocks_learn_from_improved_actions(small_dataset, train, narrow):
    """The recorded next action enters no block, the critic before decides it."""
    recipe = narrow(multistep_cfpi.recipe(small_dataset.spec, "demo"))
    recipe = dataclasses.replace(recipe, stages=recipe.stages[:3])
    for name in ("sarsa", "block_1"):
        recipe = recipe.with_config(name, network="mlp")
    models = train(recipe, small_dataset, updates=2).models
    block = recipe.stages[2]
    upstream = {name: models[name] for name in block.reads}
    rows = block.view.arrays(small_dataset, block.config, upstream).rows
    assert np.asarray(rows.has_next_action).all()
    settings = operators.MixtureConfig(log_tau=0.5)
    for i in (0, 100):
        observation = jnp.asarray(rows.next_observations[i])
        expected = operators.mixture(
            models["bc"].act(observation, KEY),
            lambda a, o=observation: models["sarsa"].q_value(o, a),
            KEY,
            settings,
        )
        np.testing.assert_allclose(rows.next_actions[i], expected, atol=1e-4)


@pytest.fixture(scope="module")
def cloned():
    config = bc.Config(
        head="mixture",
        squashed=True,
        num_components=2,
        hidden_dims=(16, 16),
        actor_lr=5e-3,
    )
    return fit(bc, config, chain(), 300)


def test_mixture_cloning_finds_both_modes(cloned):
    policy = cloned.act(jnp.ones(1), KEY)
    modes = np.sort(np.tanh(np.asarray(policy.means))[:, 0])
    np.testing.assert_allclose(modes, [-0.5, 0.5], atol=0.05)
    weights = jax.nn.softmax(policy.logits)
    np.testing.assert_allclose(weights, [0.5, 0.5], atol=0.15)


def test_squashed_likelihood_is_that_of_the_distribution(cloned):
    """The loss is −log density but for the change of variables, a constant."""
    state, config = cloned.state, cloned.config
    batch = jax.tree.map(lambda x: x[:64], chain(seed=3))
    loss, _ = bc.actor_loss(state.actor.params, state, batch, KEY, config)
    log_prob = jax.vmap(lambda o, a: cloned.act(o, KEY).log_prob(a))(
        batch.observations, batch.actions
    )
    log_jacobian = np.log(1 - np.asarray(batch.actions) ** 2).sum(-1).mean()
    constant = 0.5 * np.log(2 * np.pi)
    expected = -log_prob.mean() - log_jacobian - constant
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_improved_critic_prefers_the_better_mode(cloned):
    """Improved actions at state 1 are near +½ or above, so Q(0, a) ≈ a + 0.9·2·½."""
    config = iterative_cfpi.Config(
        network="mlp", log_tau=0.05, warmup_steps=50.0, target_noise=0.0, **SMALL
    )
    batch = chain(rows=64)
    model = fit(iterative_cfpi, config, batch, 300, {"bc": cloned})
    assert 1.15 < model.q_value(jnp.zeros(1), jnp.array([0.5])) < 1.9
    plain = dataclasses.replace(config, warmup_steps=1e9)
    model = fit(iterative_cfpi, plain, batch, 300, {"bc": cloned})
    # Recorded next actions are ±½ alike.
    assert model.q_value(jnp.zeros(1), jnp.array([0.5])) < 0.9


def test_improved_target_is_noisy_and_takes_the_lower_critic(cloned):
    """Noise of any size moves by c at most; both critics regress on the lower one."""
    batch = chain(rows=16)
    config = iterative_cfpi.Config(
        network="mlp", warmup_steps=0.0, target_noise=1e4, noise_clip=0.3, log_tau=0.0,
        **SMALL,
    )  # fmt: skip
    state = iterative_cfpi.init(KEY, DATA, config, {})
    _, targets = jax.jit(iterative_cfpi.critic_loss)(
        state.critic.params, state, batch, KEY, config, cloned
    )
    actions = jax.jit(iterative_cfpi.next_actions)(
        state, batch, jax.random.fold_in(KEY, 1), config, cloned
    )
    modes = np.tanh(np.asarray(cloned.act(jnp.ones(1), KEY).means))[:, 0]
    # log τ = 0 selects one of them.
    moved = np.abs(np.asarray(actions) - modes).min(1)
    np.testing.assert_allclose(moved, 0.3, atol=1e-3)
    lower = next_q(state, batch, actions, config).min(0)
    expected = batch.rewards + 0.9 * lower * (1 - batch.terminals)
    np.testing.assert_allclose(targets, [expected] * 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 100.0])
def test_rev_kl_trades_value_for_divergence(cloned, alpha):
    critic = fit(sarsa, sarsa.Config(network="mlp", **SMALL), chain(), 200)
    upstream = {"bc": cloned, "sarsa": critic}
    settings = rev_kl.Config(actor_lr=3e-3, alpha=alpha, num_samples=4)
    batch = jax.tree.map(lambda x: x[:32], chain())
    model = fit(rev_kl, settings, batch, 150, upstream)
    before, after = (m.act(jnp.ones(1), KEY) for m in (cloned, model))
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
    acted = [Model(iql.METHOD, c, after).act(jnp.ones(1), KEY) for c in (config, plain)]
    np.testing.assert_array_equal(acted[0].means, acted[1].means)


def test_cloning_refuses_an_unknown_head_and_an_empty_mixture():
    for settings in ({"head": "softmax"}, {"num_components": 0}):
        with pytest.raises(UserError, match=next(iter(settings))):
            bc.Config(**settings).validate()


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
