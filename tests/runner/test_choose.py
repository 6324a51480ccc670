"""Ranking a run's settings from its data alone."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from offjax.cli import fqe as command
from offjax.errors import UserError
from offjax.evaluation import fqe
from offjax.runner import choose
from offjax.runner.choose import Choice

CONFIG = fqe.Config(hidden_dims=(8,), batch_size=8, discount=0.5)


@pytest.fixture(autouse=True)
def where_data_lie(stored_budget_dataset, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(stored_budget_dataset))


def test_every_setting_and_seed_has_a_value_and_its_score(
    tiny_runs, budget_dataset, monkeypatch
):
    seen = {}

    def evaluate(problem, config, num_steps, seed):
        seen["problem"] = problem
        values = np.arange(4.0)[:, None] * np.ones((4, 3))
        return values * 10 * (1 - 0.5) / seen_spread

    path = tiny_runs["cfpi_ensemble"]
    data = budget_dataset
    monkeypatch.setattr(choose.fqe, "evaluate", evaluate)
    seen_spread = float(np.std(data.rewards))
    choices = choose.estimate(path, grid={"log_tau": (0.5, 2.0)}, config=CONFIG)
    # Settings × seeds in order; the better one first, in units of the rewards.
    assert [c.variant.endswith("log_tau=2") for c in choices] == [True, False]
    np.testing.assert_allclose(choices[0].values, [2.0, 3.0], rtol=1e-4)
    np.testing.assert_allclose(choices[1].values, [0.0, 1.0], atol=1e-6)
    with (path / "scores.csv").open() as lines:
        own = [float(row["score"]) for row in list(csv.DictReader(lines))[:2]]
    np.testing.assert_array_equal(choices[1].scores, own)
    problem = seen["problem"]
    assert problem.next_actions.shape == (4, 600, data.actions.shape[-1])
    low, high = data.spec.action_low, data.spec.action_high
    assert (problem.next_actions >= low).all() and (problem.next_actions <= high).all()
    np.testing.assert_array_equal(
        problem.first_observations, data.observations[data.episode_starts]
    )


def test_fewer_rows_are_a_random_part(tiny_runs):
    choices = choose.estimate(tiny_runs["bc"], config=CONFIG, num_steps=2, max_rows=50)
    assert len(choices) == 1 and np.isfinite(choices[0].values).all()


def test_lines_say_the_choice_and_how_far_to_trust_it(tmp_path):
    choices = [
        Choice("a", np.array([3.0, 2.0]), np.array([30.0, 10.0])),
        Choice("b", np.array([0.0, 1.0]), np.array([0.0, 20.0])),
    ]
    text = command.lines(choices)
    assert text[0] == "a  value 2.5 [2, 3]  score 20.00 [10.00, 30.00]"
    # Ranks 4 3 1 2 and 4 2 1 3: 1 − 6·(0 + 1 + 0 + 1)/(4·15).
    assert text[-2:] == ["rank_correlation=0.80", "choice=a"]
    unknown = [c._replace(scores=np.full(2, np.nan)) for c in choices]
    assert command.lines(unknown)[-2].startswith("b  value 0.5")
    command.write_csv(tmp_path / "x" / "values.csv", choices, [7, 8])
    with (tmp_path / "x" / "values.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert rows[3] == {"variant": "b", "seed": "8", "value": "1", "score": "20"}


def test_an_unknown_setting_is_refused(tiny_runs):
    with pytest.raises(UserError, match="log_tau"):
        choose.estimate(tiny_runs["cfpi_ensemble"], grid={"tau": (1.0,)}, config=CONFIG)
