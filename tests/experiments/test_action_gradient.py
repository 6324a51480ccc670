"""Surfaces of step size and number of steps, the choice among them, the tables."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from experiments.action_gradient import surface, tables
from offjax.errors import UserError
from offjax.methods import METHODS, build
from offjax.runner import reevaluate as reevaluation
from offjax.runner.options import Options
from offjax.runner.settings import known_names
from offjax.runner.train import train
from offjax.runner.training import Training, make_jobs
from offjax.types import EnvSpec


@pytest.fixture(scope="module")
def run(budget_dataset, tmp_path_factory):
    """A tiny run that acts with Action Gradient, in normalized steps."""
    method = "bc+iql+action_gradient"
    small = {"num_steps": (4,), "hidden_dims": ((8, 8),), "batch_size": (8,)}
    normalized = {"step_mode": ("normalized",)}
    job = make_jobs(method, "demo", budget_dataset, small | normalized)[0]
    options = Options(
        num_seeds=2,
        seed=3,
        runs_dir=str(tmp_path_factory.mktemp("runs")),
        eval_episodes=2,
        quiet=True,
    )
    return train(Training.of(job, method, "demo", budget_dataset, options)).path


@pytest.fixture(autouse=True)
def where_data_lie(stored_budget_dataset, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(stored_budget_dataset))


def test_surface_has_the_scores_of_its_settings_one_by_one(run, tmp_path):
    before = (run / "scores.csv").read_text()
    points = surface.surface(run, (0.1, 0.5), (1, 3), ("sgd",), 3, 7)
    assert (run / "scores.csv").read_text() == before  # tuning leaves no record
    assert [(p.step_size, p.ascent_steps) for p in points[1:]] == [
        (0.1, 1), (0.1, 3), (0.5, 1), (0.5, 3),
    ]  # fmt: skip
    assert points[0].ascent_steps == 0 and points[0].seeds == [3, 4]
    assert len({round(p.mean, 3) for p in points}) == len(points)
    for point in (points[0], points[3]):  # not masked, in a program of its own
        ((_, alone, _),) = reevaluation.reevaluate(
            run, grid=point.grid, episodes=3, eval_seed=7
        )
        np.testing.assert_allclose(point.scores, alone, rtol=1e-4)
    surface.write(points, tmp_path / "surface.csv")
    with (tmp_path / "surface.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(points)
    assert [row["seed"] for row in rows[:2]] == ["3", "4"]
    assert float(rows[-1]["score"]) == pytest.approx(points[-1].scores[1], rel=1e-4)
    surface.plot(points, tmp_path / "surface.png")
    assert (tmp_path / "surface.png").stat().st_size > 1000


@pytest.mark.parametrize("size", [0.0, -0.1])
def test_step_sizes_of_a_grid_are_above_0(run, size):
    with pytest.raises(UserError, match="step_size"):
        surface.evaluate(run, {"step_size": (0.1, size)}, 1, 0)


def test_the_best_of_the_tuning_episodes_is_chosen():
    def point(steps, *scores):
        return surface.Point("", "sgd", 0.1, steps, (0, 1), np.array(scores))

    points = [point(0, 1.0, 2.0), point(1, 0.0, 5.0), point(3, 4.0, 0.0)]
    assert surface.choose(points) is points[1]
    assert surface.choose(points[:1]).grid == {"ascent_steps": (0,)}


def test_a_run_without_action_gradient_has_no_surface(budget_dataset, tmp_path):
    small = {"num_steps": (1,), "hidden_dims": ((8, 8),), "batch_size": (8,)}
    job = make_jobs("bc", "demo", budget_dataset, small)[0]
    options = Options(num_seeds=2, runs_dir=str(tmp_path), eval_episodes=2, quiet=True)
    path = train(Training.of(job, "bc", "demo", budget_dataset, options)).path
    with pytest.raises(UserError, match="Action Gradient"):
        surface.evaluate(path, {}, 1, 0)


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_every_entry_is_a_method_with_known_settings(name):
    spec = EnvSpec("offjax/Maze2D-v0", 4, (-1.0,), (1.0,), 10, domain="maze2d")
    for entry in tables.TABLES[name]:
        assert entry.method in METHODS
        known = known_names(build(entry.method, spec, "small"))
        assert all(setting in known for setting, _ in entry.settings)


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("surface", (), "--run is missing"),
        ("surface", ("--run=x", "--tune_seed=0"), "other episodes"),
        ("surface", ("--run=x", "--step_sizes=0"), "--step_sizes"),
        ("surface", ("--run=x", "--ascent_steps=many"), "--ascent_steps"),
        ("tables", ("--table=5",), "token_prediction"),
        ("tables", ("--table=all",), "--datasets"),
    ],
)
def test_bad_input_is_a_paragraph_and_exit_code_2(experiment, module, arguments, words):
    done = experiment(f"action_gradient.{module}", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and words in done.stderr


def test_return_targets_are_asked_of_decision_transformer_alone():
    calls = [tables.command(e, "d", "small", "1.0,2.0") for e in tables.TABLES["all"]]
    asked = [any("return_target=1.0,2.0" in a for a in call) for call in calls]
    assert asked == [False, True, True, False, False, False, False]


def test_commands_are_printed(experiment):
    flags = ("--table=4", "--datasets=a,b", "--preset=paper", "--dry_run")
    done = experiment("action_gradient.tables", *flags)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    assert "--config.optimizer=sgd,momentum" in lines[1] and "--dataset=a" in lines[1]
