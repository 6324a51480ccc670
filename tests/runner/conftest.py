"""Finished runs that several tests read."""

from __future__ import annotations

import json
import shutil

import pytest

from offjax.runner.options import Options
from offjax.runner.train import train
from offjax.runner.training import Training, make_jobs
from tests.runner import tiny_training

TINY = {"num_steps": (4,), "hidden_dims": ((8,),), "batch_size": (8,)}


@pytest.fixture(scope="session")
def plain(budget_dataset, tmp_path_factory):
    """A tiny run that tests read; `copied` gives one that may be changed."""
    folder = tmp_path_factory.mktemp("plain")
    return tiny_training.train(budget_dataset, folder, **tiny_training.PLAIN)


@pytest.fixture
def copied(plain, tmp_path):
    """The folder of `plain`, copied to `tmp_path` as if it were still running."""
    root = plain.training.options.runs_dir
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    path = tmp_path / plain.path.relative_to(root)
    record = plain.folder.record | {"status": "running"}
    (path / "run.json").write_text(json.dumps(record))
    return path


@pytest.fixture(scope="session")
def tiny_runs(budget_dataset, tmp_path_factory):
    """A run without a critic, one that is a critic with a policy, one with both."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for method in ("bc", "iql", "cfpi_ensemble"):
        more = {"network": ("mlp",)} if method == "cfpi_ensemble" else {}
        job = make_jobs(method, "demo", budget_dataset, more | TINY)[0]
        options = Options(
            num_seeds=2, runs_dir=str(folder), eval_episodes=2, quiet=True
        )
        training = Training.of(job, method, "demo", budget_dataset, options)
        found[method] = train(training).path
    return found
