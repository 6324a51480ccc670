"""CALVIN's chains against the published list's counts, and metrics by hand."""

import collections
import json

import numpy as np
import pytest

from offjax.envs import calvin_table
from offjax.errors import UserError
from offjax.evaluation import chains

# How often each task comes first in the benchmark's published 1000 chains.
FIRST = {
    "open_drawer": 115,
    "move_slider_right": 87,
    "move_slider_left": 64,
    "turn_on_led": 56,
    "turn_off_led": 54,
    "turn_on_lightbulb": 41,
    "close_drawer": 41,
    "push_blue_block_left": 35,
    "push_red_block_left": 35,
    "turn_off_lightbulb": 34,
    "rotate_pink_block_right": 31,
    "push_pink_block_left": 31,
    "lift_blue_block_slider": 30,
    "push_pink_block_right": 29,
    "push_red_block_right": 29,
    "rotate_red_block_right": 29,
    "rotate_blue_block_right": 28,
    "lift_red_block_slider": 26,
    "lift_pink_block_slider": 25,
    "lift_pink_block_table": 25,
    "rotate_blue_block_left": 24,
    "lift_red_block_table": 24,
    "lift_blue_block_table": 24,
    "push_blue_block_right": 23,
    "rotate_pink_block_left": 23,
    "rotate_red_block_left": 22,
    "push_into_drawer": 15,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("OFFJAX_CACHE", str(tmp_path))


@pytest.mark.long
def test_published_chains(cache):
    drawn = chains.generate(1000)
    first = collections.Counter(chain[0] for _, chain in drawn)
    assert first == FIRST
    everywhere = collections.Counter(task for _, chain in drawn for task in chain)
    assert everywhere["place_in_slider"] == max(everywhere.values()) == 398
    assert everywhere["lift_pink_block_drawer"] == min(everywhere.values()) == 17
    shares = collections.Counter(str(state) for state, _ in drawn)
    assert sorted(shares.values()) == [5] * 152 + [6] * 40

    assert {chain for _, chain in drawn} > PUBLISHED


PUBLISHED = {
    ("turn_on_led", "push_pink_block_left", "lift_pink_block_table", "stack_block",
     "move_slider_left"),
    ("push_red_block_left", "open_drawer", "lift_pink_block_slider", "place_in_drawer",
     "lift_red_block_table"),
}  # fmt: skip
"""Two of the published chains, each the first from its initial state."""


def test_few_chains_are_the_same_again(cache, tmp_path):
    drawn = chains.generate(7, cached=False)
    assert len(drawn) == 7 and {chain for _, chain in drawn} > PUBLISHED
    assert drawn == chains.generate(7) == chains.generate(7)
    (kept,) = tmp_path.rglob("calvin-7.json")
    kept.write_text(json.dumps(drawn[:2]))
    assert chains.generate(7) == drawn[:2]  # is read, not drawn again
    with pytest.raises(UserError, match="1 or more"):
        chains.generate(0)


def test_tasks_and_states():
    assert len(chains.tasks()) == 34
    assert list(chains.tasks())[:2] == [
        "rotate_red_block_right",
        "rotate_red_block_left",
    ]
    states = chains.initial_states()
    assert len(states) == 192
    assert states[0] == {
        "led": 0,
        "lightbulb": 0,
        "slider": "right",
        "drawer": "closed",
        "red_block": "table",
        "blue_block": "table",
        "pink_block": "slider_right",
        "grasped": 0,
    }


def test_effects():
    state = chains.initial_states()[0]
    held = {**state, "red_block": "grasped", "grasped": 1}
    assert chains.effects("lift_red_block_table", state) == [held]
    assert chains.effects("lift_pink_block_slider", state) == []  # behind the door
    stacked = {
        **state,
        "red_block": "stacked_top",
        "blue_block": "stacked_bottom",
    }
    assert chains.effects("stack_block", held) == [stacked]
    assert len(chains.effects("stack_block", {**held, "pink_block": "table"})) == 2
    assert chains.effects("unstack_block", stacked) == [state]
    assert chains.effects("turn_on_led", held) == []  # the hand is not free
    placed = {**state, "red_block": "slider_right"}
    assert chains.effects("place_in_slider", held) == [placed]
    assert chains.effects("open_drawer", state) == [{**state, "drawer": "open"}]
    alone = {**placed, "pink_block": "slider_left", "drawer": "open"}
    assert chains.effects("push_into_drawer", alone) == [
        {**alone, "blue_block": "drawer"}
    ]
    with pytest.raises(UserError, match="no task 'dance'"):
        chains.effects("dance", state)


def test_hash():
    assert calvin_table.fnv1(b"hello world") == 2805756500
    words = (
        "dict_values([1, 1, 'left', 'open', 'slider_left', 'table', 'slider_right', 0])"
    )
    assert calvin_table.fnv1(words.encode()) == 47886304


def test_initial_vectors():
    values = (1, 1, "left", "open", "slider_left", "table", "slider_right", 0)
    state = dict(zip((*calvin_table.KEYS, "grasped"), values, strict=True))
    robot, scene = calvin_table.initial_vectors(state)
    assert robot.shape == (15,) and robot[-1] == 1
    np.testing.assert_allclose(scene[:6], [0.28, 0.22, 0, 0.088, 1, 1])
    np.testing.assert_allclose(
        scene[[11, 17, 23]], [1.334546, 1.810456, 1.331048], 1e-5
    )
    np.testing.assert_allclose(scene[12:15], [0.05, -0.12, 0.46], atol=1e-4)
    np.testing.assert_allclose(scene[6:8], [-0.240852, 0.092404], 1e-5)
    values = (0, 0, "right", "closed", "table", "table", "slider_left", 0)
    state = dict(zip((*calvin_table.KEYS, "grasped"), values, strict=True))
    _, scene = calvin_table.initial_vectors(state)
    np.testing.assert_allclose(
        scene[[11, 17, 23]], [1.477891, 1.255140, 1.207018], 1e-5
    )
    np.testing.assert_allclose(scene[[6, 12]], [0.05, 0.23], atol=1e-4)  # slots A, B


def test_metrics_by_hand():
    solved = np.array([[5, 0, 2, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(
        chains.success_rates(solved), [[0.75, 0.5, 0.25, 0.25, 0.25], [0] * 5]
    )
    np.testing.assert_allclose(chains.average_length(solved), [2, 0])
    rates = chains.success_rates(solved).sum(axis=-1)
    np.testing.assert_allclose(rates, chains.average_length(solved))
    counts = chains.per_task(["ab", "ba", "ab"], [2, 0, 1])
    assert counts == {"a": (2, 2), "b": (1, 3)}


def test_single_task():
    state = chains.initial_states()[0]
    given = [(state, ("a", "b")), (state, ("b", "a")), (state, ("c", "b"))]
    found = chains.single_task(given, "b", count=3)
    assert [chain for _, chain in found] == [("b",), ("a", "b"), ("c", "b")]
    assert set(chains.HELD_OUT) <= set(chains.tasks())
    with pytest.raises(UserError, match="1 hold 'c'"):
        chains.single_task(given, "c", count=2)
