"""ASPlanner's studies, at a size that only shows that they work."""

import csv

import numpy as np
import pytest

from experiments.asp.common import compare, summary


def test_summary_is_mean_std_and_an_interval_around_the_iqm():
    mean, iqm = summary(np.array([0.0, 10.0, 20.0, 30.0, 100.0]))
    assert mean == "32.0 ± 35.4"  # population deviation, by hand
    assert iqm.startswith("20.0 [")
    assert summary(np.array([1.0, 2.0])) == summary(np.array([1.0, 2.0]))


def test_plans_are_compared_with_what_was_recorded_and_between_seeds():
    """Two seeds that are 1 and 3 too high, the second also by 2 more each step."""
    recorded = np.random.default_rng(0).normal(size=(50, 3, 1))
    steps = np.arange(3.0)[:, None]
    found = compare(np.stack([recorded + 1, recorded + 3 + 2 * steps]), recorded)
    # Errors 1 and 3 at the first step, 1 and 7 at the third.
    assert found.first_error == pytest.approx(np.sqrt((1 + 9) / 2))
    assert found.last_error == pytest.approx(np.sqrt((1 + 49) / 2))
    # Two seeds that are d apart have the variance d²/2: 2, 4 and 6 apart.
    assert found.spread == pytest.approx(np.sqrt((4 + 16 + 36) / 2 / 3))


def test_the_window_study_writes_a_row_for_every_method_and_window(
    experiment, tmp_path
):
    out = tmp_path / "table.csv"
    done = experiment(
        "asp.windows",
        "--datasets=offjax/budget/t10-smooth-v0", "--windows=2,10", "--num_steps=10",
        "--num_seeds=2", "--eval_episodes=2", f"--runs_dir={tmp_path}/runs",
        f"--data_dir={tmp_path}/data", f"--out={out}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with out.open() as lines:
        table = list(csv.DictReader(lines))
    rows = [(r["method"], r["k"]) for r in table]
    assert rows == [("bc", ""), ("percent_bc", ""), ("asp", "2"), ("asp", "10")]
    measured = [r["open-loop error"] != "" for r in table]
    assert measured == [False, False, True, True]
    # Hardly trained plans are near the middle of the box, where no share is.
    assert all(0.1 < float(r["first error"]) < 2 for r in table[2:])
