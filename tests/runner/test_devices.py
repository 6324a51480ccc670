import jax
import jax.numpy as jnp
import numpy as np
import pytest

from offjax.devices.layout import Program, choose_layout, lift
from offjax.devices.rounding import PRECISIONS
from offjax.errors import UserError


def _power_sum(slot, shared):
    total, _ = jax.lax.scan(
        lambda c, i: (c + slot["x"] ** i, None), 0.0, shared["powers"]
    )
    return {"total": total, "twice": 2 * slot["x"]}


@pytest.mark.parametrize("kind", ["map", "vmap"])
@pytest.mark.parametrize("num_slots", [1, 2, 3, 5])
def test_lift_computes_every_slot_and_drops_the_padding(kind, num_slots):
    x = np.arange(1, num_slots + 1, dtype=np.float32)
    powers = np.arange(4, dtype=np.float32)
    layout = choose_layout(num_slots, kind)
    program = lift(_power_sum, layout)
    result = program(
        layout.counts(), layout.shard({"x": x}), layout.replicate({"powers": powers})
    )
    result = layout.gather(result)
    expected = [sum(float(v) ** p for p in range(4)) for v in x]
    np.testing.assert_allclose(result["total"], expected, rtol=1e-6)
    np.testing.assert_array_equal(result["twice"], 2 * x)


def test_slots_are_spread_over_the_devices():
    layout = choose_layout(5, "auto")
    assert layout.kind == "map"  # the rule for CPUs
    assert len(layout.devices) == 2
    assert layout.per_device == 3
    np.testing.assert_array_equal(layout.counts(), [3, 2])
    assert choose_layout(1).active == 1


def test_one_device_leaves_the_others_idle():
    layout = choose_layout(3, max_devices=1)
    np.testing.assert_array_equal(layout.counts(), [3, 0])
    x = np.array([1.0, 2.0, 3.0], np.float32)
    program = lift(lambda slot, shared: slot + shared, layout)
    out = program(layout.counts(), layout.shard(x), layout.replicate(np.float32(1)))
    np.testing.assert_array_equal(layout.gather(out), x + 1)


def test_a_padded_slot_repeats_the_last():
    layout = choose_layout(3)
    sharded = layout.shard(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(sharded, [[1, 2], [3, 3]])
    np.testing.assert_array_equal(layout.gather(sharded), [1, 2, 3])


@pytest.mark.parametrize("kind", ["map", "vmap"])
def test_columns_without_elements_are_read_on_several_devices(kind):
    layout = choose_layout(2, kind)
    assert len(layout.devices) == 2
    width, empty = np.ones((2, 3), np.float32), np.zeros((2, 3, 0), np.float32)
    program = Program(
        lambda slot, shared: (
            jnp.concatenate([slot["x"][:, None], slot["none"], shared], -1).sum(),
            slot["none"],
        ),
        layout,
    )
    slots = layout.shard({"x": width, "none": empty})
    total, none = program(slots, layout.replicate(np.zeros((3, 0), np.float32)))
    np.testing.assert_array_equal(layout.gather(total), [3, 3])
    assert layout.gather(none).shape == (2, 3, 0)


@pytest.mark.parametrize("num_slots, kind", [(0, "auto"), (2, "pmap")])
def test_bad_layouts_are_user_errors(num_slots, kind):
    with pytest.raises(UserError):
        choose_layout(num_slots, kind)


def test_map_is_bit_for_bit_the_same_for_any_number_of_slots():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 32, 32)).astype(np.float32)

    def chain(slot, shared):
        def step(w, _):
            return jnp.tanh(w @ w.T) * 0.9 + 0.1 * w, None

        return jax.lax.scan(step, slot, None, length=20)[0]

    def run(which):
        layout = choose_layout(len(which), "map")
        out = lift(chain, layout)(
            layout.counts(), layout.shard(weights[which]), layout.replicate(())
        )
        return layout.gather(out)

    together = run([0, 1, 2, 3])
    np.testing.assert_array_equal(run([2])[0], together[2])
    np.testing.assert_array_equal(run([3, 1, 0])[1], together[1])


@pytest.mark.parametrize("kind", ["map", "vmap"])
def test_new_values_take_the_memory_of_the_old(kind):
    layout = choose_layout(5, kind)  # a device of three slots, one of two
    x = np.random.default_rng(0).normal(size=(5, 1000)).astype(np.float32)

    def grow(slot, shared):
        new = slot["x"] * slot["factor"]  # with a sum, a program may round otherwise
        return new, jnp.max(new + shared["more"])

    def run(replaced):
        slots = layout.shard({"x": x, "factor": np.arange(5, dtype=np.float32)})
        program = Program(grow, layout, replaced)
        new, total = program(slots, layout.replicate({"more": np.float32(1)}))
        return slots, program, layout.gather(new), layout.gather(total)

    slots, _, plain, plain_total = run(())
    assert not slots["x"].is_deleted()
    slots, program, new, total = run(("x",))
    np.testing.assert_array_equal(new, plain)
    np.testing.assert_array_equal(total, plain_total)
    assert not slots["factor"].is_deleted()
    # vmapped slots of a chunk need their old values until its end: nothing is gained.
    assert slots["x"].is_deleted() == (kind == "map")
    memory = program._compiled.memory_analysis()
    assert (memory.alias_size_in_bytes >= 3 * 1000 * 4) == (kind == "map")


@pytest.mark.parametrize("name", PRECISIONS)
def test_programs_are_traced_with_the_precision_of_their_layout(name):
    seen = []

    def product(slot, shared):
        seen.append(jax.config.jax_default_matmul_precision)
        return slot["x"] @ slot["x"]

    layout = choose_layout(1, precision=name)
    slots = layout.shard({"x": np.ones((1, 2, 2), np.float32)})
    out = Program(product, layout)(slots, layout.replicate({}))
    np.testing.assert_array_equal(layout.gather(out), 2 * np.ones((1, 2, 2)))
    assert set(seen) == {PRECISIONS[name]}


@pytest.mark.parametrize("name", ["tf32", "bfloat16"])
def test_cpus_round_the_factors_of_products(name):
    layout = choose_layout(1, precision=name)
    x = np.full((1, 1, 1), 1 + 2**-12, np.float32)
    out = Program(lambda slot, _: slot["x"] @ slot["x"], layout)(
        layout.shard({"x": x}), layout.replicate({})
    )
    np.testing.assert_array_equal(layout.gather(out), 1.0)


def test_an_unknown_precision_is_told():
    with pytest.raises(UserError, match=r"matmul_precision 'fp8'.*tf32"):
        choose_layout(1, precision="fp8")
