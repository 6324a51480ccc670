"""The chapter's experiments: their commands, their choice of steps, the three cases."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from experiments.cfpi import demo, sarsa_steps, tables
from offjax.datasets.views import TransitionData
from offjax.methods import METHODS, build, sarsa
from offjax.runner.settings import expand, known_names
from offjax.runner.stages import stage_slots
from offjax.types import EnvSpec, Statistics, Transitions


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_every_entry_is_a_method_with_known_settings(name):
    spec = EnvSpec("x", 3, (-1.0,), (1.0,), 10, domain="locomotion")
    for entry in tables.TABLES[name].entries:
        assert entry.method in METHODS
        call = tables.command(name, entry, "offjax/hopper/medium-v0", "paper")
        known = known_names(build(entry.method, spec, "paper"))
        for argument in call:
            if argument.startswith("--config."):
                assert argument[len("--config.") :].split("=")[0] in known


@pytest.mark.parametrize("name", ["3.3", "3.9", "3.10", "figure-3.5", "figure-3.6"])
def test_grids_of_what_acting_reads_train_once(name):
    for entry in tables.TABLES[name].entries:
        given = {
            key: tuple(float(v) if "." in v else int(v) for v in values.split(","))
            for key, values in entry.settings
        }
        (job,) = expand(build(entry.method, None, "paper"), given)
        assert len(job.settings) == max([len(v) for v in given.values()], default=1)
        for stage in job.recipe.stages:
            assert stage_slots(job, stage.name, [0, 1]).seeds == (0, 1)


def test_published_steps_reach_only_those_who_learn_sarsa():
    entry = tables.Entry("cfpi")
    call = tables.command("3.4", entry, "d4rl/walker2d-medium-replay-v2", "paper")
    assert "--config.sarsa.num_steps=1100000" in call
    call = tables.command("3.4", entry, "offjax/walker2d/medium-v0", "small")
    assert not any("num_steps" in argument for argument in call)
    call = tables.command("3.3", tables.Entry("iql"), "hopper-medium-v2", "paper")
    assert not any("num_steps" in argument for argument in call)
    call = tables.command("3.1", entry, "hopper-medium-expert-v2", "paper")
    assert "--config.log_tau=0.0" in call


def test_split_holds_out_a_twentieth():
    train, held_out = sarsa_steps.split(1000, seed=3)
    assert len(held_out) == 50
    np.testing.assert_array_equal(np.sort([*train, *held_out]), np.arange(1000))
    assert not np.array_equal(held_out, sarsa_steps.split(1000, seed=4)[1])


def test_curve_falls_towards_a_reference_that_can_be_learned():
    """Terminal rows: Q is the reward, and the reference is the reward itself."""
    rng = np.random.default_rng(0)
    rows = 400
    observations = rng.normal(size=(rows, 2)).astype(np.float32)
    actions = rng.uniform(-1, 1, size=(rows, 1)).astype(np.float32)
    rewards = actions[:, 0]
    one = np.ones(rows, np.float32)
    transitions = Transitions(
        observations, actions, rewards, observations, actions, one, one > 0
    )
    statistics = Statistics(np.zeros(2), np.ones(2), -np.ones(1), np.ones(1))
    config = sarsa.Config(
        network="mlp", hidden_dims=(16, 16), critic_lr=1e-2, batch_size=32
    )
    curve = sarsa_steps.validation_curve(
        TransitionData(transitions, statistics), rewards, config, np.array([1, 200]), 0
    )
    assert curve[1] < 0.1 * curve[0]


def test_the_three_cases_of_the_demonstration():
    """LSE alone is feasible; Jensen wins; LSE wins although Jensen is feasible."""
    far, ridge, slope = (demo.solve(case, 0.5) for case in demo.cases())
    assert not far["jensen_feasible"]
    assert ridge["jensen_feasible"] and slope["jensen_feasible"]
    for result, winner in ((far, 1), (ridge, 2), (slope, 1)):
        candidates = [*result["lse"], result["jensen"]]
        np.testing.assert_array_equal(result["choice"], candidates[winner])
    axis = SimpleNamespace(**{
        name: lambda *args, **kwargs: None
        for name in ("contourf", "contour", "plot", "set", "set_xlabel")
    })  # fmt: skip
    demo.draw(axis, demo.cases()[0], far)


def test_a_short_table_that_goes_on(experiment):
    done = experiment(
        "cfpi.tables", "--table=3.14", "--datasets=offjax/maze2d/umaze-v0",
        "--preset=small", "--dry_run", "--num_steps=50", "--sarsa_steps=70", "--resume",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (call,) = done.stdout.splitlines()
    assert call.endswith("--runs_dir=runs --num_steps=50 --resume")
    assert "--config.sarsa.num_steps=70" in call
