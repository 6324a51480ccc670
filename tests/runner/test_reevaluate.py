"""Re-evaluation of a finished run: operators, grids, borrowed critics."""

import csv

import numpy as np
import pytest

from offjax.errors import UserError
from offjax.runner import reevaluate as module
from offjax.runner.options import Options
from offjax.runner.train import Trainer, make_jobs

TINY = {"num_steps": (4,), "hidden_dims": ((8,),), "batch_size": (8,)}


@pytest.fixture(scope="module")
def runs(budget_dataset, tmp_path_factory):
    """One run without a critic and one that is only a critic with a policy."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for method in ("bc", "iql"):
        job = make_jobs(method, "demo", budget_dataset, TINY)[0]
        options = Options(
            num_seeds=2, runs_dir=str(folder), eval_episodes=2, quiet=True
        )
        trainer = Trainer(job, method, "demo", budget_dataset, options)
        found[method] = trainer.run().path
    return found


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
