"""Cloning recipes: which data, and acting with what was learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from offjax.datasets import convert
from offjax.methods import bc
from offjax.types import Model, Params


def without_outliers(actions):
    """A budget's shares, the largest thousandth of them cut."""
    most = np.quantile(actions, 0.999).astype(np.float32)
    assert 0 < (actions > most).mean() < 0.02
    return np.minimum(actions, most)


def test_percent_bc_clones_the_best_episodes_only(budget_dataset):
    (stage,) = bc.percent_bc(budget_dataset.spec, "demo").stages
    blank = dataclasses.replace(stage.config, actor_lr=None)
    data = stage.view.arrays(budget_dataset, blank, {})
    returns = budget_dataset.rewards.reshape(60, 10).sum(1)
    best = np.sort(np.argsort(returns)[-6:])
    expected = budget_dataset.actions.reshape(60, 10, 1)[best].reshape(60, 1)
    np.testing.assert_array_equal(data.rows.actions, without_outliers(expected))
    # It normalizes by what it clones.
    np.testing.assert_allclose(data.statistics.action_low, expected.min(0))
    (stage,) = bc.recipe(budget_dataset.spec, "demo").stages
    everything = stage.view.arrays(budget_dataset, stage.config, {})
    whole = without_outliers(budget_dataset.actions)
    np.testing.assert_array_equal(everything.rows.actions, whole)


def test_the_policy_acts_with_the_action_that_was_recorded_there(budget_dataset):
    """Trained on a = 0.2 + 0.5·left + 0.1·last, the mode says so."""
    recipe = bc.recipe(budget_dataset.spec, "demo")
    (stage,) = recipe.stages
    settings = dataclasses.replace(
        stage.config,
        head="deterministic",
        hidden_dims=(32,),
        actor_lr=1e-2,
        batch_size=64,
    )
    observations = budget_dataset.observations
    actions = 0.2 + 0.5 * observations[:, 1:2] + 0.1 * observations[:, 2:3]
    dataset = dataclasses.replace(budget_dataset, actions=actions)
    data = jax.tree.map(jnp.asarray, stage.view.arrays(dataset, settings, {}))

    @jax.jit
    def train(state):
        def step(i, state):
            key = jax.random.fold_in(state.key, i)
            batch = stage.view.sample(data, key, settings)
            return bc.update(state, batch, settings, {})[0]

        return jax.lax.fori_loop(0, 1500, step, state)

    state = train(bc.init(jax.random.PRNGKey(0), data, settings, {}))
    params = Params({"bc": Model(bc.METHOD, settings, state)})
    actor = recipe.actor(recipe)

    def act(observation):
        carry = actor.begin(params, None, None)
        return actor.act(params, carry, observation, 0.0, None)[0].mode()

    found = jax.jit(jax.vmap(act))(observations[:50])
    np.testing.assert_allclose(found, actions[:50], atol=0.02)


def test_sampling_is_uniform_and_keeps_rows_together(budget_dataset):
    (stage,) = bc.recipe(budget_dataset.spec, "demo").stages
    settings = dataclasses.replace(stage.config, batch_size=6000)
    data = jax.tree.map(jnp.asarray, stage.view.arrays(budget_dataset, settings, {}))
    numbered = data._replace(
        rows=data.rows._replace(rewards=jnp.arange(600, dtype=jnp.float32))
    )
    batch = stage.view.sample(numbered, jax.random.PRNGKey(0), settings)
    rows = np.asarray(batch.rewards).astype(int)
    whole = without_outliers(budget_dataset.actions)
    np.testing.assert_array_equal(batch.actions, whole[rows])
    counts = np.bincount(rows, minlength=600)
    assert counts.min() > 0 and 0.7 < counts.var() / counts.mean() < 1.3
    assert len(convert.to_transitions(budget_dataset).rewards) == 600
