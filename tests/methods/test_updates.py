"""Three consecutive updates of each method against PyTorch, in float64.

The fixtures hold settings, batches, and every network before and after; they are made
by tests/fixtures/make_update_reference.py, which draws the noise of each step from the
same keys. All weights agree to 1e-9: delays, targets, dual variables, step sizes,
and the randomness, too, are then as the papers' equations say.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.algorithms import cql, td3_bc
from offjax.types import Statistics, Transitions

FIXTURES = Path(__file__).parents[1] / "fixtures"

# How the fixtures' words are spelt in the package.
CASES = {"td3_bc": td3_bc, "cql": cql, "cql_lagrange": cql}
SETTINGS = {"critic_lr": "lr", "tau": "polyak"}
DUALS = {"target_critic": "target_params", "log_alpha_prime": "log_multiplier"}
PARTS = {"cql": DUALS, "cql_lagrange": DUALS}


def make_config(method, settings):
    settings = {SETTINGS.get(name, name): value for name, value in settings.items()}
    return method.Config(**settings)


def make_state(method, key, statistics, config):
    return method.init(key, SimpleNamespace(statistics=statistics), config, {})


def run_update(method, state, batch, config):
    return jax.jit(method.update)(state, batch, config, {})[0]


# End of the package's words.


def read(case):
    """A fixture as nested dictionaries; lists stand for tuples of integers."""
    result = {}
    for path, value in np.load(FIXTURES / f"updates_{case}.npz").items():
        *parents, leaf = path.split("/")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    settings = {name: value.tolist() for name, value in result["config"].items()}
    settings["hidden_dims"] = tuple(settings["hidden_dims"])
    return SimpleNamespace(**result | {"config": settings})


def weights(part):
    """Those of a trained network, or of a target, which has nothing else."""
    return part.params if hasattr(part, "params") else part


def with_weights(part, new):
    """The same part of a state with other weights, of the same shapes."""
    old = weights(part)
    assert jax.tree.map(np.shape, old) == jax.tree.map(np.shape, new)
    return part.replace(params=new) if hasattr(part, "params") else new


def wide(tree):
    """All floats of a tree as float64."""

    def leaf(x):
        x = jnp.asarray(x)
        return x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(leaf, tree)


@pytest.mark.parametrize("case", CASES)
def test_three_updates(case):
    with jax.enable_x64(True):
        fixture, method = read(case), CASES[case]
        names = {name: PARTS.get(case, {}).get(name, name) for name in fixture.before}
        statistics = Statistics(fixture.mean, fixture.std, fixture.low, fixture.high)
        config = make_config(method, fixture.config)
        state = make_state(method, fixture.key, statistics, config)
        parts = {
            names[name]: with_weights(getattr(state, names[name]), new)
            for name, new in wide(fixture.before).items()
        }
        state = wide(state.replace(**parts))
        for i in range(3):
            rows = {name: value[i] for name, value in fixture.batch.items()}
            batch = Transitions(**rows, has_next_action=rows["terminals"] == 0)
            state = run_update(method, state, batch, config)
        for name, expected in fixture.after.items():
            got = weights(getattr(state, names[name]))
            assert jax.tree.structure(got) == jax.tree.structure(expected)
            for x, y in zip(
                jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
            ):
                np.testing.assert_allclose(x, y, rtol=0, atol=1e-9, err_msg=name)
