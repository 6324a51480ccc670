"""What there is: lists, hyperparameters, and what is installed."""

from __future__ import annotations

import dataclasses

import pytest

from offjax.cli import hyperparameters, lists
from offjax.improvement import OPERATORS
from offjax.methods import METHODS, build
from offjax.runner.settings import owners


def test_lists(offjax):
    for topic, known in (("methods", METHODS), ("operators", OPERATORS)):
        code, output, _ = offjax("list", topic)
        assert code == 0
        assert [line.split()[0] for line in output.splitlines()] == list(known)
    for topic, word in (
        ("datasets", "hopper-medium-v2"),
        ("environments", "offjax/Maze2D-v0"),
        ("critics", "sarsa_iqn"),
    ):
        code, output, _ = offjax("list", topic)
        assert code == 0 and word in output.splitlines()
    assert lists.TOPICS[-1] == "runs"


def test_runs_are_listed_with_their_status(offjax, finished):
    folder, _ = finished
    code, output, _ = offjax("list", "runs")
    assert code == 0
    (line,) = (x for x in output.splitlines() if x.startswith(folder.split("/")[-1]))
    assert line.split()[1:] == ["finished", "bc", "offjax/budget/t10-smooth-v0"]


def test_hyperparameters_are_listed_without_data(offjax, tmp_path):
    code, output, _ = offjax(
        "run", "--method=iql", "--config=list", f"--data_dir={tmp_path / 'data'}"
    )
    assert code == 0 and not (tmp_path / "data").exists()
    lines = {line.split()[0]: line for line in output.splitlines() if line}
    assert "1000000 | 200000 | 20000" in lines["num_steps"]
    assert lines["temperature"].split()[1] == "3"
    assert "which multiplies the advantage" in lines["temperature"]
    assert "discount of later rewards" in lines["discount"]


def test_defaults_are_those_of_a_datasets_domain(offjax):
    def default(*flags):
        _, output, _ = offjax("run", "--method=iql", "--config=list", *flags)
        lines = {line.split()[0]: line.split() for line in output.splitlines() if line}
        return lines["expectile"][1]

    assert default() == "0.7"
    assert default("--dataset=offjax/antmaze/umaze-v0") == "0.9"


@pytest.mark.parametrize("method", METHODS)
def test_every_hyperparameter_has_a_meaning(method):
    for config in owners(build(method, None, "paper")).values():
        meanings = hyperparameters.meanings_of(type(config))
        for field in dataclasses.fields(config):
            assert meanings.get(field.name), (method, field.name)


def test_doctor(offjax, tmp_path):
    code, output, _ = offjax("doctor", f"--data_dir={tmp_path}")
    assert code == 0
    assert "\n  jax  " in output and "\n  cpu:0 " in output
    assert f"{tmp_path} (0 datasets" in output
    for line in output.splitlines():
        if "missing" in line:
            assert "pip install" in line
