"""What `--help` prints: of a command, and of all of them."""

from __future__ import annotations

import difflib
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from offjax import terminal

CONFIG = (
    "A hyperparameter, in every stage that has it. Several real values train together "
    "with the seeds in one program; several others are runs of their own."
)
"""How `--config.` works."""
INDENT = 26
"""Column of the descriptions."""


def near(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are close to one, the nearest first."""
    return difflib.get_close_matches(name, list(known), 3, 0.6)


def of_command(text: str, sections: Mapping[str, Sequence[str]]) -> str:
    """A command's docstring, and its flags by section.

    Args:
      text: the docstring.
      sections: title → names of flags.
    """
    lines = [text.strip()]
    for title, names in sections.items():
        lines += ["", heading(title)]
        for name in names:
            lines += _flag(flags.FLAGS[name])
    return "\n".join(lines) + "\n"


def heading(title: str) -> str:
    """The title of a section."""
    return terminal.styled(title, "bold", sys.stdout)


def entry(name: str, description: str) -> list[str]:
    """Lines of a name with its description beside it, or below where it is long."""
    width = max(60, min(shutil.get_terminal_size((88, 24)).columns, 100)) - INDENT
    wrapped = textwrap.wrap(description, width, break_on_hyphens=False) or [""]
    if len(name) + 4 > INDENT:
        return [f"  {name}", *(" " * INDENT + line for line in wrapped)]
    head = f"  {name}".ljust(INDENT) + wrapped[0]
    return [head.rstrip(), *(" " * INDENT + line for line in wrapped[1:])]


def _flag(flag: Any) -> list[str]:
    """Lines of one flag."""
    if flag.name == "config":
        return [
            *entry("--config.NAME=V[,V…]", CONFIG),
            *entry("--config.STAGE.NAME=V", "The same in one stage alone."),
            *entry("", "`offjax run --method=… --config=list` lists them."),
        ]
    description = re.sub(r"^<[^>]*>: ", "", " ".join(flag.help.split()))
    default = _default(flag)
    if default:
        description += f" [{default}]"
    return entry(_shown(flag), description)


def _shown(flag: Any) -> str:
    if isinstance(flag, flags.BooleanFlag):
        return f"--[no]{flag.name}"
    choices = getattr(flag.parser, "enum_values", None)
    return f"--{flag.name}={'|'.join(choices) if choices else _kind(flag)}"


def _kind(flag: Any) -> str:
    kind = flag.flag_type()
    if "list" in kind or "comma" in kind:
        return "A,B,…"
    return {"int": "N", "float": "X"}.get(kind, "TEXT")


def _default(flag: Any) -> str:
    if isinstance(flag, flags.BooleanFlag):
        return "on" if flag.default else "off"
    if flag.default in (None, "", []):
        return ""
    if isinstance(flag.default, list):
        return ",".join(map(str, flag.default))
    return str(flag.default)
