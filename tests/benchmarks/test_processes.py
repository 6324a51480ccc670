"""How peers are started and timed, on scripts that pretend to be some."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks import processes
from offjax.errors import UserError

PEERS = Path(processes.__file__).parent / "peers"
PEER = """
import json, os, sys, time
sys.path.insert(0, {folder!r})
from timing import report

def work():
    begin = time.time()
    time.sleep(1.0)
    span = [begin, time.time(), len(os.sched_getaffinity(0)), int(sys.argv[2])]
    with open(f"{log}/{{os.getpid()}}.json", "w") as file:
        json.dump(span, file)

time.sleep(0.1 * (os.getpid() % 3))  # prepares for differently long
print("something else")
report(work, sys.argv[1])
"""


def peer(tmp_path, device):
    script = tmp_path / "peer.py"
    script.write_text(PEER.format(folder=str(PEERS), log=tmp_path))
    return [sys.executable, str(script), device]


def spans(tmp_path):
    found = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    return sorted(found)


def test_on_cpus_there_is_a_process_for_each_core(tmp_path):
    cores = len(processes.available_cores())
    rates = processes.rates(peer(tmp_path, "cpu"), updates=100, sharing=3)
    assert list(rates) == ["one process", "process per core"]
    assert 0 < rates["one process"] <= 100 / 1.0
    found = spans(tmp_path)
    assert [s[2:] for s in found] == [[cores, cores]] + [[1, 1]] * cores


def test_on_an_accelerator_several_share_it_and_work_at_the_same_time(tmp_path):
    rates = processes.rates(peer(tmp_path, "cuda"), updates=100, sharing=3)
    assert list(rates) == ["one process", "3 processes"]
    found = spans(tmp_path)
    assert len(found) == 4
    assert max(s[0] for s in found[1:]) < min(s[1] for s in found[1:])
    assert all(s[2] == len(os.sched_getaffinity(0)) for s in found)


def test_a_peer_that_fails_is_told_with_its_last_words(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("import no_such_module")
    with pytest.raises(UserError, match="No module named 'no_such_module'"):
        processes.rates([sys.executable, str(script)], 1, 1)
    with pytest.raises(UserError, match="cannot be started"):
        processes.rates(["/no/such/python"], 1, 1)


@pytest.mark.parametrize(
    "script,arguments",
    [
        ("value_based.py", ["bc", "2"]),
        ("value_based.py", ["td3_bc", "2"]),
        ("value_based.py", ["iql", "2"]),
        ("value_based.py", ["cql", "2"]),
        ("decision_transformer.py", ["1"]),
    ],
)
def test_a_pytorch_loop_is_timed(script, arguments):
    python = os.environ.get("TORCH_PYTHON")
    if not python:
        pytest.skip("TORCH_PYTHON names no interpreter that has torch")
    rates = processes.rates([python, str(PEERS / script), *arguments], 2, 1)
    assert len(rates) == 2 and all(rate > 0 for rate in rates.values())


def test_envpool_is_timed():
    python = os.environ.get("ENVPOOL_PYTHON")
    if not python:
        pytest.skip("ENVPOOL_PYTHON names no interpreter that has EnvPool")
    command = [python, str(PEERS / "envpool_steps.py"), "hopper", "2", "1", "3"]
    rates = processes.rates(command, 2 * 1 * 3, 1)
    assert len(rates) == 2 and all(rate > 0 for rate in rates.values())


def test_a_project_that_is_not_there_is_named(tmp_path):
    command = [sys.executable, str(PEERS / "projects.py"), "jax_corl", str(tmp_path)]
    with pytest.raises(UserError, match="is this a checkout of the project"):
        processes.rates([*command, "1"], 1, 1)


def test_a_process_that_takes_too_long_is_ended():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = processes.Process(command, {}, seconds=0.1)
    process.ready()
    process.begin()
    with pytest.raises(processes.LateError):
        process.output()
    process.close()
