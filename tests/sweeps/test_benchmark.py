"""The benchmark's file: what it declares, in which order it is filled, bad input."""

from __future__ import annotations

import pytest

from offjax.errors import UserError
from offjax.sweeps import benchmark, plan
from offjax.sweeps.benchmark import Suite

TEXT = """
name = "little"
version = 3
preset = "demo"
num_seeds = 2
eval_episodes = 4

[[domains]]
name = "mazes"
datasets = ["a", "b"]
methods = ["bc", "iql"]

[[domains]]
name = "budgets"
datasets = ["offjax/c"]
methods = ["asp"]
eval_episodes = 7
seed = 10
size = 500
"""


@pytest.fixture
def suite(tmp_path) -> Suite:
    path = tmp_path / "little.toml"
    path.write_text(TEXT)
    return benchmark.read(path)


def test_a_domain_overrides_the_protocol_of_the_file(suite):
    mazes, budgets = suite.domains
    assert dict(mazes.protocol) == {"num_seeds": 2, "eval_episodes": 4}
    assert dict(budgets.protocol) == {"num_seeds": 2, "eval_episodes": 7, "seed": 10}
    assert (mazes.size, budgets.size) == (None, 500)


def test_columns_are_filled_in_the_order_of_the_file(suite):
    assert [name for _, name in suite.columns()] == ["a", "b", "offjax/c"]
    domain, name = suite.columns()[1]
    entry = suite.entry(domain, name)
    assert entry == plan.Entry(
        ("bc", "iql"),
        ("b",),
        "demo",
        options={"num_seeds": 2, "eval_episodes": 4},
    )


def test_a_part_of_it_can_be_named(suite):
    part = suite.only(methods=["iql", "asp"], datasets=["b", "offjax/c"])
    assert [(d.datasets, d.methods) for d in part.domains] == [
        (("b",), ("iql",)),
        (("offjax/c",), ("asp",)),
    ]
    assert suite.only(domains=["budgets"], methods=["bc"]).domains == ()
    with pytest.raises(UserError, match=r"no method 'fql'.*asp, bc, iql"):
        suite.only(methods=["fql"])
    with pytest.raises(UserError, match="no dataset 'd'"):
        suite.only(datasets=["d"])
    with pytest.raises(UserError, match="no domain 'gym'"):
        suite.only(domains=["gym"])


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('name = "little"', "", "has no 'name'"),
        ("version = 3", "version = true", "version is True, not a whole number"),
        ('preset = "demo"', 'preset = "tiny"', "preset is 'tiny'"),
        ("num_seeds = 2", "num_seed = 2", "unknown name 'num_seed'; known: name"),
        ('"bc", "iql"', '"bc", "iqll"', "iqll"),
        ('methods = ["asp"]', "methods = []", "domain 1 .* needs 'methods'"),
        ("size = 500", "rows = 500", "unknown name 'rows'"),
        ('"offjax/c"', '"c"', "size is of datasets that offjax collects, which 'c'"),
        ("[[domains]]", "[domains", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, old, new, message):
    path = tmp_path / "wrong.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(UserError, match=message):
        benchmark.read(path)


@pytest.mark.parametrize("path", [benchmark.DEFAULT, benchmark.DEMO])
def test_the_benchmarks_that_come_along_are_sound(path):
    suite = benchmark.read(path)
    jobs = [suite.entry(*column) for column in suite.columns()]
    assert jobs and len({entry.datasets for entry in jobs}) == len(jobs)
    for entry in jobs:
        assert len(set(entry.methods)) == len(entry.methods)
        assert entry.options["num_seeds"] >= 3
