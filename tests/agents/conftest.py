"""Tiny runs and their archives."""

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


@pytest.fixture
def archived(tmp_path):
    """`(method, dataset, …) → (run, path of its archive)`."""

    def make(method, dataset, overrides=None, **options):
        options = {"num_seeds": 2, "eval_episodes": 2, "quiet": True} | options
        given = TINY if overrides is None else overrides
        request = api.Request(method, "demo", given)
        run = api.train(request, dataset, runs_dir=str(tmp_path / "runs"), **options)
        path = tmp_path / f"{method.replace('+', '_')}.npz"
        archive.write(api.load_run(run.path, dataset), path)
        return run, path

    return make
