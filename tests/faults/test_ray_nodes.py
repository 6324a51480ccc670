"""A sweep on two Ray nodes, one of which dies: every run once, the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from offjax.sweeps import on_ray, plan
from offjax.sweeps.engine import Place

pytestmark = pytest.mark.long
FILES = ("scores.csv", "episodes.csv", "metrics.csv")
SWEEP = {
    "entries": [
        {
            "methods": ["bc", "asp"],
            "datasets": [
                "offjax/budget/t10-smooth-v0",
                "offjax/budget/t10-mixed-v0",
                "offjax/budget/t20-smooth-v0",
            ],
            "preset": "demo",
            "config": {"num_steps": [300], "batch_size": [16, 24, 32]},
            "num_seeds": 2,
            "eval_episodes": 3,
            "checkpoint_every": 50,
        }
    ]
}


def runs(runs_dir):
    """Config hash → what the finished run recorded."""
    found = {}
    for path in runs_dir.glob("*/offjax/*/*/*/run.json"):
        record = json.loads(path.read_text())
        assert record["status"] == "finished"
        assert record["config_hash"] not in found, "the same run twice"
        found[record["config_hash"]] = [(path.parent / f).read_text() for f in FILES]
    return found


def test_a_node_dies_in_the_middle(tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    sweep_file = tmp_path / "sweep.json"
    sweep_file.write_text(json.dumps(SWEEP))
    command = [sys.executable, "-m", "experiments.sweep", f"--sweep_file={sweep_file}"]
    command += [f"--data_dir={tmp_path / 'data'}", "--host_devices=2"]
    local = tmp_path / "local"
    done = subprocess.run(
        [*command, f"--runs_dir={local}", "--max_parallel=2"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        where = tmp_path / "ray"
        entries = plan.parse_file(sweep_file)
        from offjax.catalog.load import load_dataset

        data = tmp_path / "data"
        jobs = plan.expand(entries, lambda name: load_dataset(name, data), "ray")
        assert len(jobs) == 18

        def kill():
            while len(list(where.glob("*/offjax/*/*/*/run.json"))) < 4:
                time.sleep(0.1)
            time.sleep(1.0)
            cluster.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        place = Place(str(where), "ray", str(data), host_devices=2)
        outcomes = on_ray.run(jobs, place, lambda outcomes: None, cluster.address)
        killer.join()
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert {o.status for o in outcomes.values()} == {"finished"}
    assert runs(where) == runs(local)
