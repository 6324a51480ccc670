"""Completes commands, flags, methods, datasets, hyperparameters and runs.

    offjax completion bash > ~/.local/share/bash-completion/completions/offjax
    offjax completion zsh > ~/.zfunc/_offjax       # a folder of $fpath
    offjax completion fish > ~/.config/fish/completions/offjax.fish

Or for the present shell: source <(offjax completion bash)
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from absl import flags

from offjax import cache
from offjax.errors import UserError

FLAGS = flags.FLAGS
POSITIONAL = "shell"

# bash breaks words at = and :, and replaces only what follows the last of them.
BASH = """\
_offjax() {
  local line=${COMP_LINE:0:COMP_POINT} word before head
  word=${line##* }
  before=${line%"$word"}
  head=${word%"${word##*[=:]}"}
  local IFS=$'\\n'
  COMPREPLY=($(IFS=' '; offjax complete ${before#* } "$word" 2>/dev/null))
  COMPREPLY=("${COMPREPLY[@]#"$head"}")
  [[ ${COMPREPLY[0]} == *= || ${COMPREPLY[0]} == *. ]] && compopt -o nospace
}
complete -o default -F _offjax offjax
"""
ZSH = """\
#compdef offjax
_offjax() {
  local -a found
  found=("${(@f)$(offjax complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$found" ]]; then compadd -S '' -- "${found[@]}"; else _files; fi
}
if [[ "${funcstack[1]}" == _offjax ]]; then _offjax "$@"
else compdef _offjax offjax; fi
"""
FISH = """\
complete -c offjax -f -a \\
  '(offjax complete (commandline -opc | tail -n +2) (commandline -ct) 2>/dev/null)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

METHODS = ("method", "methods", "policy")
DATASETS = ("dataset", "datasets")
RUNS = ("run", "critic_run")


def define_flags() -> None:
    """The command's flags."""
    flags.DEFINE_string("shell", None, f"One of {', '.join(SCRIPTS)}.")


def main(argv: list[str]) -> None:
    """Prints the script of a shell."""
    del argv
    if FLAGS.shell not in SCRIPTS:
        given = f"no shell {FLAGS.shell!r}" if FLAGS.shell else "no shell was named"
        raise UserError(f"{given}: there are {', '.join(SCRIPTS)}.")
    print(SCRIPTS[FLAGS.shell], end="")


def candidates(words: Sequence[str]) -> list[str]:
    """What the last word may become.

    Args:
      words: what was typed after `offjax`; the last one is under way, and may be "".
    """
    from offjax.cli import command, commands

    *before, word = words or [""]
    if not before:
        return _starting(word, commands.COMMANDS)
    if before[0] not in commands.COMMANDS:
        return []
    sys.argv = ["offjax"]  # what was typed is read here, and declares no flags
    module = commands.module_of(before[0])
    module.define_flags()
    command.define_color()
    name, equals, value = word.removeprefix("--").partition("=")
    if not word.startswith("-"):
        return _values(getattr(module, "POSITIONAL", ""), word, before)
    if equals:
        return [f"--{name}={v}" for v in _values(name, value, before)]
    if word.startswith("--config."):
        names = _known()["config"].get(_given("method", before), [])
        return _starting(word, [f"--config.{n}=" for n in names])
    own = [name for names in command.sections().values() for name in names]
    return _starting(word, (_spelled(FLAGS[name]) for name in own))


def _starting(word: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(word))


def _spelled(flag: Any) -> str:
    if flag.name == "config":
        return "--config."
    return f"--{flag.name}" + "=" * (not isinstance(flag, flags.BooleanFlag))


def _given(flag: str, words: Sequence[str]) -> str:
    """The value of `--flag=` among the words."""
    found = [w.partition("=")[2] for w in words if w.startswith(f"--{flag}=")]
    return found[-1] if found else ""


def _values(flag: str, value: str, words: Sequence[str]) -> list[str]:
    """Values of a flag; of a list, those of its last entry."""
    head, comma, last = value.rpartition(",")
    if flag in METHODS:
        names = _known()["methods"]
    elif flag in DATASETS:
        names = [*_known()["datasets"], *_local(_given("data_dir", words))]
    elif flag in RUNS:
        names = _runs(_given("runs_dir", words) or "runs")
    elif flag in ("improve", "critic", "what", "shell"):
        names = {"what": _topics(), "shell": list(SCRIPTS)}.get(flag) or _known()[flag]
    elif flag in FLAGS:
        names = getattr(FLAGS[flag].parser, "enum_values", None) or []
    else:
        names = []
    return [head + comma + name for name in _starting(last, set(names))]


def _topics() -> list[str]:
    from offjax.cli import lists

    return list(lists.TOPICS)


def _local(data_dir: str) -> list[str]:
    """Ids of local Minari datasets."""
    from offjax.datasets import minari_io

    return minari_io.local_ids(data_dir or None)


def _runs(runs_dir: str) -> list[str]:
    """Names of runs."""
    from offjax.runner import lookup

    found = lookup.folders(runs_dir)
    methods = {path.relative_to(runs_dir).parts[0] for path in found}
    latest = ["latest", *(f"latest:{m}" for m in methods)] if found else []
    return [*latest, *(path.name for path in found)]


def _known() -> dict[str, Any]:
    """Names that need JAX to be found: kept until another offjax is installed."""
    package = Path(__file__).parents[1]
    sources = [*(package / "methods").glob("*.py"), *(package / "catalog").glob("*.py")]
    stamp = [version("offjax"), max(os.stat(path).st_mtime_ns for path in sources)]
    path = cache.root() / "completion.json"
    try:
        kept = json.loads(path.read_text())
        if kept["stamp"] == stamp:
            return kept
    except (OSError, ValueError, KeyError):
        pass
    found = {"stamp": stamp, **_found()}
    try:
        cache.root().mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    except OSError:  # without a cache it takes longer
        pass
    return found


def _found() -> dict[str, Any]:
    from offjax.catalog import collected
    from offjax.datasets import legacy, ogbench
    from offjax.improvement import OPERATORS
    from offjax.methods import METHODS, build
    from offjax.methods.compose import CRITICS
    from offjax.runner.settings import known_names

    return {
        "methods": list(METHODS),
        "datasets": [*collected.ids(), *legacy.table(), *ogbench.ids()],
        "improve": list(OPERATORS),
        "critic": list(CRITICS),
        "config": {m: sorted(known_names(build(m, None, "paper"))) for m in METHODS},
    }
