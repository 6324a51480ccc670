"""The command: `python -m offjax.compat SCRIPT.py ARGS`."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from offjax.compat import aliases
from offjax.errors import UserError

USAGE = """usage: python -m offjax.compat SCRIPT.py ARGS

Runs a script that was written for D4RL and the old gym, unchanged: `gym` and `d4rl` are
made of offjax's readers, datasets and environments. All ARGS are the script's.

Ids: D4RL's (hopper-medium-v2), offjax/hopper/medium-v0, also spelled
offjax-hopper-medium-v0, local Minari ids. Files of D4RL are looked for in
$D4RL_DATASET_DIR and ~/.d4rl/datasets. More: docs/how_to/d4rl_scripts.md"""


def main(argv: list[str]) -> None:
    """Runs the script `argv[0]` with the arguments `argv[1:]`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if argv else sys.stderr)
        sys.exit(0 if argv else 2)
    script = Path(argv[0])
    if not script.is_file():
        _fail(f"there is no script {script}. Give the path of a Python file first.")
    for line in aliases.install():
        print(line, file=sys.stderr)
    sys.argv = argv
    sys.path[0] = str(script.resolve().parent)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except UserError as error:
        _fail(f"{error}{_place(error, script)}")
    except ImportError as error:
        ours = ("gym", "d4rl", "offjax.compat")
        if not f"{error.name}.".startswith(tuple(f"{name}." for name in ours)):
            raise
        _fail(
            f"{error}: offjax.compat does not offer it. What it offers: "
            "docs/how_to/d4rl_scripts.md; for the rest, change the script."
            f"{_place(error, script)}"
        )


def _place(error: Exception, script: Path) -> str:
    """Where in the script it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if f.filename == str(script)]
    return f" ({script}, line {lines[-1]})" if lines else ""


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
