"""What each command takes, asked of the command itself.

python -m tools.commands

prints JSON: command line → {"usage": docstring, "flags": {name: {"type", "default",
"meaning", "choices"}}, "config": whether it takes --config.NAME}. Commands are
`offjax X`, and the modules of `experiments` and `benchmarks` that take absl flags.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

from offjax.cli import commands
from offjax.cli import main as cli

ROOT = Path(__file__).parents[1]
PACKAGES = ("experiments", "benchmarks")
Command = dict[str, Any]


@functools.cache
def definitions() -> dict[str, Command]:
    """Every command by its line without flags; asked in a process of its own, once."""
    answer = subprocess.run(
        [sys.executable, "-m", "tools.commands"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(answer.stdout)


def named(line: str) -> str:
    """The key in `definitions` of a command line without flags."""
    short = line.removeprefix("python -m experiments.")
    offjax = f"offjax {short.replace('_', '-')}"
    return offjax if short != line and offjax in definitions() else line


def runnable() -> dict[str, Callable[[], Any]]:
    """Command line → what runs it in this process, with the flags of sys.argv."""
    found: dict[str, Callable[[], Any]] = {
        f"offjax {name}": functools.partial(cli.main, [name, "--helpxml"])
        for name in commands.COMMANDS
    }
    for path in (p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not re.search(r"^    (cli\.run|start)\(", path.read_text(), re.M):
            continue
        short = module.removeprefix("experiments.").replace("_", "-")
        if f"offjax {short}" not in found:
            run = functools.partial(runpy.run_module, module, None, "__main__", True)
            found[f"python -m {module}"] = run
    return found


def ask(line: str, run: Callable[[], Any], common: set[str]) -> Command:
    """Runs a command with --helpxml in this process, and forgets its flags again.

    `common` are the flags that every program has; they are left out.
    """
    from absl import flags

    sys.argv = [line, "--helpxml"]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        run()
    for name in set(flags.FLAGS) - common:
        delattr(flags.FLAGS, name)
    for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES]:
        del sys.modules[name]
    command = parse(ET.fromstring(printed.getvalue()), common)
    short = line.removeprefix("offjax ")
    if short != line:
        command["usage"] = (commands.module_of(short).__doc__ or "").strip()
    return command


def parse(page: ET.Element, common: set[str]) -> Command:
    """absl's XML as a dict, without the flags in `common`."""
    found = {}
    for flag in page.findall("flag"):
        name, file = flag.findtext("name", ""), flag.findtext("file", "")
        own = file.startswith(str(ROOT)) or file.split(".")[0] in (*PACKAGES, "offjax")
        if name in common or name == "config" or not own:
            continue
        found[name] = {
            "type": flag.findtext("type", ""),
            "default": flag.findtext("default", ""),
            "meaning": flag.findtext("meaning", ""),
            "choices": [value.text or "" for value in flag.findall("enum_value")],
        }
    config = any(f.findtext("name") == "config" for f in page.findall("flag"))
    usage = page.findtext("usage", "").strip()
    return {"usage": usage, "flags": found, "config": config}


def main() -> None:
    """Prints the definitions of all commands."""
    from absl import app, flags, logging  # noqa: F401

    app.define_help_flags()
    common = set(flags.FLAGS)
    answers = {line: ask(line, run, common) for line, run in runnable().items()}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
