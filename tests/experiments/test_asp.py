"""ASPlanner's studies, at a size that only shows that they work."""

import csv
import subprocess
import sys

import numpy as np

from experiments.asp.common import TUNING_SEED, summary, tune
from offjax.runner.options import Options
from offjax.runner.train import make_jobs


def test_summary_is_mean_std_and_an_interval_around_the_iqm():
    mean, iqm = summary(np.array([0.0, 10.0, 20.0, 30.0, 100.0]))
    assert mean == "32.0 ± 35.4"  # population deviation, by hand
    assert iqm.startswith("20.0 [")
    assert summary(np.array([1.0, 2.0])) == summary(np.array([1.0, 2.0]))


def test_tuning_returns_the_best_setting_and_uses_other_seeds(budget_dataset, tmp_path):
    # A learning rate of 0 leaves the uniform plan (score 0); training does better.
    grid = {"lr": (0.0, 1e-2)}
    overrides = {"num_steps": (60,), "hidden_dims": ((16,),), "batch_size": (32,)}
    options = Options(num_seeds=3, runs_dir=str(tmp_path), eval_episodes=1, quiet=True)
    chosen = tune("asp", budget_dataset, grid, overrides, options, preset="demo")
    assert chosen == {"lr": (1e-2,)}
    (job,) = make_jobs("asp", "demo", budget_dataset, overrides | chosen)
    assert job.recipe.stages[0].config.lr == 1e-2
    (folder,) = (tmp_path / "asp" / "test" / "budget10-v0").iterdir()
    with (folder / "scores.csv").open() as lines:
        seeds = {int(row["seed"]) for row in csv.DictReader(lines)}
    assert seeds == {TUNING_SEED, TUNING_SEED + 1}


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
        rows = [(r["method"], r["k"]) for r in csv.DictReader(lines)]
    assert rows == [("bc", ""), ("percent_bc", ""), ("asp", "2"), ("asp", "10")]
