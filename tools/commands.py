"""What each command takes, asked of the command itself.

python -m tools.commands

prints JSON: command line → {"usage": docstring, "flags": {name: {"type", "default",
"meaning", "choices"}}, "config": whether it takes --config.NAME}. Commands are
`offjax X`, and the modules of `experiments` and `benchmarks` that take absl flags.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
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

ROOT = Path(__file__).parents[1]
PACKAGES = ("experiments", "benchmarks")
EVERYDAY: tuple[str, ...] = (
    "run", "evaluate", "collect", "sweep", "tune", "leaderboard", "report", "fqe",
    "calibrate",
)  # fmt: skip
"""The commands that `offjax` has, too."""
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
    offjax = f"offjax {short}"
    return offjax if short != line and offjax in definitions() else line


def runnable() -> dict[str, Callable[[], Any]]:
    """Command line → what runs it in this process, with the flags of sys.argv."""
    found = {
        f"offjax {name}": module_runner(f"experiments.{name}") for name in EVERYDAY
    }
    if importlib.util.find_spec("offjax.cli"):  # there is a console command
        cli = importlib.import_module("offjax.cli.main")
        found = {
            f"offjax {name}": functools.partial(cli.main, [name, "--helpxml"])
            for name in cli.COMMANDS
        }
    for path in (p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        if not re.search(r"^    (cli\.run|start)\(", path.read_text(), re.M):
            continue
        if f"offjax {module.removeprefix('experiments.')}" not in found:
            found[f"python -m {module}"] = module_runner(module)
    return found


def module_runner(module: str) -> Callable[[], Any]:
    """Runs a module as python -m does, in this process."""
    return functools.partial(runpy.run_module, module, None, "__main__", True)


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
    if short != line and importlib.util.find_spec("offjax.cli"):
        cli = importlib.import_module("offjax.cli.main")
        command["usage"] = (cli.module_of(short).__doc__ or "").strip()
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
