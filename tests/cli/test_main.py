"""`offjax` itself: its help, its errors, its colors."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from offjax.cli.commands import COMMANDS


def test_help_is_short_and_names_every_command(offjax):
    for arguments in (("--help",), ()):
        code, output, _ = offjax(*arguments)
        assert code == 0
        assert len(output.splitlines()) < 40
        assert re.findall(r"^  ([\w-]+) +\w", output, re.M) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(offjax, name):
    code, output, errors = offjax(name, "--help")
    assert (code, errors) == (0, "")
    assert f"offjax {name}" in output and "--color=auto|always|never" in output
    assert max(map(len, output.splitlines())) <= 100


def test_the_help_of_run_is_grouped_and_tells_of_hyperparameters(offjax):
    _, output, _ = offjax("run", "--help")
    titles = re.findall(r"^([A-Z]\w[\w ]*)$", output, re.M)
    assert titles[:4] == ["What is trained", "Hyperparameters", "Seeds", "Evaluation"]
    assert re.search(r"--num_seeds=N +Number of seeds\. \[5\]", output)
    assert "--config.STAGE.NAME=V" in output and "--config=list" in output


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("rum",), ["'rum'", "Did you mean run?"]),
        (("train",), ["'train'", "offjax --help"]),
        (("run", "--numseeds=3"), ["--numseeds", "Did you mean --num_seeds"]),
        (("run", "--method=TD3-BC", "--dataset=d"), ["'TD3-BC'", "mean td3_bc?"]),
        (("list", "metods"), ["'metods'", "Did you mean methods?"]),
        (("completion", "bahs"), ["'bahs'", "fish"]),
        (("evaluate", "latest", "--runs_dir=nowhere"), ["no finished run"]),
        (("evaluate", "latest", "again"), ["'again'"]),
        (("sweep", "--config=list"), ["offjax run"]),
    ],
)
def test_errors_suggest(offjax, arguments, words):
    done = offjax(*arguments)
    assert done.code == 2 and done.errors.startswith("error: ")
    assert done.errors.count("\n") == 1
    for word in words:
        assert word in done.errors


def test_an_error_with_a_near_name_does_not_list_all_of_them(offjax):
    done = offjax("run", "--method=icql", "--dataset=offjax/budget/t10-smooth-v0")
    assert "iql" in done.errors and "reinformer" not in done.errors


def test_colors(offjax):
    plain = offjax("list", "nothing")
    assert plain.errors.startswith("error:")
    colored = offjax("list", "nothing", "--color=always")
    assert colored.errors.startswith("\x1b[31merror:\x1b[0m")
    forced = offjax("list", "nothing", FORCE_COLOR="1")
    assert forced.errors == colored.errors
    for arguments, environment in (
        (("--color=never",), {"FORCE_COLOR": "1"}),
        ((), {"FORCE_COLOR": "1", "NO_COLOR": "1"}),
    ):
        done = offjax("list", "nothing", *arguments, **environment)
        assert done.errors == plain.errors


def test_importing_the_commands_defines_no_flag():
    code = """
import importlib, sys
from absl import flags
from offjax.cli.commands import COMMANDS, module_of
for name in COMMANDS:
    module_of(name)
mine = [m for m in flags.FLAGS.flags_by_module_dict() if m.startswith("offjax")]
assert not mine, mine
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["run", "leaderboard"])
def test_a_checkout_has_the_same_commands(offjax, name):
    command = [sys.executable, "-m", f"experiments.{name}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    def flags(text):
        return re.findall(r"^  (--[\w\[\]]+)", text, re.M)

    found = flags(done.stdout)
    assert len(found) > 5 and found == flags(offjax(name, "--help").output)


def test_version():
    done = subprocess.run(
        [sys.executable, "-m", "offjax", "--version"], capture_output=True, text=True
    )
    assert re.fullmatch(r"offjax \d+\.\d+\.\d+\S*\n", done.stdout)
