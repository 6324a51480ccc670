"""Flags, hyperparameters and sweep files at random: a message, never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offjax.errors import UserError
from offjax.methods import METHODS, build
from offjax.runner.settings import known_names
from offjax.sweeps import plan

BUDGET = "offjax/budget/t10-smooth-v0"
ODD = (
    *("", "0", "-1", "1", "2", "7", "1e308", "-1e-9", "nan", "inf", "1e400", "True"),
    *("none", "None", "'x'", "x", "1,2,3", "0,-1", "(1,2)", "[1]", "{}", "1..2", ",,"),
    *("2147483648", "10**9", "0x10", "1_000", "../..", "a\x1bb", "é", "list", "-", "="),
)
"""Values that a flag may be given."""
FLAGS = (
    *("num_seeds", "seed", "num_steps", "eval_every", "eval_episodes", "eval_chains"),
    *("eval_seed", "eval_behind", "log_every", "checkpoint_every", "layout", "resume"),
    *("reuse_stages", "log", "host_devices", "preset", "policy", "critic", "improve"),
    *("sweep", "dataset", "method", "config", "config.", "no_such_flag", "verbosity"),
)


@st.composite
def command_lines(draw):
    """Arguments of experiments.run: sound ones, with a few that are odd."""
    method = draw(st.sampled_from(sorted(METHODS)))
    given = {"method": method, "dataset": BUDGET, "preset": "demo", "num_seeds": "2"}
    names = sorted(known_names(build(method, None, "demo")))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([f"config.{n}" for n in names]))
        given[name] = draw(st.sampled_from(ODD))
    for _ in range(draw(st.integers(0, 1))):
        given[draw(st.sampled_from(FLAGS))] = draw(st.sampled_from(ODD))
    return [f"--{name}={value}" for name, value in given.items()]


def drawn(count):
    """That many command lines, the same every time."""
    found = []

    @settings(max_examples=count, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(command_lines())
    def collect(arguments):
        found.append(arguments)

    collect()
    return found


def carried_out(lines, tmp_path):
    """Exit code and messages of each command line."""
    script = Path(__file__).with_name("fuzz_flags.py")
    done = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(lines), capture_output=True,
        text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(lines, tmp_path):
    for line, (code, message) in zip(lines, carried_out(lines, tmp_path), strict=True):
        assert "Traceback" not in message, (line, message)
        assert code in (0, 1, 2), (line, code, message)
        assert code == 0 or message, line


def test_command_lines(tmp_path):
    check(drawn(12), tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_command_lines(tmp_path):
    check(drawn(1000), tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = ("methods", "datasets", "preset", "config", "priority", *plan.OPTIONS)


@st.composite
def sweep_files(draw):
    """A sweep file's content with entries of wrong kinds."""
    entry = {"methods": ["bc"], "datasets": ["d"], "config": {"lr": [1e-3]}}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        entry[name] = draw(json_values)
    content = {"entries": [entry]}
    return draw(st.sampled_from([content, entry, [entry], {"entries": entry}]))


def test_sweep_files(tmp_path, budget):
    path = tmp_path / "sweep.json"

    @settings(max_examples=300, deadline=None, derandomize=True, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(sweep_files())
    def attempt(content):
        path.write_text(json.dumps(content))
        try:
            plan.expand(plan.parse_file(path), lambda name: budget, "s")
        except UserError as error:
            assert str(error)

    attempt()


@pytest.fixture(scope="module")
def budget():
    from offjax.catalog.load import load_dataset

    return load_dataset(BUDGET)
