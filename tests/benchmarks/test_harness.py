"""What benchmarks count, by hand."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import harness
from offjax.errors import UserError


def test_products_are_counted_in_loops_and_gradients():
    x, w = jnp.ones((3, 4)), jnp.ones((4, 5))
    assert harness.matmul_flops(lambda x: x @ w, x) == 2 * 3 * 4 * 5

    def loop(x):
        square = jnp.ones((4, 4))
        return jax.lax.scan(
            lambda c, _: (jax.jit(jnp.matmul)(c, square), None), x, None, 7
        )

    assert harness.matmul_flops(loop, x) == 7 * 2 * 3 * 4 * 4
    gradient = jax.grad(lambda w: jnp.sum((x @ w) ** 2))
    assert harness.matmul_flops(gradient, w) == 2 * 2 * 3 * 4 * 5  # forth, and for w


def test_convolutions_are_counted():
    def convolve(x, kernel, groups=1):
        return jax.lax.conv_general_dilated(
            x, kernel, (1,), "SAME", feature_group_count=groups,
            dimension_numbers=("NHC", "HIO", "NHC"),
        )  # fmt: skip

    x, kernel = jnp.ones((2, 7, 4)), jnp.ones((3, 4, 6))
    assert harness.matmul_flops(convolve, x, kernel) == 2 * (2 * 7 * 6) * (3 * 4)
    grouped = jnp.ones((3, 2, 6))  # each output reads half the inputs
    found = harness.matmul_flops(lambda x, k: convolve(x, k, 2), x, grouped)
    assert found == 2 * (2 * 7 * 6) * (3 * 2)


def test_what_cannot_be_counted_is_refused():
    x = jnp.ones((4, 4))

    def loop(count, x):
        return jax.lax.fori_loop(0, count, lambda _, y: y @ x, x)

    with pytest.raises(harness.UnknownFlopsError, match="unknown length"):
        harness.matmul_flops(loop, 3, x)
    assert harness.matmul_flops(lambda x: loop(3, x), x) == 3 * 2 * 4**3
    sums = lambda n: jax.lax.fori_loop(0, n, lambda i, s: s + i, 0)  # noqa: E731
    assert harness.matmul_flops(sums, 3) == 0

    def branches(choice, x):
        return jax.lax.cond(choice, lambda x: x @ x, lambda x: x, x)

    with pytest.raises(harness.UnknownFlopsError, match="branches"):
        harness.matmul_flops(branches, True, x)


def test_numbers_are_written_beside_the_machine(tmp_path, capsys):
    path = tmp_path / "found.json"
    found = harness.opening()
    assert "no accelerator at hand: CPU numbers" in capsys.readouterr().out
    harness.write(str(path), {"rate": 1.5, "machine": found})
    assert json.loads(path.read_text()) == {"machine": found, "rate": 1.5}
    harness.write(str(path), {"rate": 2})
    assert json.loads(path.read_text())["machine"]["platform"] == "cpu"
    harness.write(None, {})
    with pytest.raises(UserError, match="--json="):
        harness.write(str(tmp_path / "missing" / "found.json"), {})


def test_a_training_counts_steps_of_the_critics():
    tiny = {"hidden_dims": ((8, 8),), "batch_size": (8,)}
    training = harness.Training("td3_bc", 2, rows=2000, overrides=tiny)
    assert training.seed_steps == 2 and training.compilations == 1
    assert training.per_seconds(updates=10, seconds=4.0) == 10 * 2 * 2 / 4
    before = jax.tree.leaves(training._slots["state"])
    assert training.rate(3) > 0
    assert all(x.is_deleted() for x in before)  # the new states have their memory
    need = harness.needed("td3_bc", 2000, tiny)
    assert need.slot == training.bytes_per_seed
    arrays = training.program_bytes()["arrays"]  # of a device, which has one seed
    assert arrays == pytest.approx(need.data + 2 * need.slot, rel=0.1)
    # One critic step: the target's policy and critics, the critics forth and twice
    # back but for their first layer's inputs; half a step of the policy.
    actor = 17 * 8 + 8 * 8 + 8 * 6
    critic = 23 * 8 + 8 * 8 + 8 * 1
    critics = 2 * critic + (2 * critic + 2 * (2 * critic - 23 * 8))
    policy = (2 * actor - 17 * 8 + actor) + (2 * critic)
    assert training.flops == pytest.approx(2 * 8 * (actor + critics + policy / 2))


def test_a_later_stage_reads_stages_that_were_begun():
    tiny = {"gcbc.hidden_dims": ((8, 8),), "planner.hidden_dims": ((8, 8),)}
    tiny["planner.batch_size"] = (4,)
    training = harness.Training("lcd_mlp:planner", 2, 500, tiny, preset="demo")
    assert training.rate(2) > 0
    rows, tokens = 4 * 4, 4 * 2  # plans of four, sentences of two words
    words = 64 * 32  # forth, and back to the weights
    layers = (32 + 32) * 8 + 8 * 8 + 8 * 32  # forth, back to weights and to inputs
    assert training.flops == 2 * (tokens * 2 * words + rows * 3 * layers)
    with pytest.raises(UserError, match="no stage 'critic': gcbc, planner"):
        harness.Training("lcd_mlp:critic", 2, 500, preset="demo")


def test_rates_are_medians_with_ranges():
    assert harness.Rate.of([3.0, 1.0, 9.0]) == (3.0, 1.0, 9.0)


def test_the_peak_is_that_of_a_processor():
    assert 1e8 < harness.peak(seconds=0.01) < 1e14
