"""ASPlanner's studies, at a size that only shows that they work."""

import csv
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.asp import common
from experiments.asp.common import plan_statistics, summary
from offjax.datasets.dataset import Dataset
from offjax.datasets.normalize import ActionBox
from offjax.types import Params


def test_summary_is_mean_std_and_an_interval_around_the_iqm():
    mean, iqm = summary(np.array([0.0, 10.0, 20.0, 30.0, 100.0]))
    assert mean == "32.0 ± 35.4"  # population deviation, by hand
    assert iqm.startswith("20.0 [")
    assert summary(np.array([1.0, 2.0])) == summary(np.array([1.0, 2.0]))


def test_plans_are_compared_with_what_was_recorded_and_between_seeds(monkeypatch):
    """Two seeds that are 1 and 3 too high, the second also by 2 more each step."""
    rows = np.arange(12, dtype=np.float32)[:, None]
    timeouts = np.isin(np.arange(12), (6, 11))
    dataset = Dataset.from_arrays(
        rows, 10 * rows, rows[:, 0], np.zeros(12, bool), timeouts, id="test/two-v0"
    )

    def plan(state, observation, time, config):
        steps = jnp.arange(3.0)
        first = jnp.where(observation[0] < 7, 0, 7)  # of the episode
        now = 10 * (first + time + steps)
        return (now + state.shift + state.slope * steps)[:, None]

    monkeypatch.setattr(common.asp, "plan", plan)

    class State(NamedTuple):
        shift: Any
        slope: Any
        action_box: Any

    box = ActionBox(np.full((2, 1), -4.0), np.full((2, 1), 6.0))  # half of it is 5
    state = State(np.array([1.0, 3.0]), np.array([0.0, 2.0]), box)
    stage = SimpleNamespace(config=SimpleNamespace(k=3))
    trainer = SimpleNamespace(
        evaluator=SimpleNamespace(
            acting_slots=lambda: (None, Params({"asp": state}, {"asp": ()}))
        ),
        job=SimpleNamespace(recipe=SimpleNamespace(stages=(stage,))),
    )
    found = plan_statistics(SimpleNamespace(trainer=trainer), dataset, num=50)
    # Errors 1 and 3 at the first step, 1 and 7 at the third, in units of 5.
    assert found.first_error == pytest.approx(np.sqrt((1 + 9) / 2) / 5, rel=1e-4)
    assert found.last_error == pytest.approx(np.sqrt((1 + 49) / 2) / 5, rel=1e-4)
    # Two seeds that are d apart have the variance d²/2: 2, 4 and 6 apart.
    spread = np.sqrt((4 + 16 + 36) / 2 / 3) / 5
    assert found.spread == pytest.approx(spread, rel=1e-4)


def test_the_window_study_writes_a_row_for_every_method_and_window(tmp_path):
    out = tmp_path / "table.csv"
    command = [
        sys.executable, "-m", "experiments.asp.windows",
        "--datasets=offjax/budget/t10-smooth-v0", "--windows=2,10", "--num_steps=10",
        "--num_seeds=2", "--eval_episodes=2", f"--runs_dir={tmp_path}/runs",
        f"--data_dir={tmp_path}/data", f"--out={out}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with out.open() as lines:
        table = list(csv.DictReader(lines))
    rows = [(r["method"], r["k"]) for r in table]
    assert rows == [("bc", ""), ("percent_bc", ""), ("asp", "2"), ("asp", "10")]
    measured = [r["open-loop error"] != "" for r in table]
    assert measured == [False, False, True, True]
