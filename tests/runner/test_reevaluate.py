"""Re-evaluation of a finished run: operators, grids, borrowed critics."""

import csv

import numpy as np
import pytest

from offjax.errors import UserError
from offjax.runner import reevaluate as module


@pytest.fixture
def runs(tiny_runs):
    return tiny_runs


@pytest.fixture(autouse=True)
def offline(budget_dataset, monkeypatch):
    monkeypatch.setattr(module, "load_dataset", lambda *_: budget_dataset)


def scores(path):
    with (path / "scores.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_a_critic_of_another_run_serves_an_operator(runs):
    grid = {"improve.step_size": (1e-3, 3e-3)}
    arguments = dict(
        improve="action_gradient", critic_run=str(runs["iql"]), grid=grid, episodes=3
    )
    before = scores(runs["bc"])
    results = list(module.reevaluate(runs["bc"], **arguments))
    variants = [variant for variant, _, _ in results]
    assert len(set(variants)) == 2
    assert all("improve=action_gradient,critic=iql" in v for v in variants)
    assert all(s.shape == (2,) and np.isfinite(s).all() for _, s, _ in results)
    after = scores(runs["bc"])
    assert after[: len(before)] == before
    assert len(after) == len(before) + 4
    again = list(module.reevaluate(runs["bc"], **arguments))
    assert scores(runs["bc"]) == after  # rows are replaced, not repeated
    np.testing.assert_array_equal(again[0][1], results[0][1])


def test_zero_steps_of_action_gradient_are_the_policy_itself(runs):
    (result,) = module.reevaluate(
        runs["bc"],
        improve="action_gradient",
        critic_run=str(runs["iql"]),
        grid={"improve.ascent_steps": (0,)},
        episodes=2,
    )
    own = [
        float(r["score"]) for r in scores(runs["bc"]) if "improve" not in r["variant"]
    ]
    np.testing.assert_allclose(result[1], own, rtol=1e-4)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"improve": "best_of_n"}, "--critic_run"),
        ({"grid": {"improve.n": (5,)}}, "--improve"),
        ({"improve": "nothing"}, "best_of_n"),
    ],
)
def test_what_cannot_be_evaluated_is_said(runs, arguments, words):
    with pytest.raises(UserError, match=words):
        list(module.reevaluate(runs["bc"], **arguments))


def test_grids_of_the_operator_and_of_the_ensemble_are_one_batch(runs):
    path = runs["cfpi_ensemble"]
    grid = {"log_tau": (0.0, 3.0), "active_size": (1.0, 10.0)}
    results = list(module.reevaluate(path, grid=grid, episodes=2))
    assert [variant.split("batch_size=8,")[1] for variant, _, _ in results] == [
        f"log_tau={tau},active_size={size}" for tau in (0, 3) for size in (1, 10)
    ]
    returns = np.array([r for _, _, r in results])
    assert np.isfinite(returns).all()
    assert not np.allclose(returns[0], returns[2])
    # All ten members are what the run itself acts with.
    alone = {"log_tau": (3.0,)}
    ((_, _, whole),) = module.reevaluate(path, grid=alone, episodes=2)
    np.testing.assert_allclose(whole, returns[3], rtol=1e-4)
    assert not np.allclose(whole, returns[2])


def test_a_number_of_candidates_is_a_mask_of_the_largest(runs):
    def evaluate(*n):
        return list(
            module.reevaluate(
                runs["cfpi_ensemble"], improve="best_of_n", grid={"n": n}, episodes=2
            )
        )

    both = evaluate(1, 6)
    ((_, _, one),) = evaluate(1)
    assert "improve=best_of_n" in both[0][0] and both[0][0].endswith(",n=1")
    np.testing.assert_allclose(both[0][2], one, rtol=1e-4)
    assert not np.allclose(both[1][2], one)


@pytest.mark.parametrize("name", ["sarsa.lr", "num_steps", "log_tua"])
def test_a_grid_sets_only_what_acting_reads(runs, name):
    with pytest.raises(UserError, match="log_tau"):
        list(module.reevaluate(runs["cfpi_ensemble"], grid={name: (1.0, 2.0)}))
