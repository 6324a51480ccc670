"""CFPI's recipes and its baselines: they train, act, and keep what they improve."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax import recipes
from offjax.datasets.dataset import Dataset
from offjax.evaluation.rollout import Agent
from offjax.recipes import cfpi, value_based
from offjax.types import EnvSpec, Params

SPEC = EnvSpec("none", 3, (-2.0, 0.0), (2.0, 1.0), 10, domain="maze2d")


def small_dataset(rows: int = 240, seed: int = 0) -> Dataset:
    """Episodes of 10 steps; the reward is high where actions are."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(rows, 3)).astype(np.float32)
    unit = np.tanh(rng.normal(size=(rows, 2))).astype(np.float32)
    actions = unit * [2.0, 0.5] + [0.0, 0.5]
    ends = np.arange(rows) % 10 == 9
    timeouts = ends & (np.arange(rows) % 20 == 9)
    return Dataset.from_arrays(
        observations,
        actions.astype(np.float32),
        unit.sum(1).astype(np.float32),
        ends & ~timeouts,
        timeouts,
        observations + 0.1,
        spec=SPEC,
    )


def train(recipe, dataset, updates):
    """States and configs after a few updates of every stage, for one seed."""
    states, configs = {}, {}
    for stage in recipe.stages:
        context = {name: states[name] for name in stage.reads}
        config = stage.config
        data = stage.prepare(dataset, config, context)
        state = stage.algorithm.init(jax.random.PRNGKey(0), data, config, context)

        @jax.jit
        def step(state, data, context, stage=stage, config=config):
            def body(i, state):
                key = jax.random.fold_in(state.key, state.step + 1000)
                batch = stage.sampler(data, key, config)
                return stage.algorithm.update(state, batch, config, context)[0]

            return jax.lax.fori_loop(0, updates, body, state)

        states[stage.name] = step(state, data, context)
        configs[stage.name] = config
    return Params(states, configs, recipe.improve and recipe.improve.config)


def narrow(recipe):
    """The recipe with tiny networks, for speed."""
    stages = []
    for stage in recipe.stages:
        sizes = {"hidden_dims": (16, 16), "batch_size": 16}
        if hasattr(stage.config, "vae_hidden_dims"):
            sizes["vae_hidden_dims"] = (16, 16)
        config = dataclasses.replace(stage.config, **sizes_of(stage.config, sizes))
        stages.append(dataclasses.replace(stage, config=config))
    return dataclasses.replace(recipe, stages=tuple(stages))


def sizes_of(config, sizes):
    names = {f.name for f in dataclasses.fields(config)}
    return {name: value for name, value in sizes.items() if name in names}


EVERY = cfpi.RECIPES | value_based.RECIPES
QUICK = ("cfpi", "idet_vae", "rev_kl", "iql_cfpi", "td3_bc")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in EVERY],
)
def test_every_recipe_trains_and_acts(name):
    build = EVERY[name]
    recipe = narrow(build(SPEC, "demo"))
    assert recipe.name == name
    params = train(recipe, small_dataset(), updates=2)
    for state in params.states.values():
        # The runner freezes a seed whose state is not finite.
        for leaf in jax.tree.leaves(state):
            assert np.isfinite(np.asarray(leaf, np.float64)).all()
    policy = recipe.policy(params.configs)
    agent = Agent(policy, recipe.improve, recipe.q_function)

    @jax.jit
    def act(params, observation, key):
        carry = policy.init(params, None, key)
        return agent.act(params, carry, observation, jnp.float32(0), key)[0]

    action = act(params, jnp.ones(3), jax.random.PRNGKey(1))
    assert action.shape == (2,) and np.isfinite(action).all()
    for preset in ("paper", "small"):
        for domain in ("locomotion", "antmaze", "budget", ""):
            spec = dataclasses.replace(SPEC, domain=domain)
            assert build(spec, preset).name == name


def test_recipes_share_their_first_stages():
    one, other = cfpi.cfpi(SPEC, "small"), cfpi.mode_selection(SPEC, "small")
    assert one.stages[0].config == other.stages[0].config
    assert one.stages[1].config == other.stages[1].config


def test_published_settings():
    hopper = dataclasses.replace(SPEC, domain="locomotion")
    antmaze = dataclasses.replace(SPEC, domain="antmaze")
    behavior, critic = cfpi.cfpi(hopper, "paper").stages
    assert (behavior.config.lr, behavior.num_steps) == (1e-4, 500_000)
    assert behavior.config.hidden_dims == (256, 256, 256)
    assert behavior.config.num_components == 4
    assert cfpi.behavior(antmaze, "paper").config.num_components == 8
    assert (critic.config.lr, critic.config.ensemble_size) == (3e-4, 2)
    assert cfpi.iterative_cfpi(antmaze, "paper").improve.config.log_tau == 1.5
    iql = value_based.iql_stage(antmaze, "paper").config
    assert (iql.expectile, iql.temperature) == pytest.approx((0.9, 10.0))
    cql = value_based.cql_stage(antmaze, "paper").config
    assert cql.lagrange and cql.max_target and cql.gap_min == -200.0
    td3 = value_based.td3_bc(hopper, "paper").stages[0]
    assert td3.num_steps * td3.config.policy_freq == 1_000_000


def test_what_is_published_for_one_dataset_or_domain_alone():
    hopper = dataclasses.replace(SPEC, domain="locomotion")
    for name, dataset, expected in (
        ("cql", "d4rl/hopper-medium-v2", True),
        ("cql_cfpi", "offjax/hopper/medium-v0", True),
        ("cql", "d4rl/hopper-medium-replay-v2", False),
        ("cql", "offjax/maze2d/medium-v0", False),
        ("td3_bc", "d4rl/hopper-medium-v2", False),
    ):
        stage = recipes.build(name, hopper, "paper", dataset).stages[0]
        rows = stage.prepare(small_dataset(), stage.config, {}).rows
        spread = np.ptp(np.asarray(rows.rewards).reshape(-1, 10).sum(1))
        assert (abs(spread - 1000) < 1) == expected
    adroit = dataclasses.replace(SPEC, domain="adroit")
    assert value_based.iql_stage(adroit, "paper").config.dropout == 0.1
    assert value_based.iql_stage(hopper, "paper").config.dropout == 0.0


def test_sarsa_rows_have_a_true_next_action():
    """Of 24 episodes the 12 that end at a time-out lose their last row."""
    dataset = small_dataset()
    stage = cfpi.sarsa_critic(SPEC, "demo")
    rows = stage.prepare(dataset, stage.config, {}).rows
    assert len(rows.rewards) == 240 - 12
    known = np.asarray(rows.has_next_action)
    index = [i for i in range(240) if i % 20 != 9]
    following = np.minimum(np.array(index) + 1, 239)
    np.testing.assert_array_equal(
        np.asarray(rows.next_actions)[known],
        np.asarray(dataset.actions)[following][known],
    )
    assert np.asarray(rows.terminals)[~known].all()


def test_antmaze_rewards_and_locomotion_scale():
    dataset = small_dataset()
    antmaze = dataclasses.replace(SPEC, domain="antmaze")
    stage = cfpi.sarsa_critic(antmaze, "demo")
    data = stage.prepare(dataset, stage.config, {})
    raw = cfpi.sarsa_critic(SPEC, "demo").prepare(dataset, stage.config, {})
    np.testing.assert_allclose(data.rows.rewards, raw.rows.rewards - 1, rtol=1e-6)
    np.testing.assert_array_equal(data.statistics.observation_std, np.ones(3))
    hopper = dataclasses.replace(SPEC, domain="locomotion")
    stage = value_based.iql_stage(hopper, "demo")
    rows = stage.prepare(dataset, stage.config, {}).rows
    returns = np.asarray(rows.rewards).reshape(-1, 10).sum(1)
    assert np.ptp(returns) == pytest.approx(1000.0, rel=1e-4)
