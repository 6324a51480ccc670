"""The table of the commands."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple


class Entry(NamedTuple):
    """A command: where `--help` shows it, the module in `offjax.cli`, what it does."""

    group: str
    module: str
    help: str


COMMANDS = {
    "run": Entry("Train", "run", "train a method on a dataset over many seeds"),
    "sweep": Entry("Train", "sweep", "many runs: methods × datasets × settings"),
    "tune": Entry("Train", "tune", "tune methods, then measure them on other seeds"),
    "demo": Entry("Train", "demo", "train 15 small runs, and compare them"),
    "benchmark": Entry("Train", "benchmark", "fill and show the project's benchmark"),
    "evaluate": Entry("Evaluate", "evaluate", "evaluate a finished run again; videos"),
    "fqe": Entry("Evaluate", "fqe", "rank a run's settings without its environment"),
    "leaderboard": Entry(
        "Compare", "leaderboard", "compare runs: tables, page, export"
    ),
    "import-scores": Entry(
        "Compare", "import_scores", "put results of other projects onto the board"
    ),
    "report": Entry("Compare", "report", "what each operator adds, as markdown"),
    "collect": Entry("Data", "collect", "collect one of offjax's own datasets"),
    "store": Entry("Data", "store", "store a dataset as files, to train with --stream"),
    "datasets": Entry("Data", "datasets", "what offjax's own datasets hold"),
    "calibrate": Entry("Data", "calibrate", "compare a dataset with the simulator"),
    "list": Entry("Help", "lists", "methods, datasets, environments, operators, runs"),
    "doctor": Entry("Help", "doctor", "what is installed, and what is missing"),
    "completion": Entry("Help", "completion", "completion for bash, zsh or fish"),
}
"""Name → the command. A new one is one entry."""


def module_of(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"offjax.cli.{COMMANDS[name].module}")
