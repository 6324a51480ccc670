"""The house: packages import downwards, and no two modules import each other."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1] / "offjax"

FLOORS = [
    ["errors", "cache", "folders", "presets", "terminal"],
    ["types", "registration", "locks"],
    ["distributions", "devices"],
    ["networks", "improvement"],
    ["envs"],
    ["datasets"],
    ["behavior"],
    ["catalog"],
    ["evaluation"],
    ["methods"],
    ["runner", "leaderboard"],
    ["agents"],
    ["sweeps"],
    ["cli"],
    ["compat"],
    ["__main__"],
]
"""From the ground up. A package imports packages of lower floors, and itself."""


def imports(path):
    """Modules of offjax that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    """Module name → names of the modules that it imports; all of offjax."""
    names = {
        ".".join(("offjax", *path.relative_to(ROOT).with_suffix("").parts)): path
        for path in ROOT.rglob("*.py")
    }
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}

    def module_of(name):
        """`offjax.a.b.function` → `offjax.a.b`."""
        while name and name not in names:
            name = name.rpartition(".")[0]
        return name

    return {
        name: {module_of(i) for i in imports(path) if i.startswith("offjax")} - {name}
        for name, path in names.items()
    }


def test_packages_import_downwards():
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    upwards = []
    for name, imported in modules().items():
        if name == "offjax":
            continue
        package = name.split(".")[1]
        for other in imported - {"offjax", ""}:
            other_package = other.split(".")[1]
            if other_package != package and floor[other_package] >= floor[package]:
                upwards.append(f"{name} imports {other}")
    assert not upwards, "\n".join(sorted(upwards))


def test_no_circle():
    graph = {
        name: {i for i in imported if not name.startswith(f"{i}.")}  # a package's own
        for name, imported in modules().items()
    }
    done, path = set(), []

    def visit(name):
        if name in path:
            circle = [*path[path.index(name) :], name]
            raise AssertionError(" → ".join(circle))
        if name in done or name not in graph:
            return
        path.append(name)
        for other in sorted(graph[name]):
            visit(other)
        done.add(path.pop())

    for name in sorted(graph):
        visit(name)
