"""Ids of this project's datasets: strict parsing, one name each, stable identity."""

import hashlib
import json

import numpy as np
import pytest

from offjax.behavior import policies
from offjax.catalog import collected
from offjax.catalog.collected import AntMaze, Budget, Maze2D, Play, parse
from offjax.errors import UserError


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("offjax/budget/t50-smooth-v0", Budget(50, "smooth", 0, 1.5, 0.0)),
        (
            "offjax/budget/t50-smooth-i3-k1.0-n0.1-v0",
            Budget(50, "smooth", 3, 1.0, 0.1),
        ),
        (
            "offjax/budget/t20-mixed-r100-n0.5-v0",
            Budget(20, "mixed", noise=0.5, instances=100),
        ),
        ("offjax/budget/t200-under-n0.5-v0", Budget(200, "under", 0, 1.5, 0.5)),
        ("offjax/maze2d/umaze-v0", Maze2D("umaze")),
        ("offjax/maze2d/large-dense-v0", Maze2D("large", dense=True)),
        ("offjax/antmaze/large-play-v0", AntMaze("large-play")),
        ("offjax/scene/play-v0", Play("scene")),
    ],
)
def test_ids_are_parsed_and_spelled(name, entry):
    assert parse(name) == entry
    assert entry.name == name


def test_every_listed_id_is_parsed_to_itself():
    names = collected.ids()
    robots = 3 * 5 + 4 + 5 * len(policies.packaged(1))  # random data need no policy
    assert len(names) == len(set(names)) == 5 * 6 + 3 * 2 + 6 + robots + 2 * 3
    assert [parse(name).name for name in names] == names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("offjax/budget/t50-smooth", "-v0"),
        ("offjax/budget/t50-smooth-v1", "version 1"),
        ("offjax/budget/t50-smoth-v0", "offjax/budget/t50-smooth-v0"),
        ("offjax/budget/t50-i1-v0", "spelled"),
        ("offjax/budget/t60-smooth-v0", "T = 60"),
        ("offjax/budget/t50-smooth-i0-v0", "one spelling only"),
        ("offjax/budget/t50-smooth-k1-v0", "offjax/budget/t50-smooth-k1.0-v0"),
        ("offjax/budget/t50-smooth-k1.50-v0", "offjax/budget/t50-smooth-v0"),
        ("offjax/budget/t050-smooth-v0", "one spelling only"),
        ("offjax/budget/t50-smooth-k0.0-v0", "positive"),
        ("offjax/budget/t50-smooth-n0.1-i3-v0", "in this order"),
        ("offjax/budget/t50-smooth-n0.1-r3-v0", "in this order"),
        ("offjax/budget/t50-smooth-r0-v0", "0 instances"),
        ("offjax/budget/t50-smooth-r1-v0", "one spelling"),
        ("offjax/budget/t50-smooth-v0/x", "is not"),
        ("offjax/maze2d/umase-v0", "offjax/maze2d/umaze-v0"),
        ("offjax/maze2d/umaze-dense-dense-v0", "names no maze"),
        ("offjax/maze2d/umaze-densest-v0", "names no maze"),
        ("offjax/hopper/medum-v0", "offjax/hopper/medium-v0"),
        ("offjax/ant/medium-v0", "version 0, which has no ant"),
        ("offjax/hopper/full-replay-v0", "names no behavior"),
        ("offjax/hopper/medium-v2", "there is only v0 and v1"),
        ("offjax/antmaze/large-v0", "large-play"),
        ("offjax/antmaze/large-play-v1", "there is only v0"),
        ("offjax/chess/e4-v0", "is not"),
        ("offjax/scene/work-v0", "is not offjax/scene/play-v0"),
        ("budget/t50-smooth-v0", "Did you mean offjax/budget/t50-smooth-v0"),
    ],
)
def test_bad_ids_are_explained(name, words):
    with pytest.raises(UserError) as error:
        parse(name)
    assert words in str(error.value) and name in str(error.value)


def test_identity_is_the_hash_of_the_specification():
    entry = Budget(10, "smooth")
    made_from = collected.specification(entry, None, 3)
    text = (
        '{"generator_version": 0, "id": "offjax/budget/t10-smooth-v0", '
        '"num_episodes": 2000, "seed": 3}'
    )
    assert json.loads(text) == made_from
    assert collected.identity(made_from) == hashlib.sha256(text.encode()).hexdigest()


def test_default_sizes():
    specification = collected.specification
    assert specification(Budget(50, "random"), None, 0)["num_episodes"] == 2000
    assert specification(Budget(100, "random"), None, 0)["num_episodes"] == 10_000
    maze = specification(Maze2D("umaze"), None, 0)
    assert maze["num_transitions"] == 1_000_000
    sizes = {
        name: specification(parse(f"offjax/{name}"), None, 0)["num_transitions"]
        for name in ("hopper/random-v0", "ant/random-v1")
    }
    assert list(sizes.values()) == [200_000, 1_000_000]
    assert parse("offjax/hopper/medium-expert-v1").size[1] == 2_000_000
    with pytest.raises(UserError, match="--num_transitions=0"):
        specification(Maze2D("umaze"), 0, 0)


def test_budget_episodes_become_rows():
    from offjax.behavior import budget

    entry = Budget(10, "medium", 2, 3.0)
    dataset = collected.generate(entry, 5, seed=4)
    data = budget.generate(10, "medium", 2, 3.0, num_episodes=5, seed=4)
    assert dataset.card.episodes == 5 and dataset.card.terminals == 5
    np.testing.assert_array_equal(dataset.episode_lengths, [10] * 5)
    for episode in range(5):
        rows = slice(10 * episode, 10 * episode + 10)
        observations = data["observations"][episode]
        np.testing.assert_array_equal(dataset.observations[rows], observations[:-1])
        np.testing.assert_array_equal(dataset.next_observations[rows], observations[1:])
        np.testing.assert_array_equal(dataset.actions[rows], data["actions"][episode])
        np.testing.assert_array_equal(dataset.rewards[rows], data["rewards"][episode])
    assert dataset.spec.horizon == 10 and dataset.card.id == entry.name


def test_maze_rows_are_those_of_the_controller():
    from offjax.behavior import waypoint

    dataset = collected.generate(Maze2D("umaze", dense=True), 500, seed=1)
    data = waypoint.generate("umaze", 500, 0.5, seed=1, dense=True)
    for key in ("observations", "actions", "rewards", "timeouts", "next_observations"):
        np.testing.assert_array_equal(getattr(dataset, key), data[key])
    assert dataset.spec.ref_min_score == 68.537689  # D4RL's umaze-dense
