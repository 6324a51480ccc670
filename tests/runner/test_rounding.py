"""Products with rounded factors on CPUs, against NumPy's on rounded numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.devices.rounding import MANTISSA, rounded


def kept(x, bits):
    """float32 rounded to `bits` of mantissa, to nearest and ties to even, in NumPy."""
    drop = 23 - bits
    whole = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    half = (1 << (drop - 1)) - 1 + ((whole >> drop) & 1)
    whole = ((whole + half) >> drop) << drop
    return whole.astype(np.uint32).view(np.float32)


@pytest.fixture
def factors():
    rng = np.random.default_rng(0)
    shapes = (8, 16), (16, 4)
    return tuple(rng.normal(size=s).astype(np.float32) for s in shapes)


@pytest.mark.parametrize(("name", "bits"), MANTISSA.items())
def test_factors_are_rounded_forwards_and_backwards(factors, name, bits):
    x, w = factors

    def loss(w):
        return jnp.sum(jnp.tanh(x @ w) ** 2)

    value, gradient = jax.jit(rounded(jax.value_and_grad(loss), name))(w)
    hidden = np.tanh(kept(x, bits) @ kept(w, bits))
    np.testing.assert_allclose(value, (hidden**2).sum(), rtol=1e-6)
    back = kept(2 * hidden * (1 - hidden**2), bits)
    # A number between two roundings may go either way: far less than the rounding.
    off = np.abs(gradient - kept(x, bits).T @ back).mean()
    assert off < 0.05 * np.abs(gradient - jax.grad(loss)(w)).mean()


@pytest.mark.parametrize("inside", ["scan", "while", "cond", "jit", "vmap"])
def test_products_inside_inner_programs_are_rounded(factors, inside):
    x, w = factors

    def fn(x, w):
        if inside == "scan":
            return jax.lax.scan(lambda c, row: (c, row @ w), 0, x)[1]
        if inside == "while":
            return jax.lax.fori_loop(0, x[0, 0].astype(int) + 1, lambda i, _: x @ w,
                                     jnp.zeros((8, 4)))  # fmt: skip
        if inside == "cond":
            return jax.lax.cond(x[0, 0] < 9, lambda: x @ w, lambda: jnp.zeros((8, 4)))
        if inside == "jit":
            return jax.jit(jnp.matmul)(x, w)
        return jax.vmap(lambda row: row @ w)(x)

    found = rounded(fn, "bfloat16")(x, w)
    np.testing.assert_allclose(found, kept(x, 7) @ kept(w, 7), rtol=0, atol=1e-5)


def test_structures_pass_and_other_numbers_are_left_alone():
    def fn(tree):
        whole = tree["i"] @ tree["i"]
        return {"whole": whole, "sum": (tree["x"] + 0.1,)}

    i, x = np.arange(9).reshape(3, 3), np.float32(1 / 3)
    found = rounded(fn, "bfloat16")({"i": i, "x": x})
    np.testing.assert_array_equal(found["whole"], i @ i)
    assert found["sum"][0] == x + np.float32(0.1)


@pytest.mark.parametrize("name", ["default", "float32"])
def test_full_precision_is_the_function_itself(name):
    assert rounded(jnp.matmul, name) is jnp.matmul
