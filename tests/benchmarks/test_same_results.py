"""What counts as a difference between the results of two checkouts."""

import numpy as np
import pytest

from benchmarks.same_results import compare
from offjax.errors import UserError

KERNEL = "sarsa/target_params.Dense_0.kernel"


@pytest.fixture
def leaves():
    return {
        KERNEL: np.arange(4, dtype=np.float32),
        "sarsa/step": np.array([24, 24], np.int32),
        "evaluation/returns": np.array([[0.0, np.nan]]),
    }


def test_equal_leaves_differ_in_nothing(leaves):
    assert compare(leaves, {name: leaf.copy() for name, leaf in leaves.items()}) == []


def test_a_differing_leaf_is_named_with_the_largest_gap(leaves):
    other = leaves[KERNEL].copy()
    other[1:3] += (0.25, 0.5)
    (line,) = compare(leaves, leaves | {KERNEL: other})
    assert line == f"{KERNEL}: up to 0.5 apart, 2 of 4 numbers"


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (KERNEL, np.array([-0.0, 1, 2, 3], np.float32)),
        (KERNEL, np.arange(4, dtype=np.float64)),
        (KERNEL, np.arange(4, dtype=np.float32)[:, None]),
        ("sarsa/step", np.array([24, 25], np.int32)),
        ("evaluation/returns", np.array([[0.0, 1.0]])),
    ],
)
def test_every_bit_counts(leaves, name, other):
    (line,) = compare(leaves, leaves | {name: other})
    assert line.startswith(f"{name}: ")


def test_leaves_without_numbers_are_equal():
    assert compare({"a/x": np.zeros((2, 0))}, {"a/x": np.zeros((2, 0))}) == []
    assert compare({"a/x": np.zeros((2, 0))}, {"a/x": np.zeros((3, 0))})


def test_a_renamed_leaf_is_compared_under_its_new_name(leaves):
    new = dict(leaves)
    target = "sarsa/target_critic.Dense_0.kernel"
    new[target] = new.pop(KERNEL)
    renames = [(r"/target_params\.", "/target_critic.")]
    assert compare(leaves, new, renames) == []
    new[target] = new[target] + 1
    (line,) = compare(leaves, new, renames)
    assert line.startswith(target)


def test_two_leaves_cannot_become_one(leaves):
    with pytest.raises(UserError, match="two old leaves the name 'x'"):
        compare(leaves, leaves, [(".*/.*", "x")])


def test_a_leaf_of_one_side_is_a_difference_unless_ignored(leaves):
    new = dict(leaves)
    del new["sarsa/step"]
    new["sarsa/count"] = np.zeros(2)
    lines = compare(leaves, new)
    assert lines == ["only in old: sarsa/step", "only in new: sarsa/count"]
    assert compare(leaves, new, ignored=["^sarsa/step$"]) == lines[1:]
    assert compare(leaves, new, ignored=["^sarsa/"]) == []


def test_an_ignored_leaf_of_both_sides_is_compared(leaves):
    new = leaves | {"sarsa/step": np.array([24, 25], np.int32)}
    assert len(compare(leaves, new, ignored=["step"])) == 1
