"""The U-Net's size and shapes; its values are compared in test_diffusion_planner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.networks.temporal_unet import (
    Convolution,
    TemporalUNet,
    check_sizes,
    sinusoid,
)


def parameters(rows, **sizes):
    plans, texts = jnp.zeros((1, rows, 64)), jnp.zeros((1, 5, 4096))
    shapes = jax.eval_shape(
        TemporalUNet(**sizes).init,
        jax.random.PRNGKey(0),
        plans,
        jnp.zeros(1, jnp.int32),
        texts,
    )["params"]
    return {
        part: sum(x.size for x in jax.tree.leaves(tree))
        for part, tree in shapes.items()
    }


def test_published_sizes():
    counts = parameters(4)
    assert sum(counts.values()) == 20_956_416
    assert counts["time1"] + counts["time2"] == 33_088
    assert counts["down1_first"] == 444_416
    assert counts["down2_attention"] == 1_181_184
    assert counts["middle_second"] == 2_657_792
    assert counts["up2_first"] == 1_918_976
    assert counts["up1_attention"] == 1_065_152
    assert counts["head"] + counts["output"] == 24_832
    assert parameters(1) == counts  # plans of any length share parameters
    assert sum(parameters(4, multipliers=(1, 2, 4, 8)).values()) > 24_000_000


@pytest.mark.parametrize("length", [1, 2, 6])
def test_convolution_is_that_of_numpy(length):
    rng = np.random.default_rng(length)
    x = rng.normal(size=(2, length, 3)).astype(np.float32)
    layer = Convolution(4)
    params = layer.init(jax.random.PRNGKey(0), x)
    kernel, bias = (np.asarray(params["params"][n]) for n in ("kernel", "bias"))
    found = layer.apply(params, x)
    for b in range(2):
        for o in range(4):
            expected = bias[o] + sum(
                np.convolve(x[b, :, i], kernel[::-1, i, o], "full")[2 : 2 + length]
                for i in range(3)
            )
            np.testing.assert_allclose(found[b, :, o], expected, atol=1e-5)


def test_sinusoid_by_hand():
    times = np.array([0.0, 3.0, 19.0])
    frequencies = 10_000 ** (-np.arange(32) / 31)
    angles = times[:, None] * frequencies
    expected = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    np.testing.assert_allclose(sinusoid(times, 64), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((64, (), 5, 8), "multipliers"),
        ((20, (1,), 5, 8), "multiple of groups"),
        ((64, (1,), 4, 8), "odd"),
    ],
)
def test_sizes_that_do_not_fit(sizes, message):
    with pytest.raises(UserError, match=message):
        check_sizes(*sizes)
