"""`offjax COMMAND …`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from offjax import terminal
from offjax.cli import usage
from offjax.cli.commands import COMMANDS, module_of


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
