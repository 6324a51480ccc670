"""How sequence models act: contexts, histories, targets; and the recipes' stages."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax import recipes
from offjax.algorithms import decision_transformer, reinformer
from offjax.datasets.dataset import Dataset
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.errors import UserError
from offjax.recipes import sequence
from offjax.recipes.sequence_policies import MaxReturnPolicy, ReturnConditionedPolicy
from offjax.runner import settings
from offjax.types import EnvSpec, Params, Statistics

SPEC = EnvSpec(
    id="offjax/Maze2D-v0",
    observation_dim=2,
    action_low=(-1.0,),
    action_high=(3.0,),
    horizon=9,
    domain="maze2d",
)
SIZES = {
    "context_length": 4,
    "max_timesteps": 12,
    "num_layers": 1,
    "num_heads": 2,
    "width": 8,
}


def dataset(episodes=6, length=8):
    rng = np.random.default_rng(0)
    rows = episodes * length
    timeouts = np.arange(rows) % length == length - 1
    return Dataset.from_arrays(
        rng.normal(size=(rows, 2)),
        rng.uniform(-1, 3, size=(rows, 1)),
        rng.uniform(size=rows),
        np.zeros(rows),
        timeouts,
        spec=SPEC,
    )


@functools.lru_cache
def trained(module, **changes):
    """State and config of an untrained network with random parameters."""
    config = module.Config(**(SIZES | changes))
    data = sequence.prepare_trajectories(dataset(), config, {})
    state = jax.jit(lambda: module.init(jax.random.PRNGKey(3), data, config, {}))()
    return state, config


def act(policy, params, observations, rewards, executed, task=None):
    """Actions of the policy where the environment executes `executed` instead."""

    def step(carry, inputs):
        observation, reward, action = inputs
        distribution, carry = policy.propose(
            params, carry, observation, reward, jax.random.key(0)
        )
        return policy.record(carry, action), (distribution.mode(), carry.window)

    carry = policy.init(params, task, jax.random.key(0))
    return jax.lax.scan(step, carry, (observations, rewards, executed))[1]


def history(steps):
    rng = np.random.default_rng(1)
    return (
        jnp.asarray(rng.normal(size=(steps, 2)), jnp.float32),
        jnp.asarray([0.0, *rng.uniform(size=steps - 1)], jnp.float32),
        jnp.asarray(rng.uniform(-1, 3, size=(steps, 1)), jnp.float32),
    )


def by_hand(module, state, config, t, observations, returns, actions):
    """The network's inputs for step t, without any padding."""
    first = max(0, t - config.context_length + 1)
    steps = slice(first, t + 1)
    unit = np.asarray(state.action_box.to_unit(actions)).copy()
    unit[t] = 0.7  # what stands in the place of the action to come must not matter
    return module.Steps(
        state.normalizer(observations[steps]),
        jnp.asarray(unit[steps]),
        jnp.asarray(returns[steps]),
        jnp.minimum(jnp.arange(first, t + 1), 7),  # the data's last time step
    )


def test_decision_transformer_sees_the_last_steps_and_the_return_still_asked_for():
    state, config = trained(decision_transformer, return_scale=2.0, return_target=5.0)
    policy = ReturnConditionedPolicy("m", decision_transformer, config)
    params = Params({"m": state}, {"m": config})
    observations, rewards, executed = history(10)
    actions, _ = jax.jit(lambda: act(policy, params, observations, rewards, executed))()
    returns = (5.0 - np.cumsum(rewards)) / 2.0
    network = decision_transformer.Network(config, 1)
    for t in (0, 2, 3, 6, 9):
        steps = by_hand(
            decision_transformer, state, config, t, observations, returns, executed
        )
        batched = jax.tree.map(lambda x: x[None], steps)
        expected = network.apply(state.params, batched)[0, -1]
        expected = state.action_box.from_unit(expected)
        np.testing.assert_allclose(actions[t], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["none", "chain", "every"])
def test_reinformer_predicts_returns_and_cuts_the_context_of_actions(rule):
    state, config = trained(reinformer, adaptive_context=rule)
    policy = MaxReturnPolicy("m", reinformer, config)
    params = Params({"m": state}, {"m": config})
    observations, rewards, executed = history(7)
    actions, windows = jax.jit(
        lambda: act(policy, params, observations, rewards, executed)
    )()
    returns = np.zeros(7)
    lengths = []
    for t in range(7):
        steps = by_hand(reinformer, state, config, t, observations, returns, executed)
        batched = jax.tree.map(lambda x: x[None], steps)
        network = reinformer.ReturnNetwork(config)
        returns[t] = network.apply(state.returns.params, batched)[0, -1]
        length = 1
        limit = min(4, t + 1) if rule != "none" else 0
        while length < limit:
            below = returns[t - length + 1] if rule == "chain" else returns[t]
            if not returns[t - length] > below:
                break
            length += 1
        length = length if rule != "none" else min(4, t + 1)
        lengths.append(length)
        steps = by_hand(reinformer, state, config, t, observations, returns, executed)
        batched = jax.tree.map(lambda x, n=length: x[-n:][None], steps)
        means, _ = reinformer.ActionNetwork(config, 1).apply(
            state.actions.params, batched
        )
        expected = state.action_box.from_unit(means[0, -1])
        np.testing.assert_allclose(actions[t], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(windows.returns[-1], returns[-4:], rtol=1e-4, atol=1e-5)
    assert rule == "none" or len(set(lengths)) > 1


def test_history_holds_the_executed_or_the_base_action():
    observations, rewards, executed = history(6)
    for remembered in ("executed", "base"):
        state, config = trained(
            decision_transformer, history=remembered, return_target=1.0
        )
        policy = ReturnConditionedPolicy("m", decision_transformer, config)
        params = Params({"m": state}, {"m": config})
        actions, windows = jax.jit(
            lambda p=policy, q=params: act(p, q, observations, rewards, executed)
        )()
        source = executed if remembered == "executed" else actions
        np.testing.assert_allclose(
            windows.actions[5][:3], source[2:5], rtol=1e-6, atol=1e-6
        )


def test_several_targets_and_episodes_in_one_program():
    state, config = trained(decision_transformer, return_target=1.0)
    policy = ReturnConditionedPolicy("m", decision_transformer, config)
    params = Params({"m": state}, {"m": config})
    observations, rewards, executed = history(5)
    traces = []

    @jax.jit
    def run(tasks):
        traces.append(1)
        return jax.vmap(
            lambda task: act(policy, params, observations, rewards, executed, task)[0]
        )(tasks)

    tasks = jnp.array([1.0, 4.0, 9.0])
    actions = run(tasks)
    run(2 * tasks)
    assert len(traces) == 1
    alone, _ = jax.jit(lambda: act(policy, params, observations, rewards, executed))()
    np.testing.assert_allclose(actions[0], alone, rtol=1e-4, atol=1e-6)
    assert not np.allclose(actions[0], actions[2], atol=1e-4)


def test_unseen_timesteps():
    observations, rewards, executed = history(11)
    found = {}
    for rule in ("last", "untrained"):
        state, config = trained(
            decision_transformer, unseen_timesteps=rule, return_target=1.0
        )
        policy = ReturnConditionedPolicy("m", decision_transformer, config)
        params = Params({"m": state}, {"m": config})
        _, windows = jax.jit(
            lambda p=policy, q=params: act(p, q, observations, rewards, executed)
        )()
        found[rule] = np.asarray(windows.timesteps[-1])
    np.testing.assert_array_equal(found["last"], [7, 7, 7, 7])
    np.testing.assert_array_equal(found["untrained"], [7, 8, 9, 10])


@pytest.mark.parametrize("name", sequence.RECIPES)
@pytest.mark.parametrize("preset", ["paper", "small", "demo"])
def test_recipes_fit_together(name, preset):
    recipe = recipes.build(name, SPEC, preset)
    names = [stage.name for stage in recipe.stages]
    for i, stage in enumerate(recipe.stages):
        assert set(stage.reads) <= set(names[:i])
        if hasattr(stage.algorithm, "validate"):
            stage.algorithm.validate(stage.config)
    assert (recipe.improve is not None) == name.endswith("_ag")
    configs = {s.name: s.config for s in recipe.stages}
    recipe.policy(configs)
    for stage in recipe.stages:
        if "critic" in stage.reads:
            assert stage.config.critic == configs["critic"]


def test_rivals_share_one_critic():
    for name in ("reinformer_ag", "reinformer_pg", "reinformer_awac"):
        first, other = (
            next(
                s for s in recipes.build(n, SPEC, "small").stages if s.name == "critic"
            )
            for n in ("dt_ag", name)
        )
        assert (first.config, first.num_steps) == (other.config, other.num_steps)


def test_normalised_steps_divide_the_critic_by_its_median_gradient():
    recipe = recipes.build("dt_ag", SPEC, "demo")
    data = recipe.stages[1].prepare(dataset(), recipe.stages[1].config, {})
    critic_config = recipe.stages[1].config

    @jax.jit
    def run():
        critic = recipe.stages[1].algorithm.init(
            jax.random.PRNGKey(0), data, critic_config, {}
        )
        stage = recipe.stages[2]
        state = stage.algorithm.init(jax.random.PRNGKey(0), data, stage.config, {})
        state, _ = stage.algorithm.update(
            state, data.rows, stage.config, {"critic": critic}
        )
        params = Params(
            {"critic": critic, "gradient_norm": state},
            {"critic": critic_config, "gradient_norm": stage.config},
            recipe.improve.config,
        )
        q = recipe.q_function(params)
        rows = data.rows
        gradients = jax.vmap(jax.grad(q, 1))(rows.observations, rows.actions)
        return jnp.median(jnp.linalg.norm(gradients, axis=-1)), state.norm

    median, norm = run()
    assert float(median) == pytest.approx(1.0, rel=1e-4)
    assert float(norm) != 1.0


def test_missing_return_target():
    spec = EnvSpec("Budget-v0", 2, (0.0,), (1.0,), 10, domain="budget")
    config = recipes.build("decision_transformer", spec, "demo").stages[0].config
    with pytest.raises(UserError, match=r"--config\.return_target"):
        decision_transformer.validate(config)
    decision_transformer.validate(dataclasses.replace(config, return_target=3.0))
    assert sequence.return_target(SPEC) == 280.0


def test_transforms_belong_to_the_data():
    state, _ = trained(decision_transformer)
    assert isinstance(state.normalizer, Normalizer)
    assert isinstance(state.action_box, ActionBox)
    statistics = sequence.prepare_trajectories(
        dataset(), decision_transformer.Config(**SIZES), {}
    ).statistics
    assert isinstance(statistics, Statistics)
    np.testing.assert_allclose(
        statistics.observation_std, dataset().observations.std(0) + 1e-6, rtol=1e-5
    )


def test_several_return_targets_share_one_training():
    recipe = recipes.build("decision_transformer", SPEC, "demo")
    (job,) = settings.expand(recipe, {"return_target": (0.5, 1.0, 2.0)})
    assert settings.stage_slots(job, "decision_transformer", [0, 1]).num_slots == 2
    assert settings.stage_slots(job, "improve", [0, 1]).num_slots == 6
    targets = [s.of("decision_transformer")["return_target"] for s in job.settings]
    assert targets == [0.5, 1.0, 2.0]
    # As a setting a target does what it does as a task.
    state, config = trained(decision_transformer, return_target=9.0)
    policy = ReturnConditionedPolicy("m", decision_transformer, config)
    asked = dataclasses.replace(config, return_target=1.0)
    key = jax.random.key(0)
    carries = [
        policy.init(Params({"m": state}, {"m": c}), task, key)
        for c, task in ((asked, None), (config, 1.0))
    ]
    assert carries[0].target == carries[1].target


def test_critics_settings_reach_the_stages_that_read_it():
    for name, reader in (("reinformer_pg", "reinformer"), ("dt_ag", "gradient_norm")):
        recipe = recipes.build(name, SPEC, "demo")
        changed = {"critic.hidden_dims": ((8, 8),), "num_steps": (7,)}
        (job,) = settings.expand(recipe, changed)
        stages = {stage.name: stage for stage in job.recipe.stages}
        assert stages[reader].config.critic == stages["critic"].config
        assert stages["critic"].config.hidden_dims == (8, 8)
        assert stages["critic"].num_steps == 7
        if reader == "gradient_norm":  # one measurement, whatever the training
            assert stages[reader].num_steps == 1
