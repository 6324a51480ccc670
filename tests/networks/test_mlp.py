"""Multi-layer perceptrons against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.networks.initializers import initialized
from offjax.networks.mlp import MLP, QEnsemble

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def forward(params, x, layer_norm=False, activation=lambda x: np.maximum(x, 0)):
    """The network's formula, from its parameters."""
    params = jax.tree.map(np.asarray, params)
    count = sum(name.startswith("Dense") for name in params)
    for i in range(count):
        layer = params[f"Dense_{i}"]
        x = x @ layer["kernel"] + layer["bias"]
        if i < count - 1:
            if layer_norm:
                norm = params[f"LayerNorm_{i}"]
                x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
                    x.var(-1, keepdims=True) + 1e-6
                )
                x = x * norm["scale"] + norm["bias"]
            x = activation(x)
    return x


def perturbed(network, *inputs):
    """Parameters without zeros or ones that could hide a mistake."""
    params = jax.jit(network.init)(jax.random.PRNGKey(0), *inputs)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    noisy = [x + 0.1 * rng.normal(size=x.shape).astype(np.float32) for x in leaves]
    return jax.tree.unflatten(structure, noisy)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_mlp(layer_norm):
    network = MLP((7, 6), 4, layer_norm=layer_norm)
    params = perturbed(network, X)
    expected = forward(params["params"], X, layer_norm)
    np.testing.assert_allclose(network.apply(params, X), expected, atol=1e-5)
    assert np.any(expected < 0)  # no activation on the output


def test_other_activations():
    network = MLP((7,), 2, activation=jnp.tanh)
    params = perturbed(network, X)
    expected = forward(params["params"], X, activation=np.tanh)
    np.testing.assert_allclose(network.apply(params, X), expected, atol=1e-5)


def test_output_scale_is_a_factor_on_the_variance_of_the_last_weights():
    spreads = []
    for scale in (1.0, 0.01):
        params = MLP((256,), 256, output_scale=scale).init(jax.random.PRNGKey(0), X)
        spreads.append(np.std(params["params"]["Dense_1"]["kernel"]))
    assert spreads[0] == pytest.approx(1 / 16, rel=0.02)  # 1/√fan_in
    assert spreads[1] == pytest.approx(1 / 160, rel=0.02)


def test_members_of_an_ensemble_are_networks_of_their_own():
    network = QEnsemble((7, 6), size=3, settings={"layer_norm": True})
    actions = X[:, :2]
    params = perturbed(network, X, actions)
    values = network.apply(params, X, actions)
    assert values.shape == (3, 5)
    (members,) = params["params"].values()
    for i in range(3):
        mine = jax.tree.map(lambda x, i=i: x[i], members)
        expected = forward(mine, np.concatenate([X, actions], -1), layer_norm=True)
        np.testing.assert_allclose(values[i], expected[:, 0], atol=1e-5)
    assert not np.allclose(values[0], values[1])


def test_layers_can_begin_as_those_of_pytorch():
    critics = QEnsemble((400,), size=2)
    observation, action = np.zeros(60, np.float32), np.zeros(40, np.float32)
    key = jax.random.key(0)
    params = critics.init(key, observation, action)
    assert initialized(params, "lecun", key) is params
    found = jax.tree.leaves_with_path(initialized(params, "torch", key))
    assert len(found) == 4
    draws = set()
    for path, leaf in found:
        bound = (1 / 100 if "Dense_0" in jax.tree_util.keystr(path) else 1 / 400) ** 0.5
        assert np.abs(leaf).max() <= bound
        if leaf.size > 100:  # uniform: deviation bound/√3, and no member like another
            np.testing.assert_allclose(leaf.std(), bound / 3**0.5, rtol=0.1)
            assert not np.array_equal(leaf[0], leaf[1])
        draws.add(float(leaf.ravel()[0] / bound))
    assert len(draws) == 4
