"""The object network against a plain NumPy one, and what it cannot be given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.networks.objects import ObjectMLP, check_objects

NETWORK = ObjectMLP((2, 3, 4), (8,), 5, object_dims=(6, 7), query_dim=9)
RNG = np.random.default_rng(0)
OBSERVATION, CONDITION = RNG.normal(size=15), RNG.normal(size=3)


@pytest.fixture(scope="module")
def params():
    observation, condition = jnp.asarray(OBSERVATION), jnp.asarray(CONDITION)
    made = NETWORK.init(jax.random.key(0), observation, condition)
    return jax.tree.map(lambda x: x + 0.1 * RNG.normal(size=x.shape), made)


def dense(layer, x):
    return x @ layer["kernel"] + layer["bias"]


def hidden(linear, norm, x):
    x = dense(linear, x)
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-6) * norm["scale"] + norm["bias"]
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def perceptron(layers, x):
    return dense(layers["Dense_1"], hidden(layers["Dense_0"], layers["LayerNorm_0"], x))


def test_it_reads_all_objects_alike_and_attends_to_them(params):
    tree = jax.tree.map(np.asarray, params)["params"]
    rest = np.concatenate([OBSERVATION[:2], OBSERVATION[14:]])
    read = []
    for i in range(3):
        x = np.concatenate([rest, OBSERVATION[2 + 4 * i : 6 + 4 * i]])
        for k in range(2):
            x = hidden(tree[f"Dense_{k}"], tree[f"LayerNorm_{k}"], x)
        read.append(x)
    scores = perceptron(tree["MLP_0"], np.concatenate([OBSERVATION, CONDITION]))
    picked = []
    for of_head in scores.reshape(2, 3):
        weights = np.exp(of_head) / np.exp(of_head).sum()
        picked.append(sum(w * x for w, x in zip(weights, read, strict=True)))
    expected = perceptron(tree["MLP_1"], np.concatenate([rest, *picked, CONDITION]))
    found = NETWORK.apply(params, jnp.asarray(OBSERVATION), jnp.asarray(CONDITION))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_is_its_rows(params):
    observations = jnp.asarray(RNG.normal(size=(4, 15)))
    conditions = jnp.asarray(RNG.normal(size=(4, 3)))
    found = NETWORK.apply(params, observations, conditions)
    alone = [
        NETWORK.apply(params, *row)
        for row in zip(observations, conditions, strict=True)
    ]
    np.testing.assert_allclose(found, np.stack(alone), atol=1e-5)


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ((2, 3), "first column, the number and the width"),
        ((2, 0, 4), "first column, the number and the width"),
        ((-1, 2, 4), "first column, the number and the width"),
        ((4, 3, 4), "do not fit into observations of 15 columns"),
    ],
)
def test_objects_that_are_not_there_are_refused(objects, problem):
    with pytest.raises(UserError, match=problem):
        check_objects(objects, 15)


def test_none_and_all_columns_are_fine():
    check_objects((), 15)
    check_objects((0, 3, 5), 15)
