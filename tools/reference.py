"""The reference pages of the site, written from the code: commands and methods."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from offjax import improvement, methods
from offjax.cli.hyperparameters import meanings_of
from offjax.methods.common import PRESETS
from offjax.runner import settings
from offjax.types import Recipe, Stage, traced_fields
from tools.commands import Command, definitions

REPEATED = r";\s*repeat this option to specify a list of values$"
"""What absl adds to the meaning of flags that may be given several times."""
Builder = Callable[[None, str], Recipe]


def pages() -> dict[str, str]:
    """Path of a page within the site's source → its Markdown."""
    return {"reference/commands.md": commands_page(definitions())} | method_pages()


def commands_page(commands: Mapping[str, Command]) -> str:
    """Every command with its flags: those of every day first."""
    groups = {
        "Every day": [name for name in commands if name.startswith("offjax ")],
        "Papers, data and figures": [
            name for name in commands if "experiments" in name
        ],
        "Benchmarks": [name for name in commands if "benchmarks" in name],
    }
    lines = [
        "# Commands",
        "",
        "Flags are given as `--name=value`; one that is true or false as `--name` or "
        "`--noname`. `--help` prints the same text. `python -m offjax X` is the same "
        "command as `offjax X`.",
    ]
    for group, names in groups.items():
        lines += ["", f"## {group}"]
        for name in names:
            lines += ["", *_command(name, commands[name])]
    return "\n".join(lines) + "\n"


def _command(line: str, command: Command) -> list[str]:
    lines = [f"### `{line}`", "", *_prose(command["usage"])]
    if command["flags"]:
        lines += ["", "| flag | default | meaning |", "|---|---|---|"]
        lines += [_flag(name, flag) for name, flag in sorted(command["flags"].items())]
    if command["config"]:
        lines += [
            "",
            "`--config.NAME=VALUE` and `--config.STAGE.NAME=VALUE` set "
            "hyperparameters: [Methods](methods/index.md) lists them.",
        ]
    return lines


def _prose(text: str) -> list[str]:
    """A docstring's paragraphs as Markdown; examples and indented text as code."""
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", text):
        if re.match(r" {4}|python -m |offjax ", block):
            lines += ["```text", textwrap.dedent(block), "```", ""]
        else:
            lines += [block.replace("<", "&lt;").replace("[", "\\["), ""]
    return lines


def _flag(name: str, flag: dict[str, Any]) -> str:
    meaning = re.sub(r"^<[^>]*>: ", "", flag["meaning"])
    meaning = re.sub(REPEATED, "", meaning)
    if flag["choices"]:
        meaning += f" One of {', '.join(f'`{c}`' for c in flag['choices'])}."
    default = f"`{flag['default']}`" if flag["default"] not in ("", "None") else ""
    return f"| `--{name}` | {_cell(default)} | {_cell(meaning)} |"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


def method_pages() -> dict[str, str]:
    """An overview, a page for each file of methods, and one of the operators."""
    files: dict[str, list[str]] = {}
    for name, builder in methods.METHODS.items():
        files.setdefault(builder.__module__.split(".")[-1], []).append(name)
    found = {
        f"reference/methods/{file}.md": _file_page(file, names)
        for file, names in files.items()
    }
    found = {"reference/methods/index.md": _overview(files)} | found
    found["reference/methods/operators.md"] = _operators_page()
    return {path: _linked(text) for path, text in found.items()}


def _linked(text: str) -> str:
    """arXiv numbers as links."""
    return re.sub(
        r"\barXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text
    )


def _overview(files: Mapping[str, Iterable[str]]) -> str:
    lines = [
        "# Methods",
        "",
        "Each page has the equations, the hyperparameters and the presets of a method, "
        "taken from its code. Set a hyperparameter with `--config.NAME=VALUE`, or with "
        "`--config.STAGE.NAME=VALUE` where several stages have the same name. From "
        'Python: `offjax.recipe("iql", expectile=0.9)`.',
        "",
        "∥ marks a hyperparameter that may have several values at once "
        "(`--config.expectile=0.7,0.9`): they train in one program. Several values of "
        "the others are runs of their own. Values are those without a dataset; some "
        "methods have others for one domain, as their text says.",
        "",
        "| method | what it does |",
        "|---|---|",
    ]
    for file, names in files.items():
        for name in names:
            summary = _first_line(methods.METHODS[name])
            lines.append(f"| [`{name}`]({file}.md#{name}) | {_cell(summary)} |")
    lines += [
        "",
        "Operators, which improve a trained policy without training: "
        "[Operators](operators.md). `--method=compose` joins any policy, critic and "
        "operator.",
    ]
    return "\n".join(lines) + "\n"


def _file_page(file: str, names: Iterable[str]) -> str:
    module = sys.modules[f"offjax.methods.{file}"]
    title, body = _document(module)
    lines = [f"# {file}", "", f"**{title}**", "", body]
    lines += ["", f"Source: `offjax/methods/{file}.py`."]
    for name in names:
        lines += ["", f"## {name} {{ #{name} }}", "", *_method(name)]
    return "\n".join(lines) + "\n"


def _method(name: str) -> list[str]:
    """A recipe's stages and its hyperparameters under the three presets."""
    builder = methods.METHODS[name]
    recipes = {preset: builder(None, preset) for preset in PRESETS}
    lines = [inspect.getdoc(builder) or "", ""]
    stages: dict[str, Stage] = {}
    for recipe in recipes.values():
        for stage in recipe.stages:
            stages.setdefault(stage.name, stage)
    for stage in stages.values():
        reads = f", reads {', '.join(f'`{r}`' for r in stage.reads)}" * bool(
            stage.reads
        )
        lines += [f"**Stage `{stage.name}`** (method `{stage.method.name}`{reads})", ""]
        steps = {
            preset: next((s.num_steps for s in r.stages if s.name == stage.name), "")
            for preset, r in recipes.items()
        }
        rows = [_row("num_steps", steps, "number of updates", False)]
        lines += _table(stage.name, recipes, rows)
    paper = recipes["paper"]
    for owner in paper.acting:
        lines += [f"**Acting: `{owner}`** (a grid over it trains nothing)", ""]
        lines += _table(owner, recipes, [])
    if paper.improve is not None:
        lines += [f"**Operator: `{paper.improve.name}`** (`improve`)", ""]
        lines += _table("improve", recipes, [])
    return lines


def _table(owner: str, recipes: Mapping[str, Recipe], rows: list[str]) -> list[str]:
    configs = {p: settings.owners(r).get(owner) for p, r in recipes.items()}
    known = next(config for config in configs.values() if config is not None)
    meanings, traced = meanings_of(type(known)), traced_fields(type(known))
    for field in dataclasses.fields(known):
        values = {
            preset: getattr(config, field.name, "")
            for preset, config in configs.items()
        }
        meaning = meanings.get(field.name, "")
        rows.append(_row(field.name, values, meaning, field.name in traced))
    head = "| hyperparameter | paper | small | demo | meaning |"
    return [head, "|---|---|---|---|---|", *rows, ""]


def _row(name: str, values: Mapping[str, Any], meaning: str, traced: bool) -> str:
    shown = [_value(values[preset]) for preset in PRESETS]
    mark = " ∥" if traced else ""
    return f"| `{name}`{mark} | {' | '.join(shown)} | {_cell(meaning)} |"


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    if isinstance(value, tuple):
        return _cell(", ".join(map(str, value)))
    return _cell(str(value))


def _operators_page() -> str:
    lines = [
        "# Operators",
        "",
        "An operator makes a better action of a distribution and a critic. It trains "
        "nothing. `offjax evaluate --improve=NAME` acts with another one, and "
        "`--grid=NAME=VALUE,VALUE` tries several settings.",
    ]
    for name, (operator, config) in improvement.OPERATORS.items():
        meanings = meanings_of(config)
        text = (inspect.getdoc(operator) or "").partition("\n\nRaises:")[0]
        lines += ["", f"## {name}", "", text, "", _first_line(config), ""]
        lines += ["| setting | default | meaning |", "|---|---|---|"]
        for field in dataclasses.fields(config):
            default = _value(field.default)
            meaning = _cell(meanings.get(field.name, ""))
            lines.append(f"| `{field.name}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _document(module: Any) -> tuple[str, str]:
    """First line and rest of a docstring; equations stay as they are."""
    first, _, rest = (inspect.getdoc(module) or "").partition("\n")
    return first.rstrip("."), rest.strip("\n")


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]
