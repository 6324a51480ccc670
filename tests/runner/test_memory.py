"""Too many seeds are refused before they are allocated, with the number that fits."""

import re

import numpy as np
import pytest

import offjax
from offjax.devices.layout import choose_layout
from offjax.errors import UserError
from offjax.runner import memory
from offjax.runner.memory import Need


def fitting(error):
    """The number of seeds that a refusal names."""
    return int(re.search(r"([\d,]+) seeds fit", str(error))[1].replace(",", ""))


def test_a_hundred_million_seeds_are_refused_at_once(budget_dataset, tmp_path):
    with pytest.raises(UserError, match="num_seeds=100000000 does not fit") as refusal:
        offjax.train(
            offjax.recipe("bc", preset="demo"), budget_dataset, 10**8,
            runs_dir=str(tmp_path),
        )  # fmt: skip
    assert 1_000 < fitting(refusal.value) < 10**8
    assert not list(tmp_path.iterdir())


def test_what_fits_by_the_message_is_accepted():
    slot = memory.host_bytes() // 32  # of which seven copies are kept: four seeds fit
    need = Need("critic", slot, data=1_000)
    with pytest.raises(UserError, match="stage critic needs about") as refusal:
        memory.require(need, choose_layout(15, "map"), num_seeds=15)
    assert fitting(refusal.value) == 4
    memory.require(need, choose_layout(4, "map"), num_seeds=4)
    with pytest.raises(UserError, match="num_seeds=3 × 2 settings does not fit"):
        memory.require(need, choose_layout(6, "map"), num_seeds=3)


def test_waves_that_fit_by_the_message_are_accepted():
    slot = memory.host_bytes() // 32
    need = Need("critic", slot, data=1_000)
    with pytest.raises(UserError, match="--seeds_at_once=1 "):
        memory.require(need, choose_layout(9, "map"), num_seeds=9)
    memory.require(need, choose_layout(1, "map"), num_seeds=1, all_seeds=9)
    with pytest.raises(UserError, match="for the states of all 9"):
        memory.require(need, choose_layout(3, "map"), num_seeds=3, all_seeds=9)


def test_data_that_do_not_fit_are_told_apart():
    need = Need("bc", 1_000, data=2 * memory.host_bytes())
    with pytest.raises(UserError, match="Not one seed fits"):
        memory.require(need, choose_layout(1, "map"), num_seeds=1)


def test_sizes_are_those_of_the_arrays():
    tree = {"a": np.zeros((3, 5), np.float32), "b": (np.zeros(7, np.uint8),)}
    assert memory.size(tree) == 3 * 5 * 4 + 7
