"""Every command in the README and the documents exists, with every flag that it has."""

import re
import tomllib
from pathlib import Path

import pytest

from tools.commands import definitions, named

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = (
    r"(?:python -m (?:experiments|benchmarks)(?:\.[a-z]\w*)+"
    r"|(?<![\w.])offjax [a-z_-]+(?=(?: [a-z:_]+)?(?: --|`|\n)))"
)
FLAG = r"(?<![\w-])--([a-z_]+)((?:\.\w+)*)(?:=(?:'([^']*)'|([^\s`')]+)))?"


def lines():
    """(page, command line without flags, flags as text) for every documented command.

    A command ends with its line, or with the code that it stands in.
    """
    for page in PAGES:
        for line in page.read_text().splitlines():
            for match in re.finditer(rf"({COMMAND})([^`#]*)", line):
                yield page.relative_to(ROOT), match[1], match[2]


def key(command):
    """The name of a command in documented_commands.toml."""
    if command.startswith("offjax "):
        return f"experiments.{command.removeprefix('offjax ').replace('-', '_')}"
    return command.removeprefix("python -m ")


def shell_lines():
    """The lines of the pages' bash blocks, comments omitted."""
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
            for line in block.splitlines():
                line = line.partition("  #")[0].strip()
                if line and not line.startswith("#"):
                    yield page.relative_to(ROOT), line


@pytest.fixture(scope="module")
def listed():
    return tomllib.loads((ROOT / "tests" / "documented_commands.toml").read_text())


def test_documented_commands_and_flags_exist():
    found = list(lines())
    assert len(found) > 50
    problems = []
    for page, command, given in found:
        definition = definitions().get(named(command))
        if definition is None:
            problems.append(f"{page}: there is no command {command!r}")
            continue
        for name, path, quoted, plain in re.findall(FLAG, given):
            flags = definition["flags"]
            flag = flags.get(name) or flags.get(name.removeprefix("no"))
            if definition["config"] and name == "config" and (path or plain == "list"):
                continue
            if flag is None:
                problems.append(f"{page}: {command} has no flag --{name}")
            elif problem := wrong_value(flag, quoted or plain):
                problems.append(f"{page}: {command} --{name}: {problem}")
    assert not problems, "\n".join(problems)


def wrong_value(flag, value):
    """What is wrong with a flag's value; placeholders (… and CAPITALS) are right."""
    if not value or "…" in value or re.search(r"[A-Z${]", value):
        return None
    choices, kind = flag["choices"], flag["type"]
    if choices and not set(value.split("|")) <= set(choices):
        return f"{value!r} is none of {choices}"
    if kind in ("int", "float"):
        try:
            float(value)
        except ValueError:
            return f"{value!r} is not a number"
    return None


def test_flags_in_the_text_belong_to_a_command():
    known = {name for d in definitions().values() for name in d["flags"]}
    known |= {"help", "config"}
    for page in PAGES:
        for name in re.findall(r"`--([a-z_]+)[^`]*`", page.read_text()):
            assert {name, name.removeprefix("no")} & known, f"{page}: --{name}"


def test_each_documented_command_has_its_test_or_its_reason(listed):
    tests, reasons = listed["tests"], listed["reasons"]
    assert not set(tests) & set(reasons)
    for command, test in tests.items():
        assert (ROOT / test).is_file(), f"{command}: {test} does not exist"
    used = {key(command) for _, command, _ in lines()}
    modules = {c for c in {*tests, *reasons} if re.match(r"(experiments|bench)", c)}
    assert not used - modules, "name the test that runs it, or why none does"
    assert not modules - used, "no page shows it any more"
    others = {*tests, *reasons} - modules
    for page, line in shell_lines():
        if re.match(COMMAND, f"{line}\n"):
            continue
        assert any(line.startswith(name) for name in others), (
            f"{page}: {line!r} is not listed"
        )


def test_hyperparameters_in_documented_runs_exist():
    from offjax.methods import METHODS, build
    from offjax.runner import settings

    checked = 0
    for page, command, given in lines():
        values = {
            name + path: quoted or plain
            for name, path, quoted, plain in re.findall(FLAG, given)
        }
        method = values.get("method", "")
        if named(command) != "offjax run" or method not in METHODS:
            continue
        known = settings.known_names(build(method, None, "small"))
        for name in values:
            if name.startswith("config.") and "NAME" not in name:
                assert name.removeprefix("config.") in known, (page, name)
                checked += 1
    assert checked
