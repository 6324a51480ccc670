"""What TAB offers, by the function and through the shells that are here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def complete(offjax, tmp_path_factory):
    place = str(tmp_path_factory.mktemp("cache"))

    def answer(*words):
        done = offjax("complete", *words, OFFJAX_CACHE=place)
        assert done.code == 0, done.errors
        return done.output.split()

    return answer


def test_commands_and_flags(complete):
    assert complete("ev") == ["evaluate"]
    assert "run" in complete("")
    assert complete("run", "--num_s") == ["--num_seeds=", "--num_steps="]
    assert complete("run", "--resu") == ["--resume"]
    assert complete("run", "--preset=s") == ["--preset=small"]
    assert complete("list", "me") == ["methods"]
    assert complete("nothing", "x") == []


def test_methods_datasets_and_hyperparameters(complete):
    for _ in range(2):  # found, then kept
        assert complete("run", "--method=iql") == ["--method=iql", "--method=iql_cfpi"]
    assert complete("sweep", "--methods=bc,awa") == ["--methods=bc,awac"]
    mazes = [f"--dataset=offjax/maze2d/umaze{d}-v0" for d in ("-dense", "")]
    assert complete("run", "--dataset=offjax/maze2d/um") == mazes
    assert complete("collect", "offjax/maze2d/large-v") == ["offjax/maze2d/large-v0"]
    found = complete("run", "--method=iql", "--config.exp")
    assert found == ["--config.expectile="]


def test_runs(complete, finished):
    run_id = finished[0].split("/")[-1]
    assert complete("evaluate", "la") == ["latest", "latest:bc"]
    assert complete("evaluate", run_id[:4]) == [run_id]
    assert complete("fqe", f"--run={run_id[:4]}") == [f"--run={run_id}"]


@pytest.mark.parametrize(
    "line, replies",
    [
        ("offjax ev", ["evaluate"]),
        ("offjax run --preset=sm", ["small"]),
        ("offjax run --num_st", ["--num_steps="]),
        ("offjax run --resume --layout=", ["auto", "map", "vmap"]),
    ],
)
def test_bash(line, replies):
    """bash replaces what follows the last = or :, so the rest is not repeated."""
    shell = f"""
offjax() {{ {sys.executable} -m offjax "$@"; }}
source <(offjax completion bash)
COMP_LINE='{line}' COMP_POINT={len(line)}
_offjax
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert done.stdout.split() == replies, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_sound(offjax, shell, tmp_path):
    code, script, _ = offjax("completion", shell)
    assert code == 0 and "offjax complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = tmp_path / "script"
    path.write_text(script)
    subprocess.run([shell, "-n", str(path)], check=True)
    if shell == "fish":
        program = tmp_path / "offjax"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m offjax "$@"\n')
        program.chmod(0o755)
        environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = f"source {path}; complete -C 'offjax run --preset=sm'"
        done = subprocess.run(
            ["fish", "-c", command], capture_output=True, text=True, env=environment
        )
        assert done.stdout.split() == ["--preset=small"]
