"""Slices of the data against loops over episodes, presets, and acting."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.datasets.dataset import Dataset
from offjax.datasets.slices import SliceView
from offjax.envs import budget, maze2d
from offjax.errors import UserError
from offjax.methods import build, tdmpc2
from offjax.runner.run import recipe, train


def uneven(with_next, lengths=(4, 7, 2, 5)):
    """Episodes whose observation is the row's number; the second ends the MDP."""
    ends = np.cumsum(lengths)
    numbers = np.arange(ends[-1], dtype=np.float32)[:, None]
    terminals = np.zeros(ends[-1], bool)
    terminals[ends[1] - 1] = True
    timeouts = np.zeros(ends[-1], bool)
    timeouts[ends - 1] = ~terminals[ends - 1]
    return Dataset.from_arrays(
        numbers,
        numbers / 100,
        numbers[:, 0],
        terminals,
        timeouts,
        numbers + 0.5 if with_next else None,
        id="test/uneven-v0",
    )


@pytest.mark.parametrize(
    "with_next, starts",
    [(True, [0, 1, 4, 5, 6, 7, 8, 13, 14, 15]), (False, [0, 4, 5, 6, 7, 8, 13, 14])],
)
def test_slices_stay_within_their_episode(with_next, starts):
    config = tdmpc2.Config(horizon=3, batch_size=200)
    view = SliceView(reward_scale=2.0)
    data = view.arrays(uneven(with_next), config, {})
    np.testing.assert_array_equal(data.starts, starts)
    arrays = jax.tree.map(jnp.asarray, data)
    batch = jax.jit(view.sample)(arrays, jax.random.PRNGKey(0), config)
    assert batch.observations.shape == (200, 4, 1)
    first = np.asarray(batch.observations)[:, 0, 0]
    assert set(first) == set(starts)
    steps = first[:, None] + np.arange(3)
    np.testing.assert_array_equal(batch.observations[:, :3, 0], steps)
    np.testing.assert_array_equal(batch.rewards, 2 * steps)
    np.testing.assert_allclose(batch.actions[..., 0], steps / 100, rtol=1e-6)
    np.testing.assert_array_equal(batch.terminals, steps == 10)
    last = steps[:, -1] + 0.5
    if not with_next:  # the next row, and at an end the row itself
        last = np.where(steps[:, -1] == 10, 10, steps[:, -1] + 1)
    np.testing.assert_array_equal(batch.observations[:, 3, 0], last)


def test_episodes_that_are_all_too_short_are_told():
    with pytest.raises(UserError, match="no episode of 9 steps"):
        SliceView().arrays(uneven(True), tdmpc2.Config(horizon=9), {})


def test_the_published_discount():
    found = [tdmpc2.discount(horizon) for horizon in (10, 50, 100, 200, 500, 5000)]
    np.testing.assert_allclose(found, [0.95, 0.95, 0.95, 0.975, 0.99, 0.995])


def test_settings_by_domain_and_preset():
    def of(spec, preset="paper"):
        recipe = build("tdmpc2", spec, preset)
        return recipe.acting["planning"], recipe.config("tdmpc2")

    search, model = of(budget.spec(50))
    assert (model.size, model.episodic, model.batch_size) == ("5M", True, 256)
    assert (search.num_samples, search.num_elites, search.iterations) == (512, 64, 6)
    assert not of(maze2d.spec("umaze"))[1].episodic
    assert of(budget.spec(50), "small")[0].num_samples == 64
    arms = dataclasses.replace(
        budget.spec(50),
        action_low=(0.0,) * 24,
        action_high=(1.0,) * 24,
        domain="adroit",
    )
    assert of(arms)[0].iterations == 8
    (stage,) = build("tdmpc2", budget.spec(50)).stages
    assert stage.view == SliceView(reward_scale=50.0)


@pytest.mark.long
def test_planning_and_the_prior_share_one_trained_model(budget_dataset, tmp_path):
    """Training lowers the loss, and the two act differently."""
    settings = {"num_steps": 40, "batch_size": 8}
    runs = {}
    for method in ("tdmpc2_policy", "tdmpc2"):
        request = recipe(method, "demo", **settings)
        runs[method] = train(
            request,
            budget_dataset,
            num_seeds=2,
            runs_dir=str(tmp_path),
            eval_episodes=2,
            log_every=10,
            quiet=True,
        )
    stages = [run.folder.record["stages"]["tdmpc2"] for run in runs.values()]
    assert stages[0] == stages[1]
    lines = (runs["tdmpc2_policy"].path / "metrics.csv").read_text().splitlines()
    losses = [float(x.split(",")[-1]) for x in lines if "tdmpc2/loss" in x]
    assert losses[-1] < losses[0]
    returns = [(run.path / "episodes.csv").read_text() for run in runs.values()]
    assert returns[0] != returns[1]


@pytest.mark.parametrize("name", ["bc", "bcq", "cql", "iql", "td3_bc", "tdmpc2"])
def test_step_wise_methods_share_one_scaling_of_a_budgets_actions(name, budget_dataset):
    stage = build(name, budget_dataset.spec, "small").stages[-1]
    data = stage.view.arrays(budget_dataset, stage.config, {})
    actions = np.asarray(budget_dataset.actions)
    np.testing.assert_allclose(data.statistics.action_low, actions.min(0))
    most = np.quantile(actions, 0.999, axis=0)
    np.testing.assert_allclose(data.statistics.action_high, most, rtol=1e-6)
    rows = data if name == "tdmpc2" else data.rows
    np.testing.assert_allclose(rows.actions, np.minimum(actions, most), rtol=1e-6)


@pytest.mark.parametrize("name", ["bcq", "cql", "iql", "td3_bc", "awac", "tdmpc2"])
def test_what_learns_values_sees_a_budgets_rewards_as_one_a_step(name, budget_dataset):
    spec = budget_dataset.spec
    stage = build(name, spec, "small").stages[-1]
    data = stage.view.arrays(budget_dataset, stage.config, {})
    rows = data if name == "tdmpc2" else data.rows
    expected = spec.horizon * np.asarray(budget_dataset.rewards)
    np.testing.assert_allclose(rows.rewards, expected, rtol=1e-6)
    if name != "tdmpc2":  # and observations as they are
        assert (data.statistics.observation_mean == 0).all()
        assert (data.statistics.observation_std == 1).all()
