"""The tables' protocol: equal effort, disjoint seeds, cells by hand."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.asp import table1, table2, tuned
from offjax.datasets import minari_io
from offjax.datasets.dataset import Dataset
from offjax.envs import budget, maze2d
from offjax.errors import UserError
from offjax.methods import build
from offjax.runner.records import RunFolder, write_json
from offjax.runner.settings import expand
from offjax.sweeps.protocol import Protocol
from offjax.types import EnvSpec


@pytest.mark.parametrize(
    "table, spec", [(table1, maze2d.spec("umaze")), (table2, budget.spec(50))]
)
def test_every_method_of_a_table_has_six_settings_that_it_knows(table, spec):
    assert set(tuned.METHODS) <= set(table.GRIDS)
    for method, grid in table.GRIDS.items():
        fixed = table.fixed(method, 500, *((0.05,) if table is table1 else ()))
        recipe = build(method, spec, "small")
        jobs = expand(recipe, {"num_steps": (500,), **fixed, **grid})
        variants = [variant for job in jobs for variant in job.variants]
        assert len(set(variants)) == len(variants) == 6


def test_unequal_effort_is_told():
    grids = {"bc": {"actor_lr": (1.0, 2.0)}, "asp": {"lr": (1.0,)}}
    with pytest.raises(UserError, match="different numbers of settings"):
        tuned.check_effort(grids)


@pytest.mark.parametrize(
    "count, noise, expected",
    [
        (1, 0.0, {0: "t50-mixed", 3: "t50-mixed-i3"}),
        (1, 0.1, {1: "t50-mixed-i1-n0.1"}),
        (1000, 0.0, {0: "t50-mixed-r1000", 3: "t50-mixed-i3000-r1000"}),
    ],
)
def test_the_datasets_of_a_table_share_no_instance(count, noise, expected):
    found = {i: table2.dataset_id(50, "mixed", i, count, noise) for i in expected}
    assert found == {i: f"offjax/budget/{name}-v0" for i, name in expected.items()}


@pytest.mark.parametrize(
    "count, noise, expected",
    [(1, 0.0, "mixed"), (1, 0.1, "mixed-n0.1"), (1000, 0.1, "mixed-r1000-n0.1")],
)
def test_a_row_says_of_which_data_it_is(count, noise, expected):
    assert table2.data_kind("mixed", count, noise) == expected


def test_the_groups_of_a_table_name_each_dataset_once():
    found = table1.names(["robots", "locomotion"])
    assert found[:2] == ["offjax/hopper/medium-v0", "offjax/walker2d/medium-v0"]
    assert len(found) == len(set(found)) == 9
    assert table1.names(["robots"], ["my-v0", "my-v0"]) == ["my-v0"]
    with pytest.raises(UserError, match="no group 'maze3d'; known: maze2d, robots"):
        table1.names(["maze3d"])


def test_corl_s_scores_stand_below_as_printed():
    """By hand: corl.csv's rows of maze2d-umaze-v1 and hopper-medium-v2."""
    page = table1.corl(["offjax/maze2d/umaze-v0", "offjax/hopper/medium-v0", "my-v0"])
    lines = page.splitlines()
    assert "|  | maze2d-umaze-v1 | hopper-medium-v2 |" in lines
    assert "| IQL | 42.11 ± 0.58 | 67.53 ± 3.78 |" in lines
    assert table1.corl(["d4rl/pen-human-v1"]).count("pen-human-v1") == 1
    assert table1.corl(["my-v0"]) == ""


def finish(how, job, final, scores, seconds):
    """A finished run of the job, with rows (variant, seed, step, score)."""
    folder = RunFolder.create(how.store(final), job.method, job.dataset, job.hash)
    columns = [(job.method, v, job.dataset, seed, step, 2, 0, 0, score)
               for v, seed, step, score in scores]  # fmt: skip
    folder.append("scores.csv", columns)
    record = {"status": "finished", "config_hash": job.hash, "total_steps": 10}
    write_json(folder.path / "run.json", record | {"duration_seconds": seconds})


def test_the_best_on_tuning_seeds_is_what_is_reported(tmp_path):
    """A run of every setting for tuning, one of the chosen on each dataset."""
    how = Protocol(
        "demo", str(tmp_path / "runs"), str(tmp_path / "data"), "demo", num_seeds=3
    )
    other, *reported = (f"offjax/budget/t10-smooth-i{i}-v0" for i in (3, 1, 2))
    grid, fixed = {"actor_lr": (1e-4, 1e-2)}, {"batch_size": (8,)}

    def measure():
        return tuned.measure(how, "bc", other, reported, grid, fixed, report=True)

    (tuning,) = how.jobs("bc", other, fixed | grid, final=False)
    assert measure() is None  # nothing is finished, and nothing is run
    means = zip(tuning.variants, (3.0, 7.0), strict=True)
    rows = [(v, 1000 + s, 10, mean + s) for v, mean in means for s in range(2)]
    finish(how, tuning, False, rows, 4.0)
    for dataset, start in zip(reported, (10.0, 20.0), strict=True):
        assert measure() is None
        chosen = fixed | {"actor_lr": (1e-2,)}
        (job,) = how.jobs("bc", dataset, chosen, final=True)
        (variant,) = job.variants
        early = [(variant, seed, 5, -1.0) for seed in range(3)]
        last = [(variant, seed, 10, start + seed) for seed in range(3)]
        finish(how, job, True, early + last, 3.0)
    cell = measure()
    np.testing.assert_array_equal(cell.scores, [[10, 11, 12], [20, 21, 22]])
    assert (cell.point, cell.evaluations) == ({"actor_lr": 1e-2}, 2)
    assert cell.seconds == 4 + 3 + 3
    assert cell.seed_steps == 10 * (4 + 3 + 3)
    page = json.loads((tmp_path / "runs/tuning/demo/tuning.json").read_text())
    assert page[other]["bc"]["final_score"] == 16
    assert page[other]["bc"]["expected_best"] == [5.5, 7.5]
    found = tuned.row("bc", cell)
    assert found[0:2] == ("bc", "16.00")
    assert 15 <= float(found[2]) < 16 < float(found[3]) <= 17
    assert found[4:] == ("5.07", 2, 3, 2, "actor_lr=0.01")  # deviation by hand
    table = tuned.markdown("T", ["50"], ["bc", "iql"], {("50", "bc"): cell})
    assert table.splitlines()[2].startswith("| bc | 16.0 [")
    assert "| iql | – |" in table
    assert "10 s in all, 10 seed-steps/s" in table


def test_a_dataset_without_its_environment_is_refused_before_training(tmp_path):
    rows = np.zeros((4, 2), np.float32)
    ends = np.arange(4) == 3
    spec = EnvSpec("Nowhere-v0", 2, (-1.0, -1.0), (1.0, 1.0), 4)
    blind = Dataset.from_arrays(
        rows, rows, rows[:, 0], ends, ends & False, rows, spec=spec, id="mine/blind-v0"
    )
    minari_io.write(blind, {}, tmp_path)
    how = Protocol("demo", str(tmp_path / "runs"), str(tmp_path))
    name, grid = "mine/blind-v0", {"actor_lr": (1e-3,)}
    reason = f"cannot be evaluated on '{name}': .*'Nowhere-v0'.* cannot be made"
    with pytest.raises(UserError, match=reason):
        tuned.measure(how, "bc", name, [name], grid, {})


@pytest.mark.long
def test_the_command_makes_its_table_and_keeps_what_is_finished(tmp_path):
    command = [
        sys.executable, "-m", "experiments.asp.table2", "--methods=bc,tdmpc2",
        "--horizons=10", "--kinds=smooth", "--instances=0", "--num_steps=20",
        "--num_seeds=2", "--tune_seeds=1", "--eval_episodes=1", "--preset=demo",
        f"--runs_dir={tmp_path}/runs", f"--data_dir={tmp_path}/data",
        f"--out={tmp_path}/table",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "table.csv").read_text()
    with (tmp_path / "table.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [(r["T"], r["method"], r["seeds"]) for r in rows] == [
        ("10", "bc", "2"),
        ("10", "tdmpc2", "2"),
    ]
    runs = sorted((tmp_path / "runs").rglob("run.json"))
    assert len(runs) == 4
    subprocess.run([*command, "--report"], capture_output=True, check=True)
    assert (tmp_path / "table.csv").read_text() == first
    assert sorted((tmp_path / "runs").rglob("run.json")) == runs
    # Exported runs, without checkpoints and stages, are as good: a table can go on
    # on another machine.
    (tmp_path / "table.csv").unlink()
    for part in ("", "tuning/asp_table2"):
        export = ["--runs_dir", f"{tmp_path}/runs/{part}"]
        export += ["--export", f"{tmp_path}/exported/{part}"]
        leaderboard = [sys.executable, "-m", "experiments.leaderboard", *export]
        subprocess.run(leaderboard, capture_output=True, check=True)
    moved = [*command, f"--runs_dir={tmp_path}/exported", "--report"]
    subprocess.run(moved, capture_output=True, check=True)
    assert (tmp_path / "table.csv").read_text() == first
