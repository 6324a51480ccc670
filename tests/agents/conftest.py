"""Tiny runs and their archives."""

import functools
import shutil
from pathlib import Path

import pytest

from offjax.agents import archive
from offjax.behavior import budget as behavior
from offjax.envs import budget
from offjax.runner import run as api
from tests.budget_data import dataset_of
from tests.runner.tiny_training import TINY


@pytest.fixture(scope="session")
def varied():
    """Budget Allocation with an instance for each episode, so that seeds matter."""
    data = behavior.generate(10, "smooth", num_episodes=60, seed=1, instances=50)
    spec = budget.spec(horizon=10, instances=50, context=True)
    return dataset_of(data, spec, "test/varied10-v0")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """What `archived` gives copies of; the same arguments are trained once."""

    @functools.cache
    def make(method, dataset, overrides, options):
        folder = tmp_path_factory.mktemp("trained")
        request = api.Request(method, "demo", dict(overrides))
        runs = str(folder / "runs")
        run = api.train(request, dataset, runs_dir=runs, quiet=True, **dict(options))
        path = folder / f"{method.replace('+', '_')}.npz"
        archive.write(api.load_run(run.path, dataset), path)
        return run, path

    return make


@pytest.fixture
def archived(trained, tmp_path):
    """`(method, dataset, …) → (run, path of an archive that may be changed)`."""

    def make(method, dataset, overrides=TINY, **options):
        options = {"num_seeds": 2, "eval_episodes": 2} | options
        given = (tuple(each.items()) for each in (overrides, options))
        run, path = trained(method, dataset, *given)
        return run, Path(shutil.copy(path, tmp_path))

    return make
