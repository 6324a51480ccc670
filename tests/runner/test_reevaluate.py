"""Re-evaluation of a finished run: operators, grids, borrowed critics."""

import csv
import json
import shutil

import numpy as np
import pytest

from offjax.errors import UserError
from offjax.leaderboard import store
from offjax.runner import reevaluate as module
from offjax.runner.evaluator import Evaluator


@pytest.fixture
def runs(tiny_runs):
    return tiny_runs


@pytest.fixture(autouse=True)
def where_data_lie(stored_budget_dataset, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(stored_budget_dataset))


def scores(path):
    with (path / "scores.csv").open() as lines:
        return list(csv.DictReader(lines))


def own(path):
    """The bytes of what the run recorded."""
    names = ("config.json", "run.json", "scores.csv", "episodes.csv", "metrics.csv")
    return {name: (path / name).read_bytes() for name in names}


def evaluations(path):
    return {p.name: p for p in (path / "evaluations").glob("*")}


def shown(path):
    """Variant → number of episodes and scores on the leaderboard."""
    (run,) = store.read([path]).runs
    found = {}
    for curve in run.curves:
        found.setdefault((curve.variant, curve.episodes), []).append(curve.scores[-1])
    return found


def test_a_critic_of_another_run_serves_an_operator(runs):
    grid = {"improve.step_size": (1e-3, 3e-3)}
    arguments = dict(
        improve="action_gradient", critic_run=str(runs["iql"]), grid=grid, episodes=3
    )
    before, recorded = own(runs["bc"]), shown(runs["bc"])
    others = set(evaluations(runs["bc"]))
    results = list(module.reevaluate(runs["bc"], **arguments))
    variants = [variant for variant, _, _ in results]
    assert len(set(variants)) == 2
    assert all("improve=action_gradient,critic=iql" in v for v in variants)
    assert all(s.shape == (2,) and np.isfinite(s).all() for _, s, _ in results)
    assert own(runs["bc"]) == before
    (name,) = set(evaluations(runs["bc"])) - others
    folder = evaluations(runs["bc"])[name]
    assert name.startswith("3-episodes-set0-")
    facts = json.loads((folder / "evaluation.json").read_text())
    assert facts["improve"] == "action_gradient" and facts["variants"] == variants
    assert facts["critic_run"] == runs["iql"].name
    assert (
        len((evaluations(runs["bc"])[name] / "episodes.csv").open().readlines()) == 13
    )
    added = {(v, 3): pytest.approx(list(s), rel=1e-4) for v, s, _ in results}
    assert shown(runs["bc"]) == recorded | added
    again = list(module.reevaluate(runs["bc"], **arguments))
    assert set(evaluations(runs["bc"])) == {
        *others,
        name,
    }  # repeated, not recorded twice
    np.testing.assert_array_equal(again[0][1], results[0][1])


def test_further_episodes_of_the_run_itself_do_not_replace_its_own(runs):
    path = runs["iql"]
    before, recorded = own(path), shown(path)
    ((variant, _, _),) = module.reevaluate(path, episodes=1)
    assert own(path) == before and shown(path) == recorded
    ((_, _, _),) = module.reevaluate(path, episodes=1, eval_seed=7)
    assert sorted(n[:15] for n in evaluations(path)) == [
        "1-episodes-set0",
        "1-episodes-set7",
    ]
    for folder in evaluations(path).values():
        assert [row["variant"] for row in scores(folder)] == [variant] * 2
        assert [row["episodes"] for row in scores(folder)] == ["1"] * 2


def test_a_film_that_fails_loses_nothing(runs, tmp_path, monkeypatch):
    path = tmp_path / "runs" / "cfpi_ensemble" / "a" / "b"
    shutil.copytree(runs["cfpi_ensemble"], path)
    (tmp_path / "runs" / "stages").symlink_to(
        runs["cfpi_ensemble"].parents[3] / "stages"
    )
    before = own(path)

    def film(*_):
        raise UserError("no video can be written")

    monkeypatch.setattr(Evaluator, "film", film)
    done = []
    with pytest.raises(UserError, match="no video"):
        for variant, _, _ in module.reevaluate(
            path, grid={"log_tau": (0.0, 1.0)}, episodes=2, videos=1
        ):
            done.append(variant)
    assert len(done) == 2 and own(path) == before
    assert {variant for variant, _ in shown(path)} > set(done)


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
