"""Compiled programs on disk: where, when not, and how many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from offjax.devices import compilation

PROGRAM = """
import jax, jax.numpy as jnp
from offjax.devices import compilation
compilation.MIN_SECONDS = 0.0
print(compilation.keep_programs())
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))
"""


def run(cache, **variables):
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=env | {"OFFJAX_CACHE": str(cache), "JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    folder = tmp_path / "programs" / compilation.machine()
    assert run(tmp_path).stdout.strip() == str(folder)
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert kept
    run(tmp_path)
    assert kept == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_jax_variables_go_before(tmp_path):
    off = run(tmp_path, JAX_ENABLE_COMPILATION_CACHE="false")
    elsewhere = tmp_path / "elsewhere"
    given = run(tmp_path, JAX_COMPILATION_CACHE_DIR=str(elsewhere))
    assert off.stdout.strip() == "None"
    assert given.stdout.strip() == str(elsewhere)
    assert not (tmp_path / "programs").exists()


def test_a_folder_that_cannot_be_made_is_told_and_nothing_is_kept(tmp_path):
    (tmp_path / "file").touch()
    done = run(tmp_path / "file")
    assert done.stdout.strip() == "None"
    assert "compiled programs are not kept" in done.stderr


@pytest.mark.parametrize("limit, left", [(0, []), (25, ["b", "c"]), (99, [*"abc"])])
def test_the_oldest_programs_go_first(tmp_path, monkeypatch, limit, left):
    for age, name in enumerate("cba"):
        (tmp_path / name).write_bytes(b"0123456789")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    monkeypatch.setattr(compilation, "LIMIT", limit)
    compilation._prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_programs_are_released_where_they_take_too_many_maps(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(compilation.jax, "clear_caches", lambda: calls.append(1))
    for name, text in (("MAPS", "a map\n" * 60), ("MAX_MAPS", "100\n")):
        path = tmp_path / name
        path.write_text(text)
        monkeypatch.setattr(compilation, name, path)
    assert compilation.release_programs()
    assert calls == [1]
    (tmp_path / "MAX_MAPS").write_text("1000\n")
    assert not compilation.release_programs()
    (tmp_path / "MAPS").unlink()  # no Linux
    assert not compilation.release_programs()
    assert calls == [1]


@pytest.mark.skipif(not compilation.MAPS.exists(), reason="counts maps as Linux does")
def test_released_programs_give_their_maps_back():
    code = """
import jax, jax.numpy as jnp
from offjax.devices import compilation
compilation.MAPS_SHARE = 0.0
count = lambda: compilation.MAPS.read_bytes().count(b"\\n")
jax.pmap(lambda x: x + 1)(jnp.ones((1, 3)))
before = count()
def program(n):
    def f(x):
        for i in range(30):
            x = jnp.sort(jnp.sin(x) @ x)
        return x
    return jax.pmap(f).lower(jnp.ones((1, n, n))).compile()
for n in range(3, 9):
    program(n)
full = count()
assert compilation.release_programs()
print(before, full, count())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    before, full, after = map(int, done.stdout.split())
    assert full > before + 20
    assert after < (before + full) / 2
