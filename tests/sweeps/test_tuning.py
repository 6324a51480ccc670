"""Searches, and the score after k evaluations, against hand and brute force."""

import itertools
import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from offjax.errors import UserError
from offjax.sweeps import tuning
from offjax.sweeps.tuning import Trial

GRID = {"lr": (1e-3, 3e-4), "width": (16, 32, 64)}


def test_a_grid_is_every_combination_once():
    points = tuning.candidates(GRID, "grid", 0, 0)
    assert len(points) == 6
    assert points[0] == {"lr": 1e-3, "width": 16}
    assert points[-1] == {"lr": 3e-4, "width": 64}


def test_random_draws_without_replacement_and_by_seed():
    one = tuning.candidates(GRID, "random", 4, seed=1)
    assert len({tuple(p.items()) for p in one}) == 4
    assert one == tuning.candidates(GRID, "random", 4, seed=1)
    others = [tuning.candidates(GRID, "random", 4, seed=s) for s in range(2, 8)]
    assert any(o != one for o in others)


@pytest.mark.parametrize(
    "grid, search, number, match",
    [
        (GRID, "bayes", 0, "search 'bayes'"),
        (GRID, "random", 7, "more than the 6"),
        ({"lr": ()}, "grid", 0, "no values for lr"),
    ],
)
def test_bad_searches_are_told(grid, search, number, match):
    with pytest.raises(UserError, match=match):
        tuning.candidates(grid, search, number, 0)


@pytest.mark.parametrize(
    "trials, steps, eta, expected",
    [
        (9, 9000, 3, [(9, 1000), (3, 3000), (1, 9000)]),
        (8, 800, 2, [(8, 100), (4, 200), (2, 400), (1, 800)]),
        (6, 900, 3, [(6, 300), (2, 900)]),
        (1, 500, 3, [(1, 500)]),
    ],
)
def test_rungs(trials, steps, eta, expected):
    assert tuning.rungs(trials, steps, eta) == expected


def test_survivors_are_the_best_and_nan_never_is():
    trials = [Trial({"x": i}, 0, s) for i, s in enumerate([3.0, float("nan"), 5, 4])]
    assert tuning.survivors(trials, 2) == [{"x": 2}, {"x": 3}]
    assert tuning.best(trials).point == {"x": 2}


def test_the_best_is_one_of_the_longest_trained():
    trials = [Trial({"x": 0}, 100, 9.0), Trial({"x": 1}, 300, 5.0)]
    assert tuning.best(trials).point == {"x": 1}


def test_expected_best_is_the_mean_over_all_draws():
    scores = np.random.default_rng(0).normal(size=6).tolist()
    for k in range(1, 7):
        draws = [max(c) for c in itertools.combinations(scores, k)]
        assert tuning.expected_best(scores, k) == pytest.approx(np.mean(draws))
    with pytest.raises(UserError, match="k = 7"):
        tuning.expected_best(scores, 7)


def test_scores_are_those_of_the_last_evaluation(tmp_path):
    rows = [
        "method,variant,dataset,seed,step,episodes,return_mean,return_std,score",
        "bc,a,d,0,100,3,1,0,10",
        "bc,a,d,0,200,3,1,0,30",
        "bc,a,d,1,200,3,1,0,50",
        "bc,b,d,0,200,3,1,0,7",
    ]
    (tmp_path / "scores.csv").write_text("\n".join(rows) + "\n")
    assert tuning.scores(tmp_path) == {"a": 40.0, "b": 7.0}


def test_records_of_commands_side_by_side_are_all_kept(tmp_path, monkeypatch):
    path = tmp_path / "tuning" / "table" / "tuning.json"
    trials = [Trial({"lr": 1.0}, 10, 2.0), Trial({"lr": 2.0}, 20, 3.0),
              Trial({"lr": 3.0}, 20, 1.0)]  # fmt: skip

    def slowly(path, read=tuning.read_json):
        content = read(path)
        time.sleep(0.05)
        return content

    def record(method):
        tuning.record(path, "data", method, trials, 4.0, search="grid")

    record("first")
    monkeypatch.setattr(tuning, "read_json", slowly)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(record, ["a", "b", "c", "d"]))
    content = json.loads(path.read_text())
    assert sorted(content["data"]) == ["a", "b", "c", "d", "first"]
    assert content["data"]["a"] == {
        "search": "grid",
        "evaluations": 3,
        "trials": [
            {"point": {"lr": 1.0}, "num_steps": 10, "score": 2.0},
            {"point": {"lr": 2.0}, "num_steps": 20, "score": 3.0},
            {"point": {"lr": 3.0}, "num_steps": 20, "score": 1.0},
        ],
        "chosen": {"lr": 2.0},
        "final_score": 4.0,
        "expected_best": [2.0, 3.0],  # of the scores 3 and 1
    }
