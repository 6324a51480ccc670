"""`offjax COMMAND …`: the commands, their one-line help, and which module each is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from offjax import terminal
from offjax.cli import usage


class Entry(NamedTuple):
    """A command: where `--help` shows it, the module in `offjax.cli`, what it does."""

    group: str
    module: str
    help: str


COMMANDS = {
    "run": Entry("Train", "run", "train a method on a dataset over many seeds"),
    "sweep": Entry("Train", "sweep", "many runs: methods × datasets × settings"),
    "tune": Entry("Train", "tune", "tune methods, then measure them on other seeds"),
    "demo": Entry("Train", "demo", "train a dozen small runs, and compare them"),
    "evaluate": Entry("Evaluate", "evaluate", "evaluate a finished run again; videos"),
    "fqe": Entry("Evaluate", "fqe", "rank a run's settings without its environment"),
    "leaderboard": Entry(
        "Compare", "leaderboard", "compare runs: tables, page, export"
    ),
    "report": Entry("Compare", "report", "what each operator adds, as markdown"),
    "collect": Entry("Data", "collect", "collect one of offjax's own datasets"),
    "datasets": Entry("Data", "datasets", "what offjax's own datasets hold"),
    "calibrate": Entry("Data", "calibrate", "compare a dataset with the simulator"),
    "list": Entry("Help", "lists", "methods, datasets, environments, operators, runs"),
    "doctor": Entry("Help", "doctor", "what is installed, and what is missing"),
    "completion": Entry("Help", "completion", "completion for bash, zsh or fish"),
}
"""Name → the command. A new one is one entry."""


def overview() -> str:
    """What `offjax --help` prints."""
    lines = ["offjax: offline reinforcement learning, many seeds in one program"]
    group = ""
    for name, entry in COMMANDS.items():
        if entry.group != group:
            group = entry.group
            lines += ["", usage.heading(group)]
        lines.append(f"  {name:14s}{entry.help}")
    lines += ["", "`offjax COMMAND --help` lists a command's flags."]
    return "\n".join(lines) + "\n"


def module_of(name: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"offjax.cli.{COMMANDS[name].module}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that the first argument names."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("--help", "-h", "help"):
        print(overview(), end="")
        return
    if name in ("--version", "version"):
        from importlib.metadata import version

        print(f"offjax {version('offjax')}")
        return
    if name == "complete":  # what the shells' completion calls
        from offjax.cli import completion

        print("\n".join(completion.candidates(arguments[1:])))
        return
    if name not in COMMANDS:
        close = usage.near(name, COMMANDS)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        error = terminal.styled("error:", "red", sys.stderr)
        print(
            f"{error} there is no command {name!r}. {hint}`offjax --help` lists them.",
            file=sys.stderr,
        )
        sys.exit(2)
    from offjax.cli import command

    sys.argv = [f"offjax {name}", *arguments[1:]]
    command.start(module_of(name))
