"""CFPI's recipes and its baselines: they train, act, and keep what they improve."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.evaluation.rollout import Agent
from offjax.methods import (
    METHODS,
    bc,
    build,
    cfpi,
    cql,
    iql,
    iterative_cfpi,
    sarsa,
    td3_bc,
)
from offjax.types import EnvSpec

SPEC = EnvSpec("none", 3, (-2.0, 0.0), (2.0, 1.0), 10, domain="maze2d")


EVERY = (
    *("bc", "percent_bc", "bc_gaussian", "bc_mixture", "bc_mixture_sampled"),
    *("bc_deterministic", "bc_vae", "cfpi", "cfpi_sg", "cfpi_ensemble"),
    *("multistep_cfpi", "iterative_cfpi", "idet", "idet_vae", "vae_ebcq"),
    *("mode_selection", "ebcq", "ebcq_mixture", "rev_kl", "rev_kl_mixture"),
    *("iql", "iql_cfpi", "cql", "cql_cfpi", "td3_bc", "awac", "bcq"),
)
QUICK = ("cfpi", "idet_vae", "rev_kl", "iql_cfpi", "td3_bc")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in EVERY],
)
def test_every_recipe_trains_and_acts(name, small_dataset, narrow, train):
    build = METHODS[name]
    recipe = narrow(build(SPEC, "demo"))
    assert recipe.name == name
    params = train(recipe, small_dataset, updates=2)
    for model in params.models.values():
        # The runner freezes a seed whose state is not finite.
        for leaf in jax.tree.leaves(model.state):
            assert np.isfinite(np.asarray(leaf, np.float64)).all()
    agent = Agent.of(recipe)

    @jax.jit
    def act(params, observation, key):
        carry = agent.actor.begin(params, None, key)
        return agent.act(params, carry, observation, jnp.float32(0), key)[0]

    action = act(params, jnp.ones(3), jax.random.PRNGKey(1))
    assert action.shape == (2,) and np.isfinite(action).all()
    for preset in ("paper", "small"):
        for domain in ("locomotion", "antmaze", "budget", ""):
            spec = dataclasses.replace(SPEC, domain=domain)
            assert build(spec, preset).name == name


def test_recipes_share_their_first_stages():
    one, other = cfpi.recipe(SPEC, "small"), cfpi.mode_selection(SPEC, "small")
    assert one.stages[0].config == other.stages[0].config
    assert one.stages[1].config == other.stages[1].config


def test_published_settings():
    hopper = dataclasses.replace(SPEC, domain="locomotion")
    antmaze = dataclasses.replace(SPEC, domain="antmaze")
    behavior, critic = cfpi.recipe(hopper, "paper").stages
    assert (behavior.config.actor_lr, behavior.num_steps) == (1e-4, 500_000)
    assert behavior.config.hidden_dims == (256, 256, 256)
    assert behavior.config.num_components == 4
    assert bc.behavior(antmaze, "paper").config.num_components == 8
    assert (critic.config.critic_lr, critic.config.ensemble_size) == (3e-4, 2)
    assert iterative_cfpi.recipe(antmaze, "paper").improve.config.log_tau == 1.5
    settings = iql.stage(antmaze, "paper").config
    assert (settings.expectile, settings.temperature) == pytest.approx((0.9, 10.0))
    settings = cql.stage(antmaze, "paper").config
    assert settings.lagrange and settings.max_target and settings.gap_min == -200.0
    td3 = td3_bc.recipe(hopper, "paper").stages[0]
    assert td3.num_steps * td3.config.policy_freq == 1_000_000


def test_what_is_published_for_one_dataset_or_domain_alone(small_dataset):
    hopper = dataclasses.replace(SPEC, domain="locomotion")
    for name, dataset, expected in (
        ("cql", "d4rl/hopper-medium-v2", True),
        ("cql_cfpi", "offjax/hopper/medium-v0", True),
        ("bc+cql+best_of_n", "offjax/hopper/medium-v0", True),
        ("cql", "d4rl/hopper-medium-replay-v2", False),
        ("cql", "offjax/maze2d/medium-v0", False),
        ("td3_bc", "d4rl/hopper-medium-v2", False),
    ):
        stage = build(name, hopper, "paper", dataset).stage(
            "cql" if "cql" in name else name
        )
        rows = stage.view.arrays(small_dataset, stage.config, {}).rows
        spread = np.ptp(np.asarray(rows.rewards).reshape(-1, 10).sum(1))
        assert (abs(spread - 1000) < 1) == expected
    adroit = dataclasses.replace(SPEC, domain="adroit")
    assert iql.stage(adroit, "paper").config.dropout == 0.1
    assert iql.stage(hopper, "paper").config.dropout == 0.0


def test_sarsa_rows_have_a_true_next_action(small_dataset):
    """Of 24 episodes the 12 that end at a time-out lose their last row."""
    stage = sarsa.stage(SPEC, "demo")
    rows = stage.view.arrays(small_dataset, stage.config, {}).rows
    assert len(rows.rewards) == 240 - 12
    known = np.asarray(rows.has_next_action)
    index = [i for i in range(240) if i % 20 != 9]
    following = np.minimum(np.array(index) + 1, 239)
    np.testing.assert_array_equal(
        np.asarray(rows.next_actions)[known],
        np.asarray(small_dataset.actions)[following][known],
    )
    assert np.asarray(rows.terminals)[~known].all()


def test_antmaze_rewards_and_locomotion_scale(small_dataset):
    antmaze = dataclasses.replace(SPEC, domain="antmaze")
    stage = sarsa.stage(antmaze, "demo")
    data = stage.view.arrays(small_dataset, stage.config, {})
    raw = sarsa.stage(SPEC, "demo").view.arrays(small_dataset, stage.config, {})
    np.testing.assert_allclose(data.rows.rewards, raw.rows.rewards - 1, rtol=1e-6)
    np.testing.assert_array_equal(data.statistics.observation_std, np.ones(3))
    hopper = dataclasses.replace(SPEC, domain="locomotion")
    stage = iql.stage(hopper, "demo")
    rows = stage.view.arrays(small_dataset, stage.config, {}).rows
    returns = np.asarray(rows.rewards).reshape(-1, 10).sum(1)
    assert np.ptp(returns) == pytest.approx(1000.0, rel=1e-4)
