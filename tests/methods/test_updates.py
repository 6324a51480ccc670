"""Three consecutive updates of each method against PyTorch, in float64.

The fixtures hold settings, batches, and every network before and after; they are made
by tests/fixtures/make_update_reference.py, which draws the noise of each step from the
same keys. All weights agree to 1e-9: delays, targets, dual variables, step sizes,
and the randomness, too, are then as the papers' equations say.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.methods import (
    METHODS,
    awac,
    bc,
    bcq,
    cql,
    fql,
    iql,
    rebrac,
    rev_kl,
    sarsa,
    td3_bc,
)
from offjax.types import Model, Statistics, Transitions

FIXTURES = Path(__file__).parents[1] / "fixtures"

# How the fixtures' words are spelled in the package.
CASES = {
    "td3_bc": td3_bc,
    "cql": cql,
    "cql_lagrange": cql,
    "awac": awac,
    "bcq": bcq,
    "iql": iql,
    "iql_stale": iql,
    "sarsa_iqn": sarsa,
    "sarsa_mlp": sarsa,
    "rev_kl": rev_kl,
}
SETTINGS = {
    "cql_lagrange": {"lagrange_gap": "target_action_gap"},
    "awac": {"temperature": "awac_lambda"},
    "rev_kl": {"critic_lr": "actor_lr"},
}
PARTS = {"rev_kl": {"policy": "actor"}}
UPSTREAM = {
    "behavior": (
        bc,
        bc.Config(hidden_dims=(8, 6), head="mixture", num_components=3, squashed=True),
    ),
    "critic": (sarsa, sarsa.Config(hidden_dims=(8, 6), network="mlp")),
}
STAGES = {"behavior": ("bc", "actor"), "critic": ("sarsa", "critic")}


def make_config(case, settings):
    names = SETTINGS.get(case, {})
    settings = {names.get(name, name): value for name, value in settings.items()}
    return CASES[case].Config(**settings)


def make_upstream(weights, statistics):
    """Models of the stages that a method reads, with the fixture's weights."""
    result = {}
    for name, new in weights.items():
        method, config = UPSTREAM[name]
        stage, part = STAGES[name]
        state = make_state(method, jax.random.PRNGKey(0), statistics, config, {})
        new = with_weights(getattr(state, part), new)
        state = wide(state.replace(**{part: new}))
        result[stage] = Model(method.METHOD, config, state)
    return result


def make_state(method, key, statistics, config, upstream):
    example = SimpleNamespace(statistics=statistics)
    return jax.jit(lambda key: method.init(key, example, config, upstream))(key)


def run_update(method, state, batch, config, upstream):
    return jax.jit(method.update)(state, batch, config, upstream)[0]


# End of the package's words.


def read(case):
    """A fixture as nested dictionaries, its settings as Python values."""
    result = {"upstream": {}}
    for path, value in np.load(FIXTURES / f"updates_{case}.npz").items():
        *parents, leaf = path.split("/")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    settings = {name: value.tolist() for name, value in result["config"].items()}
    settings = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in settings.items()
    }
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
        names = PARTS.get(case, {})
        statistics = Statistics(fixture.mean, fixture.std, fixture.low, fixture.high)
        upstream = make_upstream(wide(fixture.upstream), statistics)
        config = make_config(case, fixture.config)
        state = make_state(method, fixture.key, statistics, config, upstream)
        for name, new in wide(fixture.before).items():
            name = names.get(name, name)
            state = state.replace(**{name: with_weights(getattr(state, name), new)})
        state = wide(state)
        for i in range(3):
            rows = {name: value[i] for name, value in fixture.batch.items()}
            batch = Transitions(**rows, has_next_action=rows["terminals"] == 0)
            state = run_update(method, state, batch, config, upstream)
        for name, expected in fixture.after.items():
            got = weights(getattr(state, names.get(name, name)))
            assert jax.tree.structure(got) == jax.tree.structure(expected)
            for x, y in zip(
                jax.tree.leaves(got), jax.tree.leaves(expected), strict=True
            ):
                np.testing.assert_allclose(x, y, rtol=0, atol=1e-9, err_msg=name)


def test_bcq_clips_moved_actions_to_the_box():
    """Decoded at the upper bound and moved beyond it, which the fixture never is."""

    def constant(params):  # zero kernels, biases of 5: both networks give about 1
        return jax.tree.map(lambda x: jnp.full_like(x, 5.0 * (x.ndim == 1)), params)

    statistics = Statistics(np.zeros(3), np.ones(3), np.full(2, -2.0), np.full(2, 4.0))
    config = bcq.Config(hidden_dims=(8, 6), vae_hidden_dims=(8, 6))
    state = make_state(bcq, jax.random.key(0), statistics, config, {})
    state = state.replace(
        vae=with_weights(state.vae, constant(weights(state.vae))),
        actor=with_weights(state.actor, constant(weights(state.actor))),
    )
    model = Model(bcq.METHOD, config, state)
    found = bcq.candidates(model, jnp.ones(3), jax.random.key(1), 4)
    np.testing.assert_array_equal(found.means, np.ones((4, 2)))
    np.testing.assert_array_equal(found.mode(), [4.0, 4.0])


@pytest.mark.parametrize(
    ("method", "expected"),
    [(awac, 3), (cql, 3), (iql, 3), (td3_bc, 3), (rebrac, 3), (fql, 5), (bcq, 7)],
)
def test_value_of_two_critics(method, expected):
    """Critics that are 7 and 3 everywhere: the lower, their mean, or the first."""

    def constant(x):  # only the biases of the last layer have the shape [2, 1]
        last = x.shape == (2, 1)
        return jnp.array([[7.0], [3.0]]) if last else jnp.zeros_like(x)

    statistics = Statistics(np.zeros(3), np.ones(3), np.full(2, -1.0), np.full(2, 1.0))
    config = method.Config()
    state = make_state(method, jax.random.key(0), statistics, config, {})
    critic = with_weights(state.critic, jax.tree.map(constant, state.critic.params))
    model = Model(method.METHOD, config, state.replace(critic=critic))
    assert float(model.q_value(jnp.ones(3), jnp.zeros(2))) == expected


@pytest.mark.parametrize("name", ["td3_bc", "iql", "cql", "awac"])
def test_networks_can_begin_as_those_of_corl(name, small_dataset, narrow):
    recipe = narrow(METHODS[name](small_dataset.spec, "demo"))
    (stage,) = recipe.with_config(name, initialization="torch").stages
    data = stage.view.arrays(small_dataset, stage.config, {})
    state = stage.method.init(jax.random.key(0), data, stage.config, {})
    networks = [state.actor.params, state.critic.params]
    networks += [state.value.params] if name == "iql" else []
    for leaf in jax.tree.leaves([n["params"] for n in networks]):
        if leaf.shape[-1:] == (16,):  # a hidden layer's
            assert np.abs(leaf).min() > 0
            assert np.abs(leaf).max() <= 3**-0.5
    with pytest.raises(UserError, match="initialization is 'kaiming'"):
        dataclasses.replace(stage.config, initialization="kaiming").validate()
