"""How sequence models act: contexts, histories, targets; and the recipes' stages."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.datasets.normalize import ActionBox, Normalizer
from offjax.datasets.trajectories import Segments, SegmentView
from offjax.errors import UserError
from offjax.improvement import action_gradient
from offjax.methods import (
    build,
    decision_transformer,
    gradient_norm,
    reinformer,
    reinformer_original,
)
from offjax.methods.common import reads_critic
from offjax.methods.decision_transformer import Conditioning
from offjax.methods.sequence import MaxReturnActor, ReturnConditionedActor
from offjax.networks.transformer import Steps
from offjax.runner import settings
from offjax.runner.stages import stage_slots
from offjax.types import EnvSpec, Method, Model, Params, Statistics

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
    """An untrained model with random parameters."""
    config = module.Config(**(SIZES | changes))
    data = SegmentView().arrays(dataset(), config, {})
    state = jax.jit(lambda: module.init(jax.random.PRNGKey(3), data, config, {}))()
    return Model(module.METHOD, config, state)


def asking(model, return_target):
    """What acting with a Decision Transformer reads."""
    return Params({"m": model}, {"conditioning": Conditioning(return_target)})


def act(actor, params, observations, rewards, executed, task=None):
    """Actions of the actor where the environment executes `executed` instead."""

    def step(carry, inputs):
        observation, reward, action = inputs
        distribution, carry = actor.act(
            params, carry, observation, reward, jax.random.key(0)
        )
        return actor.record(carry, action), (distribution.mode(), carry.window)

    carry = actor.begin(params, task, jax.random.key(0))
    return jax.lax.scan(step, carry, (observations, rewards, executed))[1]


def history(steps):
    rng = np.random.default_rng(1)
    return (
        jnp.asarray(rng.normal(size=(steps, 2)), jnp.float32),
        jnp.asarray([0.0, *rng.uniform(size=steps - 1)], jnp.float32),
        jnp.asarray(rng.uniform(-1, 3, size=(steps, 1)), jnp.float32),
    )


def by_hand(model, t, observations, returns, actions):
    """The network's inputs for step t, without any padding."""
    state, config = model.state, model.config
    first = max(0, t - config.context_length + 1)
    steps = slice(first, t + 1)
    unit = np.asarray(state.action_box.to_unit(actions)).copy()
    unit[t] = 0.7  # what stands in the place of the action to come must not matter
    return Steps(
        state.normalizer(observations[steps]),
        jnp.asarray(unit[steps]),
        jnp.asarray(returns[steps]),
        jnp.minimum(jnp.arange(first, t + 1), 7),  # the data's last time step
    )


def test_decision_transformer_sees_the_last_steps_and_the_return_still_asked_for():
    model = trained(decision_transformer, return_scale=2.0)
    actor, params = ReturnConditionedActor("m", "executed"), asking(model, 5.0)
    observations, rewards, executed = history(10)
    actions, _ = jax.jit(lambda: act(actor, params, observations, rewards, executed))()
    returns = (5.0 - np.cumsum(rewards)) / 2.0
    network = decision_transformer.Network(model.config, 1)
    for t in (0, 2, 3, 6, 9):
        steps = by_hand(model, t, observations, returns, executed)
        batched = jax.tree.map(lambda x: x[None], steps)
        expected = network.apply(model.state.network.params, batched)[0, -1]
        expected = model.state.action_box.from_unit(expected)
        np.testing.assert_allclose(actions[t], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["none", "chain", "every"])
def test_reinformer_predicts_returns_and_cuts_the_context_of_actions(rule):
    model = trained(reinformer, adaptive_context=rule)
    state, config = model.state, model.config
    actor = MaxReturnActor("m", "executed", reinformer.predict_return)
    params = Params({"m": model})
    observations, rewards, executed = history(7)
    actions, windows = jax.jit(
        lambda: act(actor, params, observations, rewards, executed)
    )()
    returns = np.zeros(7)
    lengths = []
    for t in range(7):
        steps = by_hand(model, t, observations, returns, executed)
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
        steps = by_hand(model, t, observations, returns, executed)
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
        params = asking(trained(decision_transformer, history=remembered), 1.0)
        actor = ReturnConditionedActor("m", remembered)
        actions, windows = jax.jit(
            lambda p=actor, q=params: act(p, q, observations, rewards, executed)
        )()
        source = executed if remembered == "executed" else actions
        np.testing.assert_allclose(
            windows.actions[5][:3], source[2:5], rtol=1e-6, atol=1e-6
        )


def test_several_targets_and_episodes_in_one_program():
    params = asking(trained(decision_transformer), 1.0)
    actor = ReturnConditionedActor("m", "executed")
    observations, rewards, executed = history(5)
    traces = []

    @jax.jit
    def run(tasks):
        traces.append(1)
        return jax.vmap(
            lambda task: act(actor, params, observations, rewards, executed, task)[0]
        )(tasks)

    tasks = jnp.array([1.0, 4.0, 9.0])
    actions = run(tasks)
    run(2 * tasks)
    assert len(traces) == 1
    alone, _ = jax.jit(lambda: act(actor, params, observations, rewards, executed))()
    np.testing.assert_allclose(actions[0], alone, rtol=1e-4, atol=1e-6)
    assert not np.allclose(actions[0], actions[2], atol=1e-4)


def test_unseen_timesteps():
    observations, rewards, executed = history(11)
    found = {}
    for rule in ("last", "untrained"):
        params = asking(trained(decision_transformer, unseen_timesteps=rule), 1.0)
        actor = ReturnConditionedActor("m", "executed")
        _, windows = jax.jit(
            lambda p=actor, q=params: act(p, q, observations, rewards, executed)
        )()
        found[rule] = np.asarray(windows.timesteps[-1])
    np.testing.assert_array_equal(found["last"], [7, 7, 7, 7])
    np.testing.assert_array_equal(found["untrained"], [7, 8, 9, 10])


NAMES = (
    "decision_transformer",
    "dt_ag",
    "reinformer",
    "reinformer_ag",
    "reinformer_pg",
    "reinformer_awac",
    "reinformer_original",
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("preset", ["paper", "small", "demo"])
def test_recipes_fit_together(name, preset):
    recipe = build(name, SPEC, preset)
    names = [stage.name for stage in recipe.stages]
    for i, stage in enumerate(recipe.stages):
        assert set(stage.reads) <= set(names[:i])
        stage.config.validate()
    for config in recipe.acting.values():
        config.validate()
    assert (recipe.improve is not None) == name.endswith("_ag")
    actor = recipe.actor(recipe)
    assert actor.stage in names
    assert recipe.config(actor.stage).history == actor.history
    if name.startswith("reinformer_") and recipe.improve is None and len(names) > 1:
        assert recipe.stage("reinformer").reads == ("critic",)


def test_rivals_share_one_critic():
    first = build("dt_ag", SPEC, "small").stage("critic")
    for name in ("reinformer_ag", "reinformer_pg", "reinformer_awac"):
        assert build(name, SPEC, "small").stage("critic") == first


def quadratic(steepness):
    """A critic -steepness (a - s)²/2 with its method."""

    def q_value(model, observation, action):
        return -0.5 * steepness * jnp.sum((action - observation[..., :1]) ** 2)

    return Model(Method("toy", 1, None, None, None, q_value), None, None)


def test_the_unit_of_steps_is_the_median_gradient():
    observations = jnp.array([[0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])
    actions = jnp.array([[0.1], [-0.2], [0.7]])
    view = build("dt_ag", SPEC, "demo").stage("critic").view
    data = view.arrays(dataset(), None, {})
    batch = data.rows._replace(observations=observations, actions=actions)
    config = gradient_norm.Config()
    state = gradient_norm.init(jax.random.PRNGKey(0), data, config, {})
    assert state.norm == 1.0
    after, _ = gradient_norm.update(state, batch, config, {"any": quadratic(5.0)})
    assert float(after.norm) == pytest.approx(5.0 * 0.2)  # the median of |a|
    flat, _ = gradient_norm.update(state, batch, config, {"any": quadratic(0.0)})
    assert flat.norm == 1.0


def test_normalized_steps_divide_the_critic_by_its_unit():
    measured = Model(gradient_norm.METHOD, None, gradient_norm.State(
        *[None] * 4, norm=jnp.float32(4.0)
    ))  # fmt: skip
    models = {"critic": quadratic(8.0), "gradient_norm": measured}
    point = jnp.array([1.0, 0.0]), jnp.array([3.0])
    normalized = action_gradient.Config(step_mode="normalized")
    for operator, expected in (
        (normalized, -4.0),
        (action_gradient.Config(), -16.0),
        (None, -16.0),
    ):
        q = reads_critic("critic")(Params(models, {}, operator))
        assert float(q(*point)) == expected
    with pytest.raises(UserError, match="step_mode=raw"):
        reads_critic("critic")(Params({"critic": quadratic(1.0)}, {}, normalized))
    recipe = build("reinformer_ag", SPEC, "demo")
    assert recipe.improve.config.step_mode == "normalized"
    stage = recipe.stage("gradient_norm")
    assert (stage.reads, stage.num_steps, stage.fixed_length) == (("critic",), 1, True)
    assert stage.view == recipe.stage("critic").view


def test_missing_return_target():
    spec = EnvSpec("Budget-v0", 2, (0.0,), (1.0,), 10, domain="budget")
    conditioning = build("decision_transformer", spec, "demo").acting["conditioning"]
    with pytest.raises(UserError, match=r"--config\.return_target"):
        conditioning.validate()
    dataclasses.replace(conditioning, return_target=3.0).validate()
    assert decision_transformer.return_target(SPEC) == 280.0


def test_discounted_returns_only_where_a_view_has_them():
    config = reinformer.Config(**SIZES, discount=0.5)
    data = dataset(episodes=1)
    rewards = np.float64(data.rewards)
    plain = SegmentView().arrays(data, config, {})
    discounted = SegmentView(discounted=True).arrays(data, config, {})
    np.testing.assert_allclose(plain.returns[0], rewards.sum(), rtol=1e-6)
    expected = (rewards * 0.5 ** np.arange(8)).sum()
    np.testing.assert_allclose(discounted.returns[0], expected, rtol=1e-6)
    for name in ("reinformer", "reinformer_original"):
        assert build(name, SPEC).stage(name).view == SegmentView(discounted=True)


def test_transforms_belong_to_the_data():
    state = trained(decision_transformer).state
    assert isinstance(state.normalizer, Normalizer)
    assert isinstance(state.action_box, ActionBox)
    config = decision_transformer.Config(**SIZES)
    statistics = SegmentView().arrays(dataset(), config, {}).statistics
    assert isinstance(statistics, Statistics)
    np.testing.assert_allclose(
        statistics.observation_std, dataset().observations.std(0) + 1e-6, rtol=1e-5
    )


@pytest.mark.parametrize(
    "module", [decision_transformer, reinformer, reinformer_original]
)
def test_updates_read_the_data_through_the_transforms_of_the_state(module):
    model = trained(module, return_scale=4.0, dropout=0.0)
    rng = np.random.default_rng(2)
    raw = Segments(
        rng.normal(size=(3, 4, 2)).astype(np.float32),
        rng.uniform(-1, 3, size=(3, 4, 1)).astype(np.float32),
        rng.uniform(1, 9, size=(3, 4)).astype(np.float32),
        np.tile(np.arange(4, dtype=np.int32), (3, 1)),
        np.float32([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]),
    )
    data = dataset()
    unit = raw._replace(
        observations=(raw.observations - data.observations.mean(0))
        / (data.observations.std(0) + 1e-6),
        actions=(raw.actions - 1.0) / 2.0,  # the box is [-1, 3]
        returns=raw.returns / 4.0,
    )
    plain = model.state.replace(
        normalizer=Normalizer(np.zeros(2, np.float32), np.ones(2, np.float32)),
        action_box=ActionBox(-np.ones(1, np.float32), np.ones(1, np.float32)),
        return_scale=np.float32(1.0),
    )
    update = jax.jit(lambda s, b: module.update(s, b, model.config, {})[1])
    found, expected = update(model.state, raw), update(plain, unit)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_several_return_targets_share_one_training():
    recipe = build("decision_transformer", SPEC, "demo")
    (job,) = settings.expand(recipe, {"return_target": (0.5, 1.0, 2.0)})
    assert stage_slots(job, "decision_transformer", [0, 1]).num_slots == 2
    assert stage_slots(job, "improve", [0, 1]).num_slots == 6
    targets = [s.of("conditioning")["return_target"] for s in job.settings]
    assert targets == [0.5, 1.0, 2.0]
    # As a setting a target does what it does as a task.
    model, key = trained(decision_transformer), jax.random.key(0)
    actor = ReturnConditionedActor("m", "executed")
    as_setting = actor.begin(asking(model, 1.0), None, key)
    as_task = actor.begin(asking(model, 9.0), 1.0, key)
    assert as_setting.target == as_task.target


def test_one_measurement_whatever_the_training():
    recipe = build("dt_ag", SPEC, "demo")
    changed = {"critic.hidden_dims": ((8, 8),), "num_steps": (7,)}
    (job,) = settings.expand(recipe, changed)
    assert job.recipe.config("critic").hidden_dims == (8, 8)
    assert job.recipe.stage("critic").num_steps == 7
    assert job.recipe.stage("gradient_norm").num_steps == 1
