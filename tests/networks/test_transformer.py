"""The transformer's causality, masks and dropout; its values are held to PyTorch in
the tests of the algorithms."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.errors import UserError
from offjax.networks import transformer
from offjax.networks.transformer import (
    Attention,
    Dropout,
    Linear,
    Steps,
    TrajectoryTransformer,
    empty_window,
    push,
)

B, K, O, A = 2, 5, 3, 2  # noqa: E741


def steps(seed=0, mask=None):
    rng = np.random.default_rng(seed)
    return Steps(
        jnp.asarray(rng.normal(size=(B, K, O)), jnp.float32),
        jnp.asarray(rng.normal(size=(B, K, A)), jnp.float32),
        jnp.asarray(rng.normal(size=(B, K)), jnp.float32),
        jnp.asarray(np.tile(np.arange(K), (B, 1)), jnp.int32),
        mask,
    )


@pytest.fixture(scope="module", params=[True, False], ids=["pre_norm", "post_norm"])
def model(request):
    network = TrajectoryTransformer(
        order=("observations", "returns", "actions"),
        num_layers=2,
        num_heads=2,
        width=8,
        max_timesteps=9,
        pre_norm=request.param,
    )
    params = jax.jit(network.init)(jax.random.key(0), steps())
    return jax.jit(lambda s: network.apply(params, s))


def test_tokens_see_what_comes_before_in_the_order_and_nothing_else(model):
    before = model(steps())
    changed = steps()._replace(returns=steps().returns.at[:, 2].add(1.0))
    after = model(changed)
    for name, seen_from in (("observations", 3), ("returns", 2), ("actions", 2)):
        difference = np.abs(np.asarray(after[name] - before[name])).max((0, 2))
        assert np.all(difference[:seen_from] < 1e-6)
        assert np.all(difference[seen_from:] > 1e-4)


def test_masked_steps_are_not_seen(model):
    """Padding at the left under a mask is the shorter context itself."""
    full = steps()
    mask = jnp.broadcast_to(jnp.arange(K) >= 2, (B, K))
    short = jax.tree.map(lambda x: x[:, 2:], full)
    padded = model(full._replace(mask=mask))
    for name, hidden in model(short).items():
        np.testing.assert_allclose(padded[name][:, 2:], hidden, rtol=1e-4, atol=1e-5)
    assert all(np.all(np.isfinite(h)) for h in padded.values())


@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("reads", [("observations",), ("returns", "observations")])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_what_is_not_read_is_not_needed(pre_norm, reads, num_layers):
    shared = {"num_layers": num_layers, "num_heads": 2, "width": 8, "max_timesteps": 9}
    full = TrajectoryTransformer(pre_norm=pre_norm, **shared)
    part = TrajectoryTransformer(pre_norm=pre_norm, reads=reads, **shared)
    mask = jnp.broadcast_to(jnp.arange(K) >= 2, (B, K))
    params = jax.jit(full.init)(jax.random.key(0), steps())

    def loss(params, network):
        hidden = network.apply(params, steps(mask=mask))
        sizes = [jnp.sum(jnp.sin(hidden[name][:, 2:])) for name in reads]
        return sum(sizes), hidden

    run = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    ((_, whole), expected), ((_, partial), found) = run(params, full), run(params, part)
    assert set(partial) == set(reads)
    chex.assert_trees_all_close(
        partial, {name: whole[name] for name in reads}, rtol=1e-5, atol=1e-6
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_with_dropped_weights_is_the_same_attention():
    # At a rate so small that nothing is dropped, both ways to attend must agree.
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, 6, 8)), jnp.float32)
    mask = jnp.asarray([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]], bool)
    layer = Attention(2, dropout=1e-9)
    params = layer.init(jax.random.key(0), x, mask, (0, 1, 2), False)
    plain = layer.apply(params, x, mask, (0, 1, 2), False)
    written_out = layer.apply(
        params, x, mask, (0, 1, 2), True, rngs={"dropout": jax.random.key(1)}
    )
    np.testing.assert_allclose(plain[0], written_out[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain[1, 2:], written_out[1, 2:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_its_share(rate):
    x = jnp.ones((333, 301))  # an odd number of entries
    drop = jax.jit(lambda key: Dropout(rate).apply({}, x, True, rngs={"dropout": key}))
    y = np.asarray(drop(jax.random.key(0)))
    assert (y == 0).mean() == pytest.approx(rate, abs=0.005)
    assert y.mean() == pytest.approx(1.0, abs=0.01)
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - round(rate * 2**16) / 2**16))}
    rows = (y == 0).astype(float) - rate  # neighbors are independent
    assert abs((rows[:, 1:] * rows[:, :-1]).mean()) < 0.005
    assert not np.array_equal(y, drop(jax.random.key(1)))
    np.testing.assert_array_equal(Dropout(rate).apply({}, x, False), x)


def test_initial_weights():
    layer = {n: Linear(500, n) for n in ("uniform", "normal")}
    drawn = {
        n: layer[n].init(jax.random.key(0), jnp.zeros(100))["params"] for n in layer
    }
    for name in ("kernel", "bias"):  # ±1/√100
        values = np.abs(drawn["uniform"][name])
        assert values.max() <= 0.1 and values.max() > 0.099
        assert values.mean() == pytest.approx(0.05, abs=0.005)
    assert np.std(drawn["normal"]["kernel"]) == pytest.approx(0.02, rel=0.02)
    assert not np.any(drawn["normal"]["bias"])


def test_window_rolls():
    window = empty_window(3, 2, 1)
    for t in range(5):
        window = push(window, jnp.full(2, float(t)), 10.0 + t, jnp.int32(t))
        window = window._replace(actions=window.actions.at[-1].set(-t))
        assert np.asarray(window.mask).sum() == min(t + 1, 3)
    np.testing.assert_array_equal(window.timesteps, [2, 3, 4])
    np.testing.assert_array_equal(window.returns, [12, 13, 14])
    np.testing.assert_array_equal(window.actions[:, 0], [-2, -3, -4])
    np.testing.assert_array_equal(window.observations[:, 1], [2, 3, 4])
    assert push(window, jnp.zeros(2), 0.0, jnp.int32(5)).actions[-1, 0] == 0


def test_sizes_that_do_not_fit():
    with pytest.raises(UserError, match="max_timesteps=10"):
        transformer.check_sizes(11, 10, 8, 2)
    with pytest.raises(UserError, match="num_heads=3"):
        transformer.check_sizes(5, 10, 8, 3)
    transformer.check_sizes(10, 10, 9, 3)
