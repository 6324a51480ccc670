"""Two host devices for every test, and a small dataset to train on."""

from __future__ import annotations

import tempfile

import jax
import pytest

from offjax.runner.devices import prepare_host_devices

prepare_host_devices(2)
# Many tests train the same small program: compile it once.
jax.config.update("jax_compilation_cache_dir", tempfile.mkdtemp(prefix="offjax-xla-"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session")
def budget_dataset():
    """Sixty episodes of ten steps of Budget Allocation, with its environment."""
    from offjax.behavior import budget as behavior
    from offjax.datasets.dataset import Dataset
    from offjax.envs import budget

    data = behavior.generate(10, "smooth", num_episodes=60, seed=1)
    return Dataset.from_arrays(
        data["observations"][:, :-1].reshape(600, -1),
        data["actions"].reshape(600, -1),
        data["rewards"].reshape(-1),
        data["terminals"].reshape(-1),
        data["timeouts"].reshape(-1),
        data["observations"][:, 1:].reshape(600, -1),
        spec=budget.spec(horizon=10),
        id="test/budget10-v0",
    )
