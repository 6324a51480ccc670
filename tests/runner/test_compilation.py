"""Compiled programs on disk: where, when not, and how many."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from offjax.runner import compilation

PROGRAM = """
import jax, jax.numpy as jnp
from offjax.runner import compilation
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
